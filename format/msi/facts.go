package msi

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cfb"
)

// The facts of a plan, in their order: what kind of file it is, how many streams it
// has, those of factNames that are there, then those of package authenticode about
// existing signatures, then the details.
const (
	factKind    = "kind"
	factStreams = "streams"
)

// factNames are properties of the database and strings of the summary information.
var factNames = [...]struct{ fact, property string }{
	{"product-name", "ProductName"},
	{"product-version", "ProductVersion"},
	{"manufacturer", "Manufacturer"},
	{"product-code", "ProductCode"},
	{"upgrade-code", "UpgradeCode"},
	{"title", ""},
	{"subject", ""},
	{"author", ""},
	{"package-code", ""},
}

const (
	maxFactText = 512     // bytes of one fact's value
	maxStrings  = 1 << 20 // bytes of a stream that facts are read from
)

// readFacts reads what people are told. What is broken gives no fact: it changes
// nothing about what is signed.
func (m *installer) readFacts(ctx context.Context) []format.Fact {
	streams := 0
	for i := 1; ; i++ {
		e, ok := m.entry(i)
		if !ok {
			break
		}
		if e.Type == cfb.Stream && !m.isSignature(i) {
			streams++
		}
	}
	out := []format.Fact{{Name: factKind, Value: "Windows Installer " + m.kind}, {Name: factStreams, Value: strconv.Itoa(streams)}}
	found := m.summary(ctx)
	for k, v := range m.properties(ctx) {
		found[k] = v
	}
	for _, n := range factNames {
		key := n.property
		if key == "" {
			key = n.fact
		}
		if v := clip(found[key]); v != "" {
			out = append(out, format.Fact{Name: n.fact, Value: v})
		}
	}
	return out
}

func (m *installer) entry(i int) (*cfb.Entry, bool) {
	if i >= m.c.Entries() {
		return nil, false
	}
	return m.c.Entry(i), true
}

func (m *installer) isSignature(i int) bool {
	for _, n := range []string{streamSignature, streamExtended} {
		if j, ok := m.c.Find(n); ok && i == j {
			return true
		}
	}
	return false
}

// clip makes a text one that can be shown, of limited length.
func clip(s string) string {
	s = authenticode.PlainText(strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > maxFactText {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:maxFactText], ""))
	}
	return s
}

// small reads a stream of the root storage, nil where it is absent or large.
func (m *installer) small(ctx context.Context, name string) []byte {
	i, ok := m.c.Find(name)
	if !ok || m.c.Entry(i).Type != cfb.Stream {
		return nil
	}
	b, err := m.c.Read(ctx, i, maxStrings)
	if err != nil {
		return nil
	}
	return b
}

// summary reads strings of the property set \5SummaryInformation ([MS-OLEPS]).
func (m *installer) summary(ctx context.Context) map[string]string {
	out := map[string]string{}
	b := m.small(ctx, "\x05SummaryInformation")
	le := binary.LittleEndian
	if len(b) < 48 {
		return out
	}
	at := int(le.Uint32(b[44:]))
	if at < 48 || at > len(b)-8 {
		return out
	}
	set := b[at:]
	n := int(le.Uint32(set[4:]))
	for i := 0; i < min(n, 64) && 16+8*i <= len(set); i++ {
		id, off := le.Uint32(set[8+8*i:]), int64(le.Uint32(set[12+8*i:]))
		name := map[uint32]string{2: "title", 3: "subject", 4: "author", 7: "template", 9: "package-code"}[id]
		if name == "" || off+8 > int64(len(set)) || le.Uint32(set[off:]) != 30 { // VT_LPSTR
			continue
		}
		size := int64(le.Uint32(set[off+4:]))
		if off+8+size > int64(len(set)) {
			continue
		}
		text, _, _ := strings.Cut(string(set[off+8:][:size]), "\x00")
		out[name] = text
	}
	return out
}

// tableName is the name of a table's stream: an invisible mark, then two of 64
// characters in one, as the installer packs them.
func tableName(s string) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
	out := []rune{0x4840}
	for len(s) > 0 {
		a := strings.IndexByte(alphabet, s[0])
		if len(s) > 1 {
			out = append(out, rune(0x3800+a+strings.IndexByte(alphabet, s[1])<<6))
			s = s[2:]
		} else {
			out = append(out, rune(0x4800+a))
			s = ""
		}
	}
	return string(out)
}

// properties reads the Property table.
func (m *installer) properties(ctx context.Context) map[string]string {
	out := map[string]string{}
	d := m.database(ctx)
	t := d.table(ctx, "Property", "ss")
	for r := range t.rows {
		name := t.text(r, 0)
		for _, n := range factNames {
			if n.property != "" && n.property == name {
				out[name] = t.text(r, 1)
			}
		}
	}
	return out
}

// strings reads the database's strings; wide says that references have three bytes.
func (m *installer) strings(ctx context.Context) (out []string, wide bool) {
	pool, data := m.small(ctx, tableName("_StringPool")), m.small(ctx, tableName("_StringData"))
	if len(pool) < 4 || len(pool)%4 != 0 {
		return nil, false
	}
	le := binary.LittleEndian
	wide = le.Uint32(pool)>>31 != 0
	out = append(out, "")
	for at := 4; at < len(pool); at += 4 {
		size, refs := int64(le.Uint16(pool[at:])), le.Uint16(pool[at+2:])
		if size == 0 && refs != 0 { // longer than 64 KiB: the length is in the next entry
			if at += 4; at >= len(pool) {
				return nil, false
			}
			size = int64(le.Uint32(pool[at:]))
		}
		if size > int64(len(data)) {
			return nil, false
		}
		out = append(out, string(data[:size]))
		data = data[size:]
	}
	return out, wide
}

// checkFacts refuses facts that no Plan makes.
func checkFacts(facts []format.Fact, signed, replace bool) error {
	bad := func(why string) error { return fmt.Errorf("%w: facts: %s", authenticode.ErrPlan, why) }
	facts, err := format.CutDetails(facts, detailNames...)
	if err != nil {
		return bad(err.Error())
	}
	if len(facts) < 3 || facts[0].Name != factKind || facts[1].Name != factStreams {
		return bad("kind and streams are not the first")
	}
	switch facts[0].Value {
	case "Windows Installer package", "Windows Installer patch", "Windows Installer transform":
	default:
		return bad("unknown kind")
	}
	if n, err := strconv.Atoi(facts[1].Value); err != nil || n < 0 || strconv.Itoa(n) != facts[1].Value {
		return bad("number of streams")
	}
	facts = facts[2:]
	for _, n := range factNames {
		if len(facts) > 0 && facts[0].Name == n.fact {
			if v := facts[0].Value; v == "" || clip(v) != v {
				return bad(n.fact + " is not in its form")
			}
			facts = facts[1:]
		}
	}
	return authenticode.CheckExisting(facts, signed, replace)
}
