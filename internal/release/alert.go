package release

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
)

// risks are libraries, functions and permissions that are worth a look when they are
// new, with what they are for. Names are compared in lower case and without their ending.
var risks = map[string]struct {
	severity Severity
	why      string
}{
	"ws2_32": {Medium, "network: sockets"}, "wsock32": {Medium, "network: sockets"}, "winhttp": {Medium, "network: HTTP"}, "wininet": {Medium, "network: HTTP"},
	"urlmon": {Medium, "network: downloads"}, "dnsapi": {Medium, "network: names"}, "iphlpapi": {Low, "network: interfaces"}, "httpapi": {Medium, "network: an HTTP server"},
	"mswsock": {Medium, "network: sockets"}, "libcurl": {Medium, "network: HTTP"}, "webio": {Medium, "network: HTTP"}, "cfnetwork": {Medium, "network"}, "network": {Medium, "network"},
	"bcrypt": {Medium, "cryptography"}, "ncrypt": {Medium, "cryptography: keys"}, "crypt32": {Medium, "cryptography: certificates"}, "cryptsp": {Medium, "cryptography"},
	"libcrypto": {Medium, "cryptography"}, "libssl": {Medium, "network and cryptography"}, "security": {Low, "cryptography and key chains"},
	"wbemuuid": {Low, "management of the machine"}, "netapi32": {Medium, "accounts and shares of the network"}, "samlib": {High, "accounts' secrets"}, "vaultcli": {High, "stored secrets"},
	"dbghelp": {Medium, "memory of processes"}, "fltlib": {Medium, "file system filters"}, "wtsapi32": {Low, "sessions of others"},
	"createremotethread": {High, "runs code in another process"}, "createremotethreadex": {High, "runs code in another process"}, "writeprocessmemory": {High, "writes into another process"},
	"readprocessmemory": {Medium, "reads another process"}, "virtualallocex": {High, "memory in another process"}, "virtualprotectex": {High, "memory of another process"},
	"queueuserapc": {High, "runs code in another thread"}, "setthreadcontext": {High, "steers another thread"}, "ntcreatethreadex": {High, "runs code in another process"},
	"ntmapviewofsection": {High, "memory in another process"}, "zwmapviewofsection": {Medium, "maps memory"}, "ntunmapviewofsection": {High, "replaces another process's code"},
	"zwunmapviewofsection": {Medium, "unmaps memory"}, "rtlcreateuserthread": {High, "runs code in another process"}, "openprocess": {Medium, "opens other processes"}, "ntopenprocess": {Medium, "opens other processes"},
	"setwindowshookexa": {High, "sees keys and messages of others"}, "setwindowshookexw": {High, "sees keys and messages of others"}, "getasynckeystate": {Medium, "sees keys"},
	"adjusttokenprivileges": {Medium, "takes privileges"}, "openprocesstoken": {Low, "reads tokens"}, "duplicatetokenex": {Medium, "takes tokens"}, "impersonateloggedonuser": {Medium, "acts as another user"},
	"createprocessa": {Low, "starts programs"}, "createprocessw": {Low, "starts programs"}, "createprocessasusera": {Medium, "starts programs as another user"}, "createprocessasuserw": {Medium, "starts programs as another user"},
	"createprocesswithtokenw": {Medium, "starts programs as another user"}, "winexec": {Medium, "starts programs"}, "shellexecutea": {Low, "starts programs"}, "shellexecutew": {Low, "starts programs"},
	"shellexecuteexa": {Low, "starts programs"}, "shellexecuteexw": {Low, "starts programs"}, "system": {Medium, "runs commands"}, "_wsystem": {Medium, "runs commands"},
	"urldownloadtofilea": {High, "downloads files"}, "urldownloadtofilew": {High, "downloads files"}, "internetopena": {Medium, "network: HTTP"}, "internetopenw": {Medium, "network: HTTP"},
	"winhttpopen": {Medium, "network: HTTP"}, "wsastartup": {Medium, "network: sockets"}, "cryptencrypt": {Medium, "encrypts"}, "cryptdecrypt": {Low, "decrypts"}, "bcryptencrypt": {Medium, "encrypts"},
	"bcryptdecrypt": {Low, "decrypts"}, "cryptunprotectdata": {High, "reads the user's secrets"}, "createservicea": {Medium, "installs services"}, "createservicew": {Medium, "installs services"},
	"ntloaddriver": {High, "loads drivers"}, "minidumpwritedump": {High, "copies the memory of processes"}, "lsaretrieveprivatedata": {High, "reads the machine's secrets"}, "samconnect": {High, "reads accounts"},
	"isdebuggerpresent": {Low, "looks for debuggers"},
}

// grave are permissions, capabilities and entitlements beyond the ordinary.
var grave = map[string]string{
	"android.permission.request_install_packages": "installs packages", "android.permission.install_packages": "installs packages", "android.permission.send_sms": "sends messages",
	"android.permission.read_sms": "reads messages", "android.permission.receive_sms": "reads messages", "android.permission.bind_accessibility_service": "sees and does what the user does",
	"android.permission.system_alert_window": "draws over others", "android.permission.record_audio": "listens", "android.permission.camera": "sees", "android.permission.access_fine_location": "follows the user",
	"android.permission.access_background_location": "follows the user", "android.permission.query_all_packages": "knows all applications", "android.permission.manage_external_storage": "reads all files",
	"android.permission.bind_device_admin": "governs the device", "android.permission.read_contacts": "reads contacts", "android.permission.read_call_log": "reads calls", "android.permission.write_secure_settings": "changes settings",
	"runfulltrust": "runs outside of the sandbox", "broadfilesystemaccess": "reads all files", "allowelevation": "becomes administrator", "localsystemservices": "runs as the system", "packagemanagement": "installs packages",
	"com.apple.security.cs.disable-library-validation": "loads code of others", "com.apple.security.cs.allow-unsigned-executable-memory": "runs code that is not signed", "com.apple.security.cs.allow-jit": "makes code as it runs",
	"com.apple.security.cs.disable-executable-page-protection": "changes its own code", "com.apple.security.cs.allow-dyld-environment-variables": "loads code that the environment names",
	"com.apple.security.get-task-allow": "lets debuggers in", "get-task-allow": "lets debuggers in", "com.apple.security.cs.debugger": "debugs others", "com.apple.security.device.audio-input": "listens", "com.apple.security.device.camera": "sees",
	"com.apple.private.security.storage.appdatacontainers": "reads others' files", "platform-application": "runs as a part of the system",
	"com.apple.security.app-sandbox": "the sandbox",
}

// short is a library's or function's name as risks has it.
func short(s string) string {
	s = strings.ToLower(s)
	if _, after, ok := strings.Cut(s, "!"); ok {
		s = after
	}
	s = path.Base(strings.ReplaceAll(s, `\`, "/"))
	for _, end := range []string{".dll", ".drv", ".framework", ".dylib"} {
		s = strings.TrimSuffix(s, end)
	}
	if i := strings.IndexByte(s, '.'); i > 0 && !strings.Contains(s, "permission") { // libcurl.4
		s = s[:i]
	}
	return s
}

// judge says what of the difference between two versions of a file is worth a look: p is
// by how many per cent it grew, all are its changes, none left out.
func judge(old, now *server.FileView, p int, all []Change) []Alert {
	var out []Alert
	say := func(s Severity, code, text string, args ...any) {
		out = append(out, Alert{s, code, now.Name, now.Index, fmt.Sprintf(text, args...)})
	}
	if old.Format != now.Format {
		say(High, "format-changed", "the kind of file changed from %s to %s", old.Format, now.Format)
	}
	a, hadVersion := VersionOf(old)
	b, hasVersion := VersionOf(now)
	switch {
	case hadVersion && hasVersion:
		switch c := Compare(a, b); {
		case c > 0:
			say(High, "version-down", "the version went down: %s before, %s now", a.Text, b.Text)
		case c == 0 && old.Content != now.Content:
			say(Medium, "version-same", "the content changed and the version did not: %s", b.Text)
		}
	case hadVersion:
		say(Medium, "version-gone", "it no longer says a version: %s before", a.Text)
	}
	if p >= 50 || p <= -50 {
		say(Low, "size", "the size changed by %+d %%: %d bytes before, %d now", p, old.Size, now.Size)
	}
	if old.Format != now.Format {
		return out
	}
	return append(out, judgeChanges(all, now)...)
}

// judgeNew says what is worth a look of a file that the last release did not have: a
// program that is called otherwise is no way around what would be said of its imports.
func judgeNew(now *server.FileView) []Alert {
	var all []Change
	for _, c := range factChanges(nil, now.Facts) {
		switch c.Group {
		case groupImports, groupPermissions, groupScripts, groupEntries:
			all = append(all, c)
		}
	}
	out := judgeChanges(all, now)
	return append(out, Alert{Low, "new-file", now.Name, now.Index, "the release that this is compared with has no such file"})
}

// maxAlike is how many alerts of one code a file has, the gravest; the rest is counted.
const maxAlike = 20

// judgeChanges judges all changes before it leaves any out: a list begins with what its
// author likes it to begin with.
func judgeChanges(all []Change, now *server.FileView) (out []Alert) {
	var found []Alert
	for i := range all {
		found = append(found, judgeChange(&all[i], now)...)
	}
	order(found)
	seen := map[string]int{}
	for _, a := range found {
		seen[a.Code]++
	}
	left := map[string]int{}
	for _, a := range found {
		switch n := left[a.Code]; {
		case n < maxAlike-1 || n < maxAlike && seen[a.Code] == maxAlike:
			out = append(out, a)
		case n == maxAlike-1:
			a.Text = fmt.Sprintf("and %d more of this kind", seen[a.Code]-n)
			out = append(out, a)
		}
		left[a.Code]++
	}
	return out
}

// judgeList judges the fact that sums up a list which does not stand whole. What is
// behind its end is seen by nobody: whoever wants to hide a line has many others sort
// before it.
func judgeList(one func(Severity, string, string, ...any) []Alert, c *Change) []Alert {
	if c.Kind == Removed {
		return nil
	}
	name := strings.ReplaceAll(strings.TrimSuffix(c.Name, format.ListSuffix), "-", " ")
	s := Low
	switch c.Group {
	case groupImports, groupPermissions, groupScripts, groupHardening, groupSigners:
		s = Medium
	}
	if c.Kind == Added {
		return one(s, "list-cut", "there are too many of %s to list, which was not so before: what is behind the first ones is not compared (%s)", name, c.New)
	}
	return one(s, "list-cut", "of %s not all are listed, and the whole differs: look at the file itself (%s before, %s now)", name, c.Old, c.New)
}

func judgeChange(c *Change, now *server.FileView) []Alert {
	one := func(s Severity, code, text string, args ...any) []Alert {
		return []Alert{{s, code, now.Name, now.Index, fmt.Sprintf(text, args...)}}
	}
	if strings.HasSuffix(c.Name, format.ListSuffix) {
		return judgeList(one, c)
	}
	what := func() string {
		if c.Old == "" {
			return c.New
		}
		return c.Old + " → " + orNone(c.New)
	}
	if alerts, done := judgeImage(c, now, one); done {
		return alerts
	}
	switch c.Name {
	case "company-name", "manufacturer", "publisher", "vendor", "team", "maintainer", "packager", "authors", "author":
		if c.Kind != Added {
			return one(High, "publisher-changed", "%s: %s", c.Name, what())
		}
	case "product-name", "package", "identifier", "id", "upgrade-code", "bundle", "name", "title":
		if c.Kind != Added && Fold(c.Old) != Fold(c.New) {
			return one(High, "product-changed", "%s: %s", c.Name, what())
		}
	case "original-filename", "exported-name", "install-name":
		if c.Kind == Changed && Fold(c.Old) != Fold(c.New) {
			return one(Medium, "product-changed", "%s: %s", c.Name, what())
		}
	case "machine", "arch", "architecture", "template", "subsystem":
		return one(High, "architecture-changed", "%s: %s", c.Name, what())
	case "signer", "replaces signature of":
		if c.Kind != Added {
			return one(High, "signer-gone", "a signature of another is no longer in it: %s", c.Old)
		}
	case "hardening":
		if c.Kind == Removed {
			return one(High, "hardening-lost", "it is no longer built with %s", c.Old)
		}
		if c.Kind == Changed {
			return one(High, "hardening-lost", "it is no longer built with %s", c.Old)
		}
	case "flags":
		if strings.Contains(c.Old, "runtime") && !strings.Contains(c.New, "runtime") {
			return one(High, "hardening-lost", "the hardened runtime is off")
		}
	case "debuggable", "test-only":
		if c.Kind != Removed {
			return nil // of the warnings
		}
	case "permission", "capability", "capabilities", "full-trust", "exported", "shared-user", "permissions":
		if c.Kind != Removed {
			return permission(one, c)
		}
	case "custom-action", "script", "trigger", "service", "agent", "launcher-agent", "extension", "service-provider":
		switch c.Kind {
		case Added:
			return one(High, "new-script", "new %s: %s", strings.ReplaceAll(c.Name, "-", " "), c.New)
		case Changed:
			return one(Medium, "script-changed", "%s changed: %s", strings.ReplaceAll(c.Name, "-", " "), what())
		}
	case "import", "delay-import", "function", "library", "weak-library":
		if c.Kind == Removed {
			return nil
		}
		if r, ok := risks[short(c.New)]; ok {
			return one(r.severity, "new-import", "new %s %s: %s", strings.ReplaceAll(c.Name, "-", " "), c.New, r.why)
		}
	case "search-path":
		if c.Kind != Removed {
			return one(Medium, "new-import", "new search path for libraries: %s", c.New)
		}
	case "epoch":
		if c.Kind == Changed && dotted(c.Old, c.New) > 0 {
			return one(High, "version-down", "%s went down: %s", c.Name, what())
		}
	case "target-sdk":
		if c.Kind == Changed && dotted(c.Old, c.New) > 0 {
			return one(Medium, "version-down", "%s went down, and protections with it: %s", c.Name, what())
		}
	case "load-address":
		return one(Medium, "load-address", "the load address changed: %s", what())
	case "native":
		if c.Kind == Added {
			return one(Medium, "new-native", "new native code: %s", c.New)
		}
	case format.FactUnsaid:
		if c.Kind != Removed {
			return one(Medium, "list-cut", "it says more than is listed, which is not compared (%s)", c.New)
		}
	case "overlay":
		if c.Kind == Added {
			return one(Medium, "new-overlay", "there is something behind the last section: %s", c.New)
		}
	}
	if i := strings.Index(c.Name, "entitlement "); i >= 0 && c.Kind != Removed {
		e := &Change{c.Group, c.Kind, c.Name, c.Old, c.Name[i+len("entitlement "):]}
		if c.New != "true" {
			e.New += " = " + c.New
		}
		return permission(one, e)
	}
	if strings.HasSuffix(c.Name, "entitlement com.apple.security.app-sandbox") && c.Kind == Removed {
		return one(High, "hardening-lost", "the sandbox is off")
	}
	return nil
}

func permission(one func(Severity, string, string, ...any) []Alert, c *Change) []Alert {
	name, _, _ := strings.Cut(c.New, " = ")
	word := strings.ReplaceAll(c.Name, "-", " ")
	if strings.Contains(word, "entitlement ") {
		word = "entitlement"
	}
	if why, ok := grave[strings.ToLower(name)]; ok && name != "com.apple.security.app-sandbox" {
		return one(High, "new-permission", "new %s %s: %s", word, c.New, why)
	}
	if s := strings.ToLower(name); strings.Contains(s, "internet") || strings.Contains(s, "network") {
		return one(Medium, "new-permission", "new %s %s: network", word, c.New)
	}
	return one(Medium, "new-permission", "new %s %s", word, c.New)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Warnings are what a file says that is worth a look whatever was before.
func Warnings(f *server.FileView) (out []Alert) {
	say := func(s Severity, code, text string, args ...any) {
		out = append(out, Alert{s, code, f.Name, f.Index, fmt.Sprintf(text, args...)})
	}
	var lacks []string
	setuid := 0
	for i := range f.Facts {
		x := &f.Facts[i]
		imageWarnings(f, x, say)
		switch x.Name {
		case "debuggable":
			say(High, "debug-build", "it is a debug build: anybody with the device can read what it keeps")
		case "test-only":
			say(High, "debug-build", "it is built for tests only")
		case "cleartext-traffic":
			say(Low, "cleartext", "it allows traffic that is not encrypted")
		case "lacks":
			lacks = append(lacks, x.Value)
		case "setuid":
			if setuid++; setuid <= maxAlike {
				say(Medium, "setuid", "a file that runs as another user: %s", x.Value)
			}
		case "capabilities":
			say(Medium, "setuid", "a file with privileges: %s", x.Value)
		case "full-trust":
			say(Low, "full-trust", "%s runs outside of the sandbox", x.Value)
		case "entitlement get-task-allow", "entitlement com.apple.security.get-task-allow":
			if x.Value == "true" {
				say(High, "debug-build", "it lets debuggers in: a build for development")
			}
		case "not-read":
			say(High, "not-read", "nobody here can read %s", x.Value)
		case "overlay":
			if f.Format == "pe" {
				say(Low, "overlay", "%s", x.Value)
			}
		}
	}
	if hard := slices.DeleteFunc(lacks, func(s string) bool { return s != "ASLR" && s != "DEP" && s != "CFG" && s != "SafeSEH" }); len(hard) > 0 {
		s := Low
		if slices.Contains(hard, "ASLR") || slices.Contains(hard, "DEP") {
			s = Medium
		}
		say(s, "no-hardening", "it is built without %s", strings.Join(hard, ", "))
	}
	if f.Format == "kmod" && fact(f, "license") == "" {
		say(Low, "no-license", "the module names no license")
	}
	return out
}

// fresh are the warnings that the file before did not have.
func fresh(old *server.FileView, now []Alert) []Alert {
	was := map[string]bool{}
	for _, a := range Warnings(old) {
		was[a.Code+"\x00"+a.Text] = true
	}
	return slices.DeleteFunc(now, func(a Alert) bool { return was[a.Code+"\x00"+a.Text] })
}
