package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

func TestAttackProofs(t *testing.T) {
	ctx := t.Context()
	m, head := newLog(t, 1000)
	entries := audittest.Entries(t, 0, 1000)
	good, err := audit.ProveInclusion(ctx, m, 1000, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := head.CheckInclusion(good, entries[7]); err != nil {
		t.Fatal(err)
	}
	alter := func(f func(p *audit.Inclusion)) audit.Inclusion {
		p := good
		p.Hashes = append([]tlog.Hash(nil), good.Hashes...)
		f(&p)
		return p
	}
	for name, c := range map[string]struct {
		p     audit.Inclusion
		entry []byte
	}{
		"another index":    {alter(func(p *audit.Inclusion) { p.Index = 8 }), entries[7]},
		"another entry":    {good, entries[8]},
		"negative index":   {alter(func(p *audit.Inclusion) { p.Index = -1 }), entries[7]},
		"index of size":    {alter(func(p *audit.Inclusion) { p.Index = 1000 }), entries[7]},
		"another size":     {alter(func(p *audit.Inclusion) { p.Size = 1001 }), entries[7]},
		"huge size":        {alter(func(p *audit.Inclusion) { p.Size = 1<<63 - 1 }), entries[7]},
		"zero size":        {alter(func(p *audit.Inclusion) { p.Size, p.Index = 0, 0 }), entries[7]},
		"no hashes":        {alter(func(p *audit.Inclusion) { p.Hashes = nil }), entries[7]},
		"one hash less":    {alter(func(p *audit.Inclusion) { p.Hashes = p.Hashes[1:] }), entries[7]},
		"one hash more":    {alter(func(p *audit.Inclusion) { p.Hashes = append(p.Hashes, tlog.Hash{}) }), entries[7]},
		"million hashes":   {alter(func(p *audit.Inclusion) { p.Hashes = make([]tlog.Hash, 1_000_000) }), entries[7]},
		"hashes swapped":   {alter(func(p *audit.Inclusion) { p.Hashes[0], p.Hashes[1] = p.Hashes[1], p.Hashes[0] }), entries[7]},
		"no entry":         {good, nil},
		"huge entry":       {good, make([]byte, 1<<20)},
		"node for a leaf":  {alter(func(p *audit.Inclusion) { p.Index, p.Hashes = 3, p.Hashes[1:] }), append(hashOf(entries[6]), hashOf(entries[7])...)},
		"entry and a byte": {good, append(bytes.Clone(entries[7]), 0)},
	} {
		if err := head.CheckInclusion(c.p, c.entry); err == nil {
			t.Errorf("inclusion, %s: accepted", name)
		}
	}
	for _, c := range [][2]int64{{-1, 0}, {1000, 1000}, {1<<63 - 1, 0}, {1<<63 - 1, 1<<63 - 2}, {1 << 48, 0}} {
		if _, err := audit.ProveInclusion(ctx, m, c[0], c[1]); !errors.Is(err, audit.ErrLimit) {
			t.Errorf("prove %v: %v", c, err)
		}
	}

	_, old := newLog(t, 600)
	cons, err := audit.ProveConsistency(ctx, m, 600, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := head.CheckConsistency(old, cons); err != nil {
		t.Fatal(err)
	}
	empty := audittest.Head(t, audit.EmptyTree())
	for name, c := range map[string]struct {
		old audit.Head
		p   audit.Consistency
	}{
		"no hashes":          {old, audit.Consistency{Old: 600, New: 1000}},
		"other old size":     {old, audit.Consistency{Old: 601, New: 1000, Hashes: cons.Hashes}},
		"other new size":     {old, audit.Consistency{Old: 600, New: 1001, Hashes: cons.Hashes}},
		"reversed":           {old, audit.Consistency{Old: 1000, New: 600, Hashes: cons.Hashes}},
		"huge":               {old, audit.Consistency{Old: 600, New: 1<<63 - 1, Hashes: cons.Hashes}},
		"empty with hashes":  {empty, audit.Consistency{Old: 0, New: 1000, Hashes: cons.Hashes}},
		"empty claimed":      {old, audit.Consistency{Old: 0, New: 1000}},
		"same size, a hash":  {head, audit.Consistency{Old: 1000, New: 1000, Hashes: cons.Hashes[:1]}},
		"same size, no root": {old, audit.Consistency{Old: 1000, New: 1000}},
	} {
		if err := head.CheckConsistency(c.old, c.p); err == nil {
			t.Errorf("consistency, %s: accepted", name)
		}
	}
	wantErr(t, "zero tree", audit.CheckConsistency(audit.Tree{}, head.Tree(), audit.Consistency{New: 1000}), audit.ErrInconsistent)
}

func hashOf(entry []byte) []byte { h := audit.LeafHash(entry); return h[:] }

func TestAttackProofJSON(t *testing.T) {
	m, _ := newLog(t, 3)
	p, err := audit.ProveInclusion(t.Context(), m, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	if _, err := audit.ParseInclusion(data); err != nil {
		t.Fatal(err)
	}
	h0 := p.Hashes[0].String()
	loose := "A" + strings.Repeat("A", 41) + "B="
	for name, bad := range map[string]string{
		"trailing space":   good + " ",
		"trailing newline": good + "\n",
		"two values":       good + good,
		"inner space":      strings.Replace(good, ":", ": ", 1),
		"unknown member":   strings.Replace(good, "{", `{"x":1,`, 1),
		"repeated member":  strings.Replace(good, "{", `{"index":0,`, 1),
		"other order":      `{"size":3,"index":1,"hashes":[]}`,
		"capitals":         strings.Replace(good, "index", "Index", 1),
		"null hashes":      `{"index":0,"size":1,"hashes":null}`,
		"no hashes":        `{"index":0,"size":1}`,
		"float":            `{"index":0.0,"size":1,"hashes":[]}`,
		"exponent":         `{"index":0,"size":1e0,"hashes":[]}`,
		"huge":             `{"index":0,"size":9223372036854775807,"hashes":[]}`,
		"above int64":      `{"index":0,"size":9223372036854775808,"hashes":[]}`,
		"negative":         `{"index":-1,"size":1,"hashes":[]}`,
		"escape":           strings.Replace(good, h0[:1], fmt.Sprintf(`\u%04x`, h0[0]), 1),
		"loose bits":       strings.Replace(good, h0, loose, 1),
		"line in base64":   strings.Replace(good, h0, h0[:4]+`\n`+h0[4:], 1),
		"short hash":       strings.Replace(good, h0, h0[4:], 1),
		"too long":         `{"index":0,"size":1,"hashes":[` + strings.Repeat(`"`+h0+`",`, 1000) + `"` + h0 + `"]}`,
		"null":             "null",
		"empty":            "",
	} {
		if bad == good {
			t.Fatalf("%s: not altered", name)
		}
		if got, err := audit.ParseInclusion([]byte(bad)); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
	var q audit.Inclusion
	for _, bad := range []string{`{"index":0,"index":1,"size":3,"hashes":[]}`, `null`, `{}`, `[]`} {
		if err := q.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s: accepted inside JSON", bad)
		}
	}
}

func TestAttackEntryForms(t *testing.T) {
	good, err := audit.NewEntry(audit.KindCancel, time.UnixMilli(1000), [32]byte{}, []byte("{}")).Encode()
	if err != nil {
		t.Fatal(err)
	}
	// a5 01 01 02 66 cancel 03 19 03e8 04 40 05 42 7b7d
	c := "\x66cancel"
	d32 := "\x58\x20" + strings.Repeat("\x01", 32)
	if want := "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}"; string(good) != want {
		t.Fatalf("encoding is %x", good)
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"trailing":            string(good) + "\x00",
		"cut":                 string(good[:len(good)-1]),
		"version 0":           "\xa5\x01\x00\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}",
		"version 2":           "\xa5\x01\x02\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}",
		"long integer":        "\xa5\x01\x18\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}",
		"keys reordered":      "\xa5\x02" + c + "\x01\x01\x03\x19\x03\xe8\x04\x40\x05\x42{}",
		"key twice":           "\xa6\x01\x01\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}",
		"unknown key":         "\xa6\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}\x08\x00",
		"indefinite":          "\xbf\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}\xff",
		"tagged":              "\xc1" + string(good),
		"text body":           "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x62{}",
		"null body":           "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\xf6",
		"body as array":       "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x82\x18\x7b\x18\x7d",
		"no body":             "\xa4\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40",
		"no time":             "\xa4\x01\x01\x02" + c + "\x04\x40\x05\x42{}",
		"negative time":       "\xa5\x01\x01\x02" + c + "\x03\x20\x04\x40\x05\x42{}",
		"float time":          "\xa5\x01\x01\x02" + c + "\x03\xf9\x63\xd0\x04\x40\x05\x42{}",
		"far time":            "\xa5\x01\x01\x02" + c + "\x03\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x04\x40\x05\x42{}",
		"kind":                "\xa5\x01\x01\x02\x66Cancel\x03\x19\x03\xe8\x04\x40\x05\x42{}",
		"short digest":        "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x41\x01\x05\x42{}",
		"zero digest":         "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x58\x20" + strings.Repeat("\x00", 32) + "\x05\x42{}",
		"long digest":         "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x58\x21" + strings.Repeat("\x01", 33) + "\x05\x42{}",
		"both forms":          "\xa7\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}\x06" + d32 + "\x07\x1a\x00\x01\x00\x00",
		"both, no body":       "\xa7\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x40\x06" + d32 + "\x07\x1a\x00\x01\x00\x00",
		"sum and no size":     "\xa6\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x42{}\x06" + d32,
		"small body detached": "\xa6\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x06" + d32 + "\x07\x02",
		"huge body detached":  "\xa6\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x06" + d32 + "\x07\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
		"short sum":           "\xa6\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x06\x41\x01\x07\x1a\x00\x01\x00\x00",
		"nested":              strings.Repeat("\xa1\x01", 100) + "\x01",
		"huge map":            "\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
		"huge bytes":          "\xa5\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x05\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
		"too large":           strings.Repeat("\x00", audit.MaxEntry+1),
	} {
		if e, err := audit.DecodeEntry([]byte(bad)); err == nil {
			t.Errorf("%s: accepted as %v", name, e)
		} else if !errors.Is(err, audit.ErrMalformed) && !errors.Is(err, audit.ErrLimit) {
			t.Errorf("%s: error %v has no class", name, err)
		}
	}
	ok := "\xa6\x01\x01\x02" + c + "\x03\x19\x03\xe8\x04\x40\x06" + d32 + "\x07\x1a\x00\x01\x00\x00"
	if _, err := audit.DecodeEntry([]byte(ok)); err != nil {
		t.Errorf("a detached body: %v", err)
	}
}
