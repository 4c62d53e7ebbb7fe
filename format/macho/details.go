package macho

import (
	"bytes"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/plist"
)

// DetailNames are the details of a plan, in order: what follows from load commands
// and the Info.plist in a program, none of which the body has.
var DetailNames = []string{"version", "hardening", "lacks", "minimum-system", "sdk", "library", "weak-library", "search-path", "install-name", "slice-differs"}

// Load commands of mach-o/loader.h that details come from.
const (
	cmdLibrary     = 0xc
	cmdInstallName = 0xd
	cmdLazy        = 0x20
	cmdWeak        = 0x80000018
	cmdReexport    = 0x8000001f
	cmdUpward      = 0x80000023
	cmdSearchPath  = 0x8000001c

	flagPIE       = 0x200000
	flagStackExec = 0x20000 // the stack may hold code
)

var platforms = map[uint32]string{1: "macOS", 2: "iOS", 3: "tvOS", 4: "watchOS", 5: "bridgeOS", 6: "Mac Catalyst", 7: "iOS simulator",
	8: "tvOS simulator", 9: "watchOS simulator", 10: "DriverKit", 11: "visionOS", 12: "visionOS simulator"}

// linked is what one slice is linked with.
type linked struct {
	libraries, weak, paths []string
	name, system, sdk      string
	flags                  uint32
}

// linked walks the load commands, which parseHead has checked.
func (h *head) linked() (out linked) {
	out.flags = le.Uint32(h.raw[24:])
	for b := h.raw[h.headerSize():]; len(b) >= 8; {
		cmd, size := le.Uint32(b), le.Uint32(b[4:])
		if size < 8 || uint64(size) > uint64(len(b)) {
			break
		}
		c := b[:size]
		b = b[size:]
		text := func() string {
			if len(c) < 12 || uint64(le.Uint32(c[8:])) >= uint64(len(c)) {
				return ""
			}
			return cname(c[le.Uint32(c[8:]):])
		}
		version := func(v uint32) string { return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff) }
		system := func(platform, v, sdk uint32) {
			out.system, out.sdk = (platforms[platform] + " " + version(v)), version(sdk)
		}
		switch cmd {
		case cmdLibrary, cmdLazy, cmdReexport, cmdUpward:
			out.libraries = append(out.libraries, text())
		case cmdWeak:
			out.weak = append(out.weak, text())
		case cmdSearchPath:
			out.paths = append(out.paths, text())
		case cmdInstallName:
			out.name = text()
		case cmdMinMacOS, cmdMinIOS, cmdMinTV, cmdMinWatch:
			if len(c) >= 16 {
				system(map[uint32]uint32{cmdMinMacOS: 1, cmdMinIOS: 2, cmdMinTV: 3, cmdMinWatch: 4}[cmd], le.Uint32(c[8:]), le.Uint32(c[12:]))
			}
		case cmdBuildVersion:
			if len(c) >= 20 {
				system(le.Uint32(c[8:]), le.Uint32(c[12:]), le.Uint32(c[16:]))
			}
		}
	}
	return out
}

// details describe the first slice, and say which of the others are linked with
// something else.
func (m *file) details(infos []piece, before int) []format.Fact {
	d := format.NewDetails(before)
	first := m.slices[0].linked()
	for _, p := range infos {
		if i, err := plist.ParseDict(bytes.TrimRight(p.b, "\x00")); err == nil && i.String("CFBundleShortVersionString") != "" {
			d.Say("version", i.String("CFBundleShortVersionString"))
			break
		}
	}
	if m.slices[0].kind == typeExecute {
		var has, lacks []string
		for name, there := range map[string]bool{"ASLR": first.flags&flagPIE != 0, "DEP": first.flags&flagStackExec == 0} {
			if there {
				has = append(has, name)
			} else {
				lacks = append(lacks, name)
			}
		}
		d.List("hardening", 8, has)
		d.List("lacks", 8, lacks)
	}
	d.Say("minimum-system", first.system)
	d.Say("sdk", first.sdk)
	d.List("library", 100, first.libraries)
	d.List("weak-library", 30, first.weak)
	d.List("search-path", 20, first.paths)
	d.Say("install-name", first.name)
	var other []string
	for _, p := range m.slices[1:] {
		if l := p.linked(); fmt.Sprint(l.libraries, l.weak, l.paths, l.name) != fmt.Sprint(first.libraries, first.weak, first.paths, first.name) {
			other = append(other, fmt.Sprintf("%s: libraries %q, weak %q, paths %q", p.architecture(), l.libraries, l.weak, l.paths))
		}
	}
	d.List("slice-differs", 8, other)
	return d.Facts()
}
