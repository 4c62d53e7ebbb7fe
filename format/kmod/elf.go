package kmod

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

// Limits of what is read of an ELF file. They are far above what kernels make.
const (
	maxSections = 1 << 16
	maxNames    = 4 << 20 // bytes of the section names
	maxModinfo  = 1 << 20 // bytes of .modinfo: one line for each device that a driver knows
	maxFact     = 1024    // bytes of one fact
)

const (
	elfHeader32 = 52
	elfHeader64 = 64
	typeRel     = 1 // ET_REL
	typeNoBits  = 8 // SHT_NOBITS: a section without bytes in the file
)

// span is a piece of the file.
type span struct{ off, size int64 }

// readELF finds .modinfo. It believes no number of the headers: each must lie
// before the signature.
func (m *module) readELF(a format.Artifact) error {
	m.head = make([]byte, min(elfHeader64, m.end))
	if err := format.ReadFull(a, m.head, 0); err != nil {
		return fmt.Errorf("kmod: %w", err)
	}
	h := m.head
	if len(h) < elfHeader32 || string(h[:4]) != "\x7fELF" || h[4] != 1 && h[4] != 2 || h[5] != 1 && h[5] != 2 || h[6] != 1 {
		return ErrNotModule
	}
	wide := h[4] == 2
	var o binary.ByteOrder = binary.LittleEndian
	if h[5] == 2 {
		o = binary.BigEndian
	}
	if o.Uint16(h[16:]) != typeRel || wide && len(h) < elfHeader64 {
		return ErrNotModule
	}
	table, tail, entry := span{off: int64(o.Uint32(h[32:]))}, h[46:], int64(40)
	if wide {
		table.off, tail, entry = int64(o.Uint64(h[40:])), h[58:], 64
	}
	count, names := int64(o.Uint16(tail[2:])), int64(o.Uint16(tail[4:]))
	section := func(b []byte) (name uint32, typ uint32, s span, link uint32) {
		if wide {
			return o.Uint32(b), o.Uint32(b[4:]), span{int64(o.Uint64(b[24:])), int64(o.Uint64(b[32:]))}, o.Uint32(b[40:])
		}
		return o.Uint32(b), o.Uint32(b[4:]), span{int64(o.Uint32(b[16:])), int64(o.Uint32(b[20:]))}, o.Uint32(b[24:])
	}
	if int64(o.Uint16(tail)) != entry {
		return fmt.Errorf("%w: section headers of %d bytes", ErrNotModule, o.Uint16(tail))
	}
	// Where a 16-bit number is too small, the first section's header has it.
	if count == 0 || names == 0xffff {
		b, err := m.read(a, span{table.off, entry}, entry)
		if err != nil {
			return err
		}
		_, _, s, link := section(b)
		if count == 0 {
			count = s.size
		}
		if names == 0xffff {
			names = int64(link)
		}
	}
	if count <= 0 || count > maxSections || names >= count {
		return fmt.Errorf("%w: %d sections", ErrNotModule, count)
	}
	b, err := m.read(a, span{table.off, count * entry}, maxSections*entry)
	if err != nil {
		return err
	}
	_, _, s, _ := section(b[names*entry:])
	text, err := m.read(a, s, maxNames)
	if err != nil {
		return err
	}
	for ; len(b) > 0; b = b[entry:] {
		name, typ, s, _ := section(b)
		if int64(name) >= int64(len(text)) || !bytes.HasPrefix(text[name:], []byte(".modinfo\x00")) || typ == typeNoBits {
			continue
		}
		if s.size <= 0 || s.size > maxModinfo || !m.holds(s) || m.modinfo.size != 0 {
			return fmt.Errorf("%w: section .modinfo", ErrNotModule)
		}
		m.modinfo = s
	}
	if m.modinfo.size == 0 {
		return fmt.Errorf("%w: it has no section .modinfo", ErrNotModule)
	}
	return nil
}

func (m *module) holds(s span) bool {
	return s.off >= 0 && s.size >= 0 && s.off <= m.end && s.size <= m.end-s.off
}

func (m *module) read(a format.Artifact, s span, limit int64) ([]byte, error) {
	if !m.holds(s) || s.size > limit {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrNotModule, s.size, s.off)
	}
	b := make([]byte, s.size)
	if err := format.ReadFull(a, b, s.off); err != nil {
		return nil, fmt.Errorf("kmod: %w", err)
	}
	return b, nil
}

// factNames are the keys of .modinfo that become facts, in order.
var factNames = [...]string{"name", "version", "description", "license", "vermagic", "srcversion"}

const factReplaced = "replaced-signature"

// detailNames are the details of a module, in order.
var detailNames = []string{"author", "depends", "intree", "retpoline", "parameter", "alias", "aliases", "firmware", "import-namespace", "soft-dependency"}

// details are what else .modinfo says: all values of some keys.
func (m *module) details(a format.Artifact, before int) ([]format.Fact, error) {
	b, err := m.read(a, m.modinfo, maxModinfo)
	if err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for line := range bytes.SplitSeq(b, []byte{0}) {
		if k, v, ok := bytes.Cut(line, []byte("=")); ok && len(v) > 0 && len(k) <= 16 {
			found[string(k)] = append(found[string(k)], string(v))
		}
	}
	d := format.NewDetails(before)
	d.List("author", 8, found["author"])
	var depends []string
	for _, v := range found["depends"] {
		depends = append(depends, strings.Split(v, ",")...)
	}
	d.List("depends", 60, depends)
	d.List("intree", 1, found["intree"])
	d.List("retpoline", 1, found["retpoline"])
	d.List("parameter", 40, found["parm"])
	if len(found["alias"]) <= 20 {
		d.List("alias", 20, found["alias"])
	} else {
		d.Count("aliases", found["alias"])
	}
	d.List("firmware", 20, found["firmware"])
	d.List("import-namespace", 20, found["import_ns"])
	d.List("soft-dependency", 20, found["softdep"])
	return d.Facts(), nil
}

// facts are the first value of each key, and what is said of a signature that
// will be replaced.
func (m *module) facts(a format.Artifact) ([]format.Fact, error) {
	b, err := m.read(a, m.modinfo, maxModinfo)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for line := range bytes.SplitSeq(b, []byte{0}) {
		k, v, ok := bytes.Cut(line, []byte("="))
		if _, twice := found[string(k)]; ok && !twice && len(v) > 0 && len(k) <= 16 {
			found[string(k)] = single.Text(v, maxFact)
		}
	}
	var out []format.Fact
	for _, n := range factNames {
		if v, ok := found[n]; ok {
			out = append(out, format.Fact{Name: n, Value: v})
		}
	}
	if m.tail != nil {
		out = append(out, format.Fact{Name: factReplaced, Value: m.signer()})
	}
	return out, nil
}

// checkFacts refuses facts that no Plan makes.
func checkFacts(facts []format.Fact, replaced bool) error {
	facts, err := format.CutDetails(facts, detailNames...)
	if err != nil {
		return fmt.Errorf("kmod: %w: %w", single.ErrPlan, err)
	}
	for _, n := range factNames {
		if len(facts) == 0 || facts[0].Name != n {
			continue
		}
		if v := facts[0].Value; v == "" || single.Text([]byte(v), maxFact) != v {
			return fmt.Errorf("kmod: %w: fact %s", single.ErrPlan, n)
		}
		facts = facts[1:]
	}
	if replaced && (len(facts) == 0 || facts[0].Name != factReplaced || facts[0].Value == "") {
		return fmt.Errorf("kmod: %w: it does not tell of the signature that is replaced", single.ErrPlan)
	}
	if replaced {
		facts = facts[1:]
	}
	if len(facts) > 0 {
		return fmt.Errorf("kmod: %w: fact %.40q", single.ErrPlan, facts[0].Name)
	}
	return nil
}
