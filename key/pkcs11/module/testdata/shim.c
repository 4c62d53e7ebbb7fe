// A PKCS #11 library that is the one in $SHIM_REAL, until a file appears in
// $SHIM_FAULTS: then it does what the file's name says, once. Calls of C_Login
// are counted in $SHIM_FAULTS/logins, a byte each.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv;
// CK_FUNCTION_LIST of PKCS #11 v2.40: the version, then 68 functions.
typedef struct { unsigned char version[8]; void *f[68]; } list;
enum { INITIALIZE = 0, CLOSE_ALL = 14, LOGIN = 18, LOGOUT = 19, SIGN_INIT = 42, SIGN = 43 };

static list *real, mine;

static int fault(const char *name) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", getenv("SHIM_FAULTS"), name);
	return unlink(path) == 0;
}

static rv initialize(void *args) {
	puts("a library that writes to standard output"); // must not break the protocol
	fflush(stdout);
	if (fault("hang-initialize")) for (;;) pause();
	return ((rv (*)(void *))real->f[INITIALIZE])(args);
}

static rv login(rv session, rv user, unsigned char *pin, rv len) {
	char path[4096];
	snprintf(path, sizeof path, "%s/logins", getenv("SHIM_FAULTS"));
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (write(fd, "x", 1) != 1) abort();
	close(fd);
	return ((rv (*)(rv, rv, unsigned char *, rv))real->f[LOGIN])(session, user, pin, len);
}

static rv sign_init(rv session, void *mechanism, rv key) {
	if (fault("logout")) ((rv (*)(rv))real->f[LOGOUT])(session);
	if (fault("close-session")) return 0xB3; // CKR_SESSION_HANDLE_INVALID
	if (fault("close-all")) {
		rv info[4]; // CK_SESSION_INFO: slotID first
		((rv (*)(rv, void *))real->f[15])(session, info);
		((rv (*)(rv))real->f[CLOSE_ALL])(info[0]);
	}
	if (fault("bad-handle")) return 0x60; // CKR_KEY_HANDLE_INVALID
	if (fault("token-gone")) return 0xE0; // CKR_TOKEN_NOT_PRESENT
	if (fault("device-removed")) return 0x32; // CKR_DEVICE_REMOVED
	if (fault("hang")) for (;;) pause();
	if (fault("crash")) abort();
	if (fault("leave-active")) { // the operation stays active in the session
		((rv (*)(rv, void *, rv))real->f[SIGN_INIT])(session, mechanism, key);
		return 0x5; // CKR_GENERAL_ERROR
	}
	return ((rv (*)(rv, void *, rv))real->f[SIGN_INIT])(session, mechanism, key);
}

rv C_GetFunctionList(list **out) {
	void *h = dlopen(getenv("SHIM_REAL"), RTLD_NOW);
	if (!h) return 0x5;
	rv r = ((rv (*)(list **))dlsym(h, "C_GetFunctionList"))(&real);
	if (r) return r;
	memcpy(&mine, real, sizeof mine);
	mine.f[INITIALIZE] = initialize;
	mine.f[LOGIN] = login;
	mine.f[SIGN_INIT] = sign_init;
	*out = &mine;
	return 0;
}
