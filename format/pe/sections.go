package pe

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// EFI images tell boot loaders and people about themselves in sections: .sbat what
// may be revoked by generation (SBAT.md of shim), and in unified kernel images
// .osrel, .uname and .cmdline (UAPI Group, "Unified Kernel Image").
const (
	maxTextSection = 64 << 10
	maxSBAT        = 64 // entries
	sbatFields     = 6  // component, generation, vendor, package, version, URL
	maxSectionText = 1024
)

// sectionNames are those that become facts, in order.
var sectionNames = [...]struct{ section, fact string }{
	{".osrel", "os-release"},
	{".uname", "kernel-version"},
	{".cmdline", "kernel-command-line"},
	{".sbat", "sbat"},
}

// sectionFacts reads what an EFI image's sections say. One that stands twice, or
// an .sbat that shim would not take, is an error: firmware and loaders would refuse
// the image, or read another section than the people who endorse it.
func (im *image) sectionFacts(a format.Artifact) ([]format.Fact, error) {
	if !im.efi() {
		return nil, nil
	}
	var out []format.Fact
	for _, n := range sectionNames {
		text, err := im.textSection(a, n.section)
		if err != nil || text == nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		lines := []string{firstLine(text)}
		switch n.section {
		case ".osrel":
			lines[0] = prettyName(text)
		case ".sbat":
			if lines, err = parseSBAT(text); err != nil {
				return nil, err
			}
		}
		for _, l := range lines {
			if l = sectionText(l); l != "" {
				out = append(out, format.Fact{Name: n.fact, Value: l})
			}
		}
	}
	return out, nil
}

// textSection is the content of the one section of that name, without the zeros
// that fill it; nil when there is none.
func (im *image) textSection(a format.Artifact, name string) ([]byte, error) {
	var found *section
	for i := range im.sections {
		switch first, rest, _ := strings.Cut(im.sections[i].name, "\x00"); {
		case first != name:
			continue
		case rest != "": // loaders that compare up to the first zero take it for one of that name
			return nil, malformed("name of a section begins with %s and a zero", name)
		}
		if found != nil {
			return nil, malformed("section %s stands twice", name)
		}
		found = &im.sections[i]
	}
	if found == nil {
		return nil, nil
	}
	n := found.size
	if found.virtualSize > 0 {
		n = min(n, found.virtualSize)
	}
	if n > maxTextSection {
		return nil, malformed("section %s of %d bytes: at most %d", name, n, maxTextSection)
	}
	b := make([]byte, n)
	if err := readFull(a, b, int64(found.offset)); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b, "\x00"), nil
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte{0})
	return strings.TrimSpace(strings.ReplaceAll(string(line), "\n", " "))
}

// sectionText is a fact's form.
func sectionText(s string) string {
	s = authenticode.PlainText(strings.ToValidUTF8(s, "\ufffd"))
	if r := []rune(s); len(r) > maxSectionText {
		s = authenticode.PlainText(string(r[:maxSectionText]))
	}
	return s
}

// prettyName is what os-release calls the system.
func prettyName(b []byte) string {
	value := func(key string) string {
		for line := range strings.SplitSeq(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, key+"="); ok {
				return strings.Trim(strings.TrimSpace(v), `"'`)
			}
		}
		return ""
	}
	if v := value("PRETTY_NAME"); v != "" {
		return v
	}
	return strings.TrimSpace(value("ID") + " " + value("VERSION_ID"))
}

// parseSBAT reads lines of comma-separated values; the first one is SBAT's own.
func parseSBAT(b []byte) ([]string, error) {
	bad := func(i int, why string) error { return fmt.Errorf("%w: .sbat line %d: %s", ErrMalformed, i+1, why) }
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) > maxSBAT {
		return nil, bad(maxSBAT, "too many lines")
	}
	for i, l := range lines {
		for _, c := range []byte(l) {
			if c < ' ' || c >= 0x7f {
				return nil, bad(i, "not in ASCII")
			}
		}
		f := strings.Split(l, ",")
		if len(f) < sbatFields {
			return nil, bad(i, "want six fields")
		}
		if n, err := strconv.ParseUint(f[1], 10, 31); err != nil || n == 0 || strconv.FormatUint(n, 10) != f[1] || f[0] == "" {
			return nil, bad(i, "component and generation")
		}
		if i == 0 && f[0] != "sbat" {
			return nil, bad(i, "want the entry of SBAT itself first")
		}
	}
	return lines, nil
}

// checkSectionFacts takes the facts of sections off the front, if they are in
// their form and order.
func checkSectionFacts(facts []format.Fact, efi bool) ([]format.Fact, string) {
	for _, n := range sectionNames {
		for i := 0; efi && len(facts) > 0 && facts[0].Name == n.fact; i++ {
			v := facts[0].Value
			if v == "" || sectionText(v) != v || utf8.RuneCountInString(v) > maxSectionText || i > 0 && n.section != ".sbat" || i == maxSBAT {
				return nil, "fact " + n.fact + " is not in its form"
			}
			facts = facts[1:]
		}
	}
	return facts, ""
}
