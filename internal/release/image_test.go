package release

import (
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
)

// What weakens what starts machines and containers is told, and the way back is not.
func TestWeakenedImages(t *testing.T) {
	type fact = format.Fact
	for name, c := range map[string]struct {
		format   string
		old, now []fact
		severity Severity
		code     string
		part     string
	}{
		"verification disabled":     {"vbmeta", nil, []fact{{Name: "flags", Value: "verification disabled"}}, High, "hardening-lost", "its flags say: verification disabled"},
		"one more flag":             {"vbmeta", []fact{{Name: "flags", Value: "hash trees disabled"}}, []fact{{Name: "flags", Value: "hash trees disabled, verification disabled"}}, High, "hardening-lost", "verification disabled"},
		"rollback index":            {"vbmeta", []fact{{Name: "rollback-index", Value: "10"}}, []fact{{Name: "rollback-index", Value: "9"}}, High, "version-down", "10 → 9"},
		"rollback index elsewhere":  {"vbmeta", []fact{{Name: "rollback-index-location", Value: "0"}}, []fact{{Name: "rollback-index-location", Value: "1"}}, Medium, "version-down", "0 → 1"},
		"partition not covered":     {"vbmeta", []fact{{Name: "hash", Value: "boot: 5 bytes"}, {Name: "hash", Value: "dtbo: 5 bytes"}}, []fact{{Name: "hash", Value: "boot: 5 bytes"}}, High, "coverage-lost", "dtbo"},
		"chained key":               {"vbmeta", []fact{{Name: "chain", Value: "system: key a"}, {Name: "chain", Value: "x: key a"}}, []fact{{Name: "chain", Value: "system: key b"}, {Name: "chain", Value: "x: key a"}}, High, "key-changed", "system: key a → system: key b"},
		"command line":              {"vbmeta", []fact{{Name: "kernel-command-line", Value: "flags 0x0: quiet"}}, []fact{{Name: "kernel-command-line", Value: "flags 0x0: quiet androidboot.selinux=permissive"}}, High, "hardening-lost", "androidboot.selinux=permissive"},
		"command line of an image":  {"pe", []fact{{Name: "kernel-command-line", Value: "quiet"}}, []fact{{Name: "kernel-command-line", Value: "quiet init=/bin/sh"}}, High, "hardening-lost", "init=/bin/sh"},
		"generation":                {"pe", []fact{{Name: "sbat", Value: "sbat,1,a"}, {Name: "sbat", Value: "grub,4,x"}}, []fact{{Name: "sbat", Value: "sbat,1,a"}, {Name: "sbat", Value: "grub,3,x"}}, High, "version-down", "grub,4,x → grub,3,x"},
		"component gone":            {"pe", []fact{{Name: "sbat", Value: "sbat,1,a"}, {Name: "sbat", Value: "grub,4,x"}}, []fact{{Name: "sbat", Value: "sbat,1,a"}}, High, "version-down", "grub,4,x"},
		"security counter":          {"mcuboot", []fact{{Name: "security-counter", Value: "100"}}, []fact{{Name: "security-counter", Value: "99"}}, High, "version-down", "100 → 99"},
		"security counter gone":     {"mcuboot", []fact{{Name: "security-counter", Value: "100"}}, nil, High, "version-down", "no longer says"},
		"load address":              {"fit", []fact{{Name: "load-address", Value: "k: load 0x1"}}, []fact{{Name: "load-address", Value: "k: load 0x2"}}, Medium, "load-address", "0x1 → k: load 0x2"},
		"key's name":                {"fit", []fact{{Name: "key-name", Value: "c: dev"}}, []fact{{Name: "key-name", Value: "c: test"}}, Medium, "key-changed", "dev → c: test"},
		"hook":                      {"rauc", nil, []fact{{Name: "hooks", Value: "filename=hook.sh"}}, High, "new-script", "hook.sh"},
		"plain bundle":              {"rauc", []fact{{Name: "format", Value: "verity"}}, []fact{{Name: "format", Value: "plain"}}, High, "hardening-lost", "plain"},
		"other devices":             {"rauc", []fact{{Name: "compatible", Value: "a"}}, []fact{{Name: "compatible", Value: "b"}}, High, "product-changed", "a → b"},
		"script of an update":       {"swupdate", nil, []fact{{Name: "script", Value: "x.sh: type=shellscript"}}, High, "new-script", "x.sh"},
		"embedded script":           {"swupdate", nil, []fact{{Name: "board embedded-script", Value: `"x"`}}, High, "new-script", "board embedded script"},
		"embedded script changed":   {"swupdate", []fact{{Name: "embedded-script", Value: `"x"`}}, []fact{{Name: "embedded-script", Value: `"y"`}}, Medium, "script-changed", `"x" → "y"`},
		"older update":              {"swupdate", []fact{{Name: "version", Value: `"1.10"`}}, []fact{{Name: "version", Value: `"1.9"`}}, High, "version-down", "1.10"},
		"retpoline":                 {"kmod", []fact{{Name: "retpoline", Value: "Y"}}, nil, High, "hardening-lost", "retpoline"},
		"license":                   {"kmod", []fact{{Name: "license", Value: "GPL"}}, []fact{{Name: "license", Value: "Proprietary"}}, Medium, "license-changed", "GPL → Proprietary"},
		"entry point":               {"oci", []fact{{Name: "entrypoint", Value: `["/app"]`}}, []fact{{Name: "entrypoint", Value: `["/bin/sh"]`}}, High, "entrypoint-changed", `→ ["/bin/sh"]`},
		"root":                      {"oci", []fact{{Name: "user", Value: "1000:1000"}}, []fact{{Name: "user", Value: "0:0"}}, High, "new-permission", "as root"},
		"root by default":           {"oci", []fact{{Name: "user", Value: "app"}}, nil, High, "new-permission", "as root"},
		"preloaded":                 {"oci", []fact{{Name: "environment", Value: "A=b"}}, []fact{{Name: "environment", Value: "A=b"}, {Name: "environment", Value: "LD_PRELOAD=/x.so"}}, High, "new-script", "/x.so"},
		"unit":                      {"deb", nil, []fact{{Name: "starts", Value: "/lib/systemd/system/x.service, ab"}}, High, "new-script", "x.service"},
		"device":                    {"deb", nil, []fact{{Name: "device", Value: "/dev/x of type '3'"}}, High, "new-permission", "/dev/x"},
		"what is elsewhere":         {"pkg", nil, []fact{{Name: "external", Value: "b: file:./b.pkg"}}, High, "coverage-lost", "b.pkg"},
		"installs as root":          {"pkg", nil, []fact{{Name: "requires-password", Value: "as root"}}, Medium, "new-permission", "as root"},
		"a checksum that was right": {"dmg", []fact{{Name: "checksum", Value: "data: CRC-32 1, right"}}, []fact{{Name: "checksum", Value: "data: CRC-32 2, wrong: it is 3"}}, Medium, "damaged", "wrong"},
	} {
		view := func(content string, facts []fact) []server.FileView {
			return []server.FileView{{Name: "x", Format: c.format, Digest: "sha256", Content: content, Size: 1, Facts: facts}}
		}
		old, now := view("a", c.old), view("b", c.now)
		d := Between(old, now, true)
		if !has(d.Alerts, c.code, c.part) {
			t.Errorf("%s: no alert %s of %q among %+v", name, c.code, c.part, d.Alerts)
			continue
		}
		if d.Alerts[0].Severity != c.severity {
			t.Errorf("%s: %+v", name, d.Alerts)
		}
		if back := Between(now, old, true); has(back.Alerts, c.code, c.part) || c.code == "version-down" && c.part != "0 → 1" && has(back.Alerts, "version-down", "") {
			t.Errorf("%s, the way back: %+v", name, back.Alerts)
		}
	}
}

// A command line that names its root and its first program is nothing to warn of.
func TestOrdinaryCommandLine(t *testing.T) {
	for line, want := range map[string]int{"root=/dev/sda1 ro quiet init=/sbin/init roothash=ab lsm=lockdown,yama": 0, "quiet nokaslr mitigations=off": 2, "initcall_debug single-user": 0} {
		f := server.FileView{Format: "pe", Facts: []format.Fact{{Name: "kernel-command-line", Value: line}}}
		if got := Warnings(&f); len(got) != want {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// An option that is a document does not fill the difference, and is still told to differ.
func TestLongOptions(t *testing.T) {
	view := func(content, config string) []server.FileView {
		return []server.FileView{{Name: "x", Format: "oci", Digest: "sha256", Content: content, Size: 1, Params: []format.Fact{{Name: "config", Value: strings.Repeat("x", 40000) + config}}}}
	}
	d := Between(view("a", "1"), view("b", "2"), true)
	if len(d.Files) != 1 || len(d.Files[0].Changes) != 1 {
		t.Fatalf("%+v", d)
	}
	if c := d.Files[0].Changes[0]; c.Name != "option config" || c.Old == c.New || len(c.Old) > maxOption || len(c.New) > maxOption {
		t.Errorf("%d and %d bytes: %+v", len(c.Old), len(c.New), c)
	}
}
