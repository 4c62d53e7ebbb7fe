package deb

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

const (
	arMagic    = "!<arch>\n"
	memberSize = 60 // bytes of a member's header
	maxMembers = 16
)

// member is one file of the archive (ar(5), System V and BSD agree on what is used).
type member struct {
	name   string
	offset int64 // of its content
	size   int64
	header []byte
}

// end is where the next member begins: contents are padded to even length.
func (m *member) end() int64 { return m.offset + m.size + m.size&1 }

var errArchive = errors.New("deb: archive is malformed")

// readMembers reads the headers of all members, and nothing of their contents but the
// padding. Every byte of the file must belong to one.
func readMembers(a format.Artifact) ([]member, error) {
	magic := make([]byte, len(arMagic))
	if err := format.ReadFull(a, magic, 0); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("%w: magic", errArchive)
	}
	var out []member
	for at := int64(len(arMagic)); at < a.Size(); {
		if len(out) == maxMembers {
			return nil, fmt.Errorf("%w: more than %d members", errArchive, maxMembers)
		}
		h := make([]byte, memberSize)
		if err := format.ReadFull(a, h, at); err != nil {
			return nil, fmt.Errorf("%w: header of member %d: %w", errArchive, len(out), err)
		}
		m, err := parseMember(h)
		if err != nil {
			return nil, err
		}
		m.offset = at + memberSize
		if m.size > a.Size()-m.offset || m.end() > a.Size() {
			return nil, fmt.Errorf("%w: member %s is longer than the file", errArchive, m.name)
		}
		if m.size&1 == 1 {
			pad := make([]byte, 1)
			if err := format.ReadFull(a, pad, m.end()-1); err != nil || pad[0] != '\n' {
				return nil, fmt.Errorf("%w: padding of member %s", errArchive, m.name)
			}
		}
		at = m.end()
		out = append(out, m)
	}
	return out, nil
}

// parseMember reads a header: name, time, owner, group, mode, size, end.
func parseMember(h []byte) (m member, err error) {
	field := func(from, to int) string { return strings.TrimRight(string(h[from:to]), " ") }
	m.name, m.header = strings.TrimSuffix(field(0, 16), "/"), h
	if m.size, err = strconv.ParseInt(field(48, 58), 10, 64); err != nil || m.size < 0 || strconv.FormatInt(m.size, 10) != field(48, 58) {
		return m, fmt.Errorf("%w: size of member %q", errArchive, m.name)
	}
	for _, f := range []string{field(16, 28), field(28, 34), field(34, 40), field(40, 48)} {
		if strings.Trim(f, "0123456789") != "" {
			return m, fmt.Errorf("%w: header of member %q", errArchive, m.name)
		}
	}
	if string(h[58:60]) != "`\n" || m.name == "" || strings.ContainsFunc(m.name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return m, fmt.Errorf("%w: header of member %q", errArchive, m.name)
	}
	return m, nil
}

// newMember writes a member as dpkg-deb does.
func newMember(name string, at time.Time, content []byte) []byte {
	b := fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, at.Unix(), 0, 0, "100644", len(content))
	b = append(b, content...)
	if len(content)&1 == 1 {
		b = append(b, '\n')
	}
	return b
}

// compressions are the endings of control.tar and data.tar, with what the content of
// each begins with; tar itself has its magic further on.
func compressions() map[string]string {
	return map[string]string{"": "", ".gz": "\x1f\x8b\x08", ".xz": "\xfd7zXZ\x00", ".zst": "\x28\xb5\x2f\xfd", ".bz2": "BZh", ".lzma": "\x5d\x00\x00"}
}

// layout is a package: its three parts and the signatures behind them.
type layout struct {
	parts [3]member // debian-binary, control.tar, data.tar
	sigs  []member  // _gpg and a role
	size  int64
}

// readLayout wants the three parts in their order, and then signatures alone. dpkg skips
// members that begin with "_" wherever they are, and reads the first control and data
// that it finds: anything else here would be read and not signed.
func readLayout(a format.Artifact) (*layout, error) {
	ms, err := readMembers(a)
	if err != nil {
		return nil, err
	}
	if len(ms) < 3 || ms[0].name != "debian-binary" {
		return nil, errors.New("deb: not a package: want debian-binary, control.tar and data.tar")
	}
	version := make([]byte, 4)
	if ms[0].size != int64(len(version)) || format.ReadFull(a, version, ms[0].offset) != nil || string(version) != "2.0\n" {
		return nil, errors.New("deb: format version is not 2.0")
	}
	l := &layout{parts: [3]member(ms[:3]), size: a.Size()}
	for i, base := range []string{"control.tar", "data.tar"} {
		m := ms[i+1]
		ending, ok := strings.CutPrefix(m.name, base)
		magic, known := compressions()[ending]
		if !ok || !known {
			return nil, fmt.Errorf("deb: member %d is %s: want %s", i+1, m.name, base)
		}
		at, want := m.offset, magic
		if ending == "" {
			at, want = at+257, "ustar"
		}
		b := make([]byte, len(want))
		if m.size < int64(len(want))+at-m.offset || format.ReadFull(a, b, at) != nil || string(b) != want {
			return nil, fmt.Errorf("deb: %s does not begin like one", m.name)
		}
	}
	for _, m := range ms[3:] {
		role, ok := strings.CutPrefix(m.name, "_gpg")
		if !ok || role == "" {
			return nil, fmt.Errorf("deb: member %s after the package's own: want signatures alone", m.name)
		}
		if slices.ContainsFunc(l.sigs, func(o member) bool { return o.name == m.name }) {
			return nil, fmt.Errorf("deb: two signatures %s", m.name)
		}
		if m.size > maxSignature {
			return nil, fmt.Errorf("deb: signature %s of %d bytes", m.name, m.size)
		}
		l.sigs = append(l.sigs, m)
	}
	return l, nil
}

// headers is every header of the archive.
func (l *layout) headers() []byte {
	var b bytes.Buffer
	for _, m := range append(l.parts[:], l.sigs...) {
		b.Write(m.header)
	}
	return b.Bytes()
}
