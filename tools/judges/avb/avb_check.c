/* avb_check VBMETA KEY: does libavb accept the image, signed by this key (an
 * AvbRSAPublicKey)? It walks the descriptors too, as a boot loader does. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libavb.h"

int avb_memcmp(const void *a, const void *b, size_t n) { return memcmp(a, b, n); }
int avb_strcmp(const char *a, const char *b) { return strcmp(a, b); }
int avb_strncmp(const char *a, const char *b, size_t n) { return strncmp(a, b, n); }
void *avb_memcpy(void *d, const void *s, size_t n) { return memcpy(d, s, n); }
void *avb_memset(void *d, const int c, size_t n) { return memset(d, c, n); }
void avb_print(const char *m) { fputs(m, stderr); }
void avb_abort(void) { abort(); }
void *avb_malloc_(size_t n) { return malloc(n); }
void avb_free(void *p) { free(p); }
size_t avb_strlen(const char *s) { return strlen(s); }

void avb_printv(const char *m, ...) {
	va_list ap;
	va_start(ap, m);
	for (; m; m = va_arg(ap, const char *))
		fputs(m, stderr);
	va_end(ap);
}

uint32_t avb_div_by_10(uint64_t *v) {
	uint32_t rest = *v % 10;
	*v /= 10;
	return rest;
}

static uint8_t *slurp(const char *name, size_t *n) {
	FILE *f = fopen(name, "rb");
	uint8_t *b = malloc(1 << 24);
	if (!f || !b) {
		perror(name);
		exit(2);
	}
	*n = fread(b, 1, 1 << 24, f);
	fclose(f);
	return b;
}

static bool count(const AvbDescriptor *d, void *n) {
	AvbDescriptor head;
	if (!avb_descriptor_validate_and_byteswap(d, &head))
		return false;
	++*(int *)n;
	return true;
}

int main(int argc, char **argv) {
	size_t size, want_size, key_size;
	const uint8_t *key;
	int n = 0;
	if (argc != 3)
		return 2;
	uint8_t *b = slurp(argv[1], &size), *want = slurp(argv[2], &want_size);
	AvbVBMetaVerifyResult r = avb_vbmeta_image_verify(b, size, &key, &key_size);
	if (r != AVB_VBMETA_VERIFY_RESULT_OK) {
		fprintf(stderr, "%s\n", avb_vbmeta_verify_result_to_string(r));
		return 1;
	}
	if (key_size != want_size || memcmp(key, want, key_size)) {
		fprintf(stderr, "another key\n");
		return 1;
	}
	if (!avb_descriptor_foreach(b, size, count, &n)) {
		fprintf(stderr, "descriptors\n");
		return 1;
	}
	printf("OK, %d descriptors\n", n);
	return 0;
}
