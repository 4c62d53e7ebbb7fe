package release

import (
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
)

// weakening are words of a kernel's command line that switch a protection off, or give
// whoever is at the machine more than he should have.
var weakening = []string{
	"init=", "rdinit=", "single", "emergency", "rescue", "systemd.unit=", "systemd.debug-shell", "rd.break", "rd.shell",
	"selinux=0", "enforcing=0", "apparmor=0", "security=none", "lsm=", "lockdown=none", "module.sig_enforce=0", "ima_appraise=off", "ima_appraise=fix", "ima_appraise=log", "evm=fix",
	"nokaslr", "nosmep", "nosmap", "nopti", "pti=off", "mitigations=off", "spectre_v2=off", "mem_encrypt=off", "iommu=off", "intel_iommu=off", "amd_iommu=off", "slub_debug=-", "init_on_alloc=0", "init_on_free=0",
	"dm-mod.create=", "androidboot.verifiedbootstate=orange", "androidboot.veritymode=disabled", "androidboot.veritymode=logging", "androidboot.selinux=permissive", "systemd.verity=no", "roothash=",
}

// loading are variables of the environment that bring code into programs.
var loading = []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS"}

// judgeImage judges the facts of what starts machines and containers: firmware, kernels,
// their parts, images and packages. done says that it is one of its own.
func judgeImage(c *Change, f *server.FileView, one func(Severity, string, string, ...any) []Alert) (alerts []Alert, done bool) {
	arrow := c.New
	if c.Old != "" {
		arrow = c.Old + " → " + orNone(c.New)
	}
	word := strings.ReplaceAll(c.Name, "-", " ")
	if isScript(c.Name) {
		switch c.Kind {
		case Added:
			return one(High, "new-script", "new %s: %s", word, c.New), true
		case Changed:
			return one(Medium, "script-changed", "%s changed: %s", word, arrow), true
		}
		return nil, true
	}
	switch c.Name {
	case "rollback-index", "security-counter":
		switch {
		case c.Kind == Removed:
			return one(High, "version-down", "it no longer says a %s: %s before", c.Name, c.Old), true
		case c.Kind == Changed && dotted(c.Old, c.New) > 0:
			return one(High, "version-down", "%s went down: %s", c.Name, arrow), true
		}
	case "rollback-index-location":
		return one(Medium, "version-down", "the rollback index is kept elsewhere: %s", arrow), true
	case "flags":
		if f.Format != "vbmeta" {
			return nil, false
		}
		for _, s := range []string{"verification disabled", "hash trees disabled"} {
			if strings.Contains(c.New, s) && !strings.Contains(c.Old, s) {
				alerts = append(alerts, one(High, "hardening-lost", "its flags say: %s", s)...)
			}
		}
	case "hash", "hashtree":
		if c.Kind == Removed {
			return one(High, "coverage-lost", "a partition is no longer covered: %s", c.Old), true
		}
	case "chain":
		switch c.Kind {
		case Added:
			return one(Medium, "key-changed", "another key may now sign a partition: %s", c.New), true
		case Changed:
			return one(High, "key-changed", "the key or place of a chained partition changed: %s", arrow), true
		}
		return one(High, "coverage-lost", "a partition is no longer chained: %s", c.Old), true
	case "key-name":
		if c.Kind == Changed {
			return one(Medium, "key-changed", "the name of the key by which it is verified changed: %s", arrow), true
		}
	case "kernel-command-line":
		for _, w := range strings.Fields(c.New) {
			if weak(w) && !strings.Contains(" "+c.Old+" ", " "+w+" ") {
				alerts = append(alerts, one(High, "hardening-lost", "the kernel's command line says %s", w)...)
			}
		}
		if alerts == nil && c.Kind != Removed {
			alerts = one(Medium, "command-line", "the kernel's command line: %s", arrow)
		}
	case "sbat":
		switch {
		case c.Kind == Removed:
			return one(High, "version-down", "it no longer names a component by which it could be revoked: %s", c.Old), true
		case c.Kind == Changed && generation(c.New) < generation(c.Old):
			return one(High, "version-down", "the generation of a component went down: %s", arrow), true
		}
	case "retpoline", "intree":
		if c.Kind != Added {
			return one(High, "hardening-lost", "the module no longer says %s", c.Name), true
		}
	case "license":
		if f.Format == "kmod" && c.Kind != Added {
			return one(Medium, "license-changed", "the license that the kernel looks at: %s", arrow), true
		}
		return nil, false
	case "compatible":
		return one(High, "product-changed", "what it is for: %s", arrow), true
	case "encrypted":
		if c.Kind == Removed {
			return one(Medium, "hardening-lost", "it is no longer encrypted: %s", c.Old), true
		}
	case "format":
		if f.Format == "rauc" && c.New == "plain" {
			return one(High, "hardening-lost", "the bundle is plain: devices read it whole before they know whether it is right"), true
		}
	case "entrypoint", "command":
		return one(High, "entrypoint-changed", "what it runs: %s", arrow), true
	case "user":
		if root(c.New) && !root(c.Old) || c.Kind == Removed {
			return one(High, "new-permission", "it runs as root: %s", arrow), true
		}
	case "environment":
		name, _, _ := strings.Cut(c.New, "=")
		if c.Kind != Removed && slices.Contains(loading, name) {
			return one(High, "new-script", "what it runs loads more: %s", c.New), true
		}
	case "external":
		if c.Kind != Removed {
			return one(High, "coverage-lost", "it brings in what is not in it, which nobody signs here: %s", c.New), true
		}
	case "requires-password":
		if c.Kind == Added {
			return one(Medium, "new-permission", "it is installed %s", c.New), true
		}
	case "device":
		if c.Kind != Removed {
			return one(High, "new-permission", "it brings a device or another special file: %s", c.New), true
		}
	default:
		return nil, false
	}
	return alerts, true
}

// isScript are the facts, beyond those of packages, that name what is run.
func isScript(name string) bool {
	switch name {
	case "hooks", "handler", "starts", "health-check", "on-build":
		return true
	}
	for _, s := range []string{"embedded-script", "preinstallcmd", "postinstallcmd"} {
		if name == s || strings.HasSuffix(name, " "+s) {
			return true
		}
	}
	return false
}

func weak(word string) bool {
	word = strings.Trim(word, `"'`)
	for _, w := range weakening {
		if word == w || strings.HasPrefix(word, w) && (strings.HasSuffix(w, "=") || strings.HasSuffix(w, "-")) {
			return true
		}
	}
	return false
}

// generation is the second field of an entry of SBAT.
func generation(s string) int {
	f := strings.Split(s, ",")
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// root reports a user of a container that is root.
func root(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "root" || strings.Trim(name, "0") == ""
}

// imageWarnings are Warnings of what starts machines and containers.
func imageWarnings(f *server.FileView, x *format.Fact, say func(Severity, string, string, ...any)) {
	switch {
	case f.Format == "vbmeta" && x.Name == "flags":
		say(High, "hardening-lost", "it switches Verified Boot off: %s", x.Value)
	case f.Format == "dmg" && x.Name == "checksum" && strings.Contains(x.Value, "wrong"):
		say(Medium, "damaged", "a checksum is wrong: %s", x.Value)
	case x.Name == "external":
		say(Medium, "external", "it brings in what is not in it, which nobody signs here: %s", x.Value)
	case x.Name == "kernel-command-line":
		for _, w := range strings.Fields(x.Value) {
			if weak(w) && !strings.HasPrefix(w, "init=") && !strings.HasPrefix(w, "dm") && !strings.HasPrefix(w, "lsm=") && !strings.HasPrefix(w, "roothash=") { // which are worth a look when they change
				say(Medium, "no-hardening", "the kernel's command line says %s", w)
			}
		}
	}
}
