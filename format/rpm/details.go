package rpm

import (
	"crypto/sha256"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// More tags of the header.
const (
	tagBuildTime     = 1006
	tagBuildHost     = 1007
	tagFileFlags     = 1037
	tagFileCaps      = 5010
	tagConflicts     = 1054
	tagObsoletes     = 1090
	tagConfigFile    = 1 // in the flags of a file
	setuid           = 0o4000
	setgid           = 0o2000
	maxFilesShown    = 60
	maxRequiresShown = 60
)

// scriptTags are what rpm runs.
var scriptTags = []struct {
	name               string
	tag, program, flag uint32
}{
	{"before installing", 1023, 1085, 5020}, {"after installing", 1024, 1086, 5021}, {"before removing", 1025, 1087, 5022}, {"after removing", 1026, 1088, 5023},
	{"before the transaction", 1151, 1153, 5024}, {"after the transaction", 1152, 1154, 5025}, {"verification", 1079, 1091, 5026},
	{"before the removing transaction", 5104, 5105, 5108}, {"after the removing transaction", 5106, 5107, 5109},
}

// details are what a package runs, needs and holds, as its header says.
func (h *head) details(before int) []format.Fact {
	d := format.NewDetails(before)
	m := h.main
	var scripts []string
	for _, s := range scriptTags {
		text, program := m.text(s.tag), m.text(s.program)
		if text != "" || program != "" {
			scripts = append(scripts, fmt.Sprintf("%s: %s, %d bytes, sha256 %x", s.name, orNone(program), len(text), head256(text)))
		}
	}
	d.List("script", 16, scripts)
	for _, t := range []uint32{1065, 5066, 5076} { // triggers, of files, of transactions
		var out []string
		for _, s := range m.strings(t) {
			out = append(out, fmt.Sprintf("%d bytes, sha256 %x", len(s), head256(s)))
		}
		d.List("trigger", 16, out)
	}
	for _, l := range []struct {
		name                 string
		tag, version, senses uint32
	}{{"requires", 1049, 1050, 1048}, {"provides", 1047, 1113, 1112}, {"conflicts", tagConflicts, 1055, 1053}, {"obsoletes", tagObsoletes, 1115, 1114}} {
		d.List(l.name, maxRequiresShown, m.relations(l.tag, l.version, l.senses))
	}
	h.fileDetails(d)
	return d.Facts()
}

func head256(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:8] }

func orNone(s string) string {
	if s == "" {
		return "no program"
	}
	return s
}

// relations are dependencies with their versions.
func (h *header) relations(names, versions, senses uint32) (out []string) {
	vs, fs := h.strings(versions), h.numbers(senses)
	for i, n := range h.strings(names) {
		if i < len(vs) && i < len(fs) && vs[i] != "" {
			op := ""
			for _, s := range []struct {
				bit  uint64
				text string
			}{{2, "<"}, {4, ">"}, {8, "="}} {
				if fs[i]&s.bit != 0 {
					op += s.text
				}
			}
			n += " " + op + " " + vs[i]
		}
		out = append(out, n)
	}
	return out
}

// fileDetails are the list of files, where all parts of it are of one length.
func (h *head) fileDetails(d *format.Details) {
	m := h.main
	bases, dirs, indexes := m.strings(tagBaseNames), m.strings(tagDirNames), m.numbers(tagDirIndexes)
	modes, flags, sums, caps := m.numbers(tagFileModes), m.numbers(tagFileFlags), m.strings(tagFileDigests), m.strings(tagFileCaps)
	if len(indexes) != len(bases) {
		return
	}
	var all, suid, capable, configs []string
	for i, base := range bases {
		if indexes[i] >= uint64(len(dirs)) {
			return
		}
		name := dirs[indexes[i]] + base
		if len(modes) == len(bases) && modes[i]&0o170000 == 0o100000 && modes[i]&(setuid|setgid) != 0 {
			suid = append(suid, fmt.Sprintf("%s, mode %04o", name, modes[i]&0o7777))
		}
		if len(caps) == len(bases) && caps[i] != "" {
			capable = append(capable, name+" "+caps[i])
		}
		if len(flags) == len(bases) && flags[i]&tagConfigFile != 0 {
			configs = append(configs, name)
		}
		if len(sums) == len(bases) && sums[i] != "" {
			name += ", " + sums[i][:min(len(sums[i]), 16)]
		}
		all = append(all, name)
	}
	d.Count("files", all)
	d.List("setuid", 20, suid)
	d.List("capabilities", 20, capable)
	d.List("config", 20, configs)
	if host := m.text(tagBuildHost); host != "" {
		if at, ok := m.number(tagBuildTime); ok {
			d.Sayf("built", "on %s, %d", host, at)
		}
	}
	if len(all) <= maxFilesShown {
		d.List("file", maxFilesShown, all)
	}
}
