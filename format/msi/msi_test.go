package msi

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cfb"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

// small is a file with a stream in each kind of sector, and a storage.
func small(t testing.TB, seed byte) []byte {
	b := pack(t, 0x84, 512, cfb.Change{Name: "Sub", Data: []byte{}}, cfb.Change{Name: "x", Data: []byte{}}, cfb.Change{Name: "mini", Data: sequence(70, seed)})
	b = nest(t, b, "Sub", "x")
	return change(t, b, cfb.Change{Name: "big", Data: sequence(4100, seed)}, cfb.Change{Name: "empty", Data: []byte{}})
}

// tiny has streams in mini-sectors alone.
func tiny(t testing.TB, seed byte) []byte {
	return pack(t, 0x84, 512, cfb.Change{Name: "mini", Data: sequence(70, seed)})
}

// region says what stands at an offset of a file: what the format leaves open.
func region(t testing.TB, b []byte) func(offset int) (open bool) {
	t.Helper()
	c, err := cfb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	covered := make([]bool, len(b))
	var walk func(i int)
	walk = func(i int) {
		for _, j := range c.Entry(i).Children {
			if c.Entry(j).Type == cfb.Storage {
				walk(j)
				continue
			}
			for _, x := range c.Extents(j) {
				for k := x[0]; k < x[0]+x[1]; k++ {
					covered[k] = true
				}
			}
		}
	}
	walk(0)
	dir := map[int]bool{}
	for _, s := range c.DirectorySectors() {
		for k := range c.SectorSize() {
			dir[int(s+1)*c.SectorSize()+k] = true
		}
	}
	extended := bytes.Contains(b, cfb.Name(streamExtended))
	return func(o int) bool {
		if covered[o] {
			return false
		}
		if o < 512 {
			return o >= 0x18 && o < 0x1a || // minor version
				o >= 0x34 && o < 0x38 || // signature number of transactions
				o >= 0x44 && o < 0x48 // no DIFAT: end of chain or free
		}
		if !dir[o] {
			// The tables, of which every byte matters, or space that is not used.
			s := o/c.SectorSize() - 1
			fat := int(le.Uint32(b[0x4c:])+1) * c.SectorSize()
			mark := le.Uint32(b[fat+4*s:])
			mini := int(le.Uint32(b[0x3c:]))
			end := (mini+1)*c.SectorSize() + 4*int((le.Uint32(b[int(c.DirectorySectors()[0]+1)*c.SectorSize()+0x78:])+63)/64)
			return mark != 0xfffffffd && s != mini || o == end // the end may be marked
		}
		at, e := o%128, o/128*128
		kind := b[e+0x42]
		name := int(le.Uint16(b[e+0x40:]))
		size := le.Uint32(b[e+0x78:])
		switch {
		case kind == 0:
			return at != 0x42
		case at < name:
			return !extended || kind == 5
		case at < 0x40:
			return true // after the name
		case at < 0x42:
			return !extended || kind == 5 // length of the name
		case at == 0x43:
			return true // color
		case at < 0x50:
			return true // siblings and children: the order of the tree
		case at < 0x60:
			return kind == 2 // the class of a stream means nothing
		case at < 0x74:
			return !extended || kind == 5 && at >= 0x64 || b[e] == 5
		case at < 0x78:
			return kind == 1 || size == 0
		case at < 0x7c:
			return kind == 1 || kind == 5
		}
		return true // the upper half of a size, with sectors of 512 bytes
	}
}

// Every promise of package format.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name   string
		params format.Params
		make   func(testing.TB, byte) []byte
	}{
		{"extended", format.Params{"description": "Setup"}, small},
		{"plain", format.Params{"extended": "false", "digest": "sha384"}, tiny},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var signed []byte
			var is func(int) bool
			formattest.Run(t, Format{}, formattest.Case{
				Artifact: c.make(t, 1), Other: c.make(t, 2), Name: "a.msi", Params: c.params, Signer: formattest.Identity(t, sigalg.P256),
				Partly:   true, // free sectors and the ends of streams belong to nothing
				Refused:  []format.Params{{"extended": "maybe"}, {"digest": "md5"}, {"url": "ftp://x"}},
				Unsigned: []string{"Facts", "Body"},
				Open: func(b []byte, i int) bool {
					if !bytes.Equal(b, signed) {
						signed = bytes.Clone(b)
						is = region(t, signed)
					}
					return is(i)
				},
			})
		})
	}
}

func TestGoldenPlan(t *testing.T) {
	p, err := (Format{}).Plan(t.Context(), art(small(t, 1)), format.Params{"description": "Setup"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readFile(t, path, "-update writes it"); !bytes.Equal(b, want) {
		t.Errorf("plan %x: want %x", b, want)
	}
}

// Plan of a larger file by another program: it is read once, and its facts are those
// that were put in.
func TestFactsOfWixl(t *testing.T) {
	b := wixl(t, 300_000)
	p, err := (Format{}).Plan(t.Context(), art(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range p.Facts {
		got[f.Name] = f.Value
	}
	for k, v := range map[string]string{
		"kind": "Windows Installer package", "product-name": "Foobar 1.0", "product-version": "1.2.3", "manufacturer": "Acme Ltd.",
		"product-code": "{ABCDDCBA-86C7-4D14-AEC0-86416A69ABDE}", "author": "Acme Ltd.", "signatures": "0",
	} {
		if got[k] != v {
			t.Errorf("%s = %q: want %q", k, got[k], v)
		}
	}
	names := map[string]int64{}
	if err := (Format{}).List(t.Context(), art(b), func(e format.Entry) error { names[e.Name] = e.Size; return nil }); err != nil {
		t.Fatal(err)
	}
	if names["Sample.cab"] < 300_000 || names["!Property"] == 0 || names["SummaryInformation"] == 0 {
		t.Errorf("%v", names)
	}
	want := errors.New("enough")
	if err := (Format{}).List(t.Context(), art(b), func(format.Entry) error { return want }); !errors.Is(err, want) {
		t.Error(err)
	}
}

// The digest goes by the bytes of names, whatever the tree's order; the streams of
// signatures are left out of the root storage and nowhere else.
func TestDigestOrder(t *testing.T) {
	b := pack(t, 0x86, 4096, cfb.Change{Name: "ab", Data: []byte("2")}, cfb.Change{Name: "b", Data: []byte("3")}, cfb.Change{Name: "a", Data: []byte("1")},
		cfb.Change{Name: "\u0100", Data: []byte("0")}) // 00 01 in UTF-16LE: before "a"
	p, err := (Format{}).Plan(t.Context(), art(b), format.Params{"extended": "false"})
	if err != nil {
		t.Fatal(err)
	}
	x := crypto.SHA256.New()
	x.Write([]byte("0123" + "\x86\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"))
	if !bytes.Equal(p.Content, x.Sum(nil)) {
		t.Error("digest differs")
	}
}

// Edits are small, wherever the file has its sectors: nothing else is rewritten.
func TestEditsAreSmall(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	for _, sector := range []int{512, 4096} {
		b := pack(t, 0x84, sector, cfb.Change{Name: "Sample.cab", Data: sequence(9<<20, 1)}, cfb.Change{Name: "x", Data: sequence(100, 1)})
		p, err := (Format{}).Plan(t.Context(), art(b), nil)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := (Format{}).Attach(t.Context(), art(b), p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range patch.Edits {
			n += len(e.Insert)
		}
		if n > 48<<10 {
			t.Errorf("sectors of %d: edits of %d bytes", sector, n)
		}
		if _, err := (Format{}).Verify(t.Context(), art(apply(t, b, patch)), s.Trust()); err != nil {
			t.Errorf("sectors of %d: %v", sector, err)
		}
	}
}

// A signature beside another has the same MsiDigitalSignatureEx, or none as it; the
// first one stays whole. Timestamps come later, signatures go.
func TestSeveralSignatures(t *testing.T) {
	a, b := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384)
	tr := a.Trust()
	tr.Roots.AddCert(b.Root.Certificate)
	for _, first := range []string{"true", "false"} {
		one := seal(t, small(t, 1), a, format.Params{"extended": first})
		two := seal(t, one, b, nil)
		r, err := (Format{}).Verify(t.Context(), art(two), tr)
		if err != nil || len(r.Signatures) != 2 {
			t.Fatalf("extended=%s: %v", first, err)
		}
		if got := strings.Contains(strings.Join(r.Signatures[1].Covers, " "), "names"); got != (first == "true") {
			t.Errorf("extended=%s: covers %v", first, r.Signatures[1].Covers)
		}
		other := map[string]string{"true": "false", "false": "true"}[first]
		if _, err := (Format{}).Plan(t.Context(), art(one), format.Params{"extended": other}); err == nil || !strings.Contains(err.Error(), "would break") {
			t.Errorf("extended=%s beside extended=%s: %v", other, first, err)
		}
		if _, err := (Format{}).Plan(t.Context(), art(one), format.Params{"digest": "sha512"}); (err == nil) != (first == "false") {
			t.Errorf("another digest beside extended=%s: %v", first, err)
		}
		replaced := seal(t, two, b, format.Params{"extended": other, "existing": "replace", "digest": "sha512"})
		if r, err = (Format{}).Verify(t.Context(), art(replaced), tr); err != nil || len(r.Signatures) != 1 {
			t.Errorf("replaced: %v", err)
		}
		todo, err := (Format{}).Unstamped(t.Context(), art(two), nil)
		if err != nil || len(todo) != 2 {
			t.Fatal(err)
		}
		patch, err := (Format{}).Stamp(t.Context(), art(two), nil, todo[1], a.Timestamp(t, todo[1].Message, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		stamped := apply(t, two, patch)
		if r, err = (Format{}).Verify(t.Context(), art(stamped), tr); err != nil || r.Signatures[1].Time.IsZero() {
			t.Errorf("stamped: %v", err)
		}
		if patch, err = (Format{}).Remove(t.Context(), art(stamped), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := (Format{}).Verify(t.Context(), art(apply(t, stamped, patch)), b.Trust()); err == nil {
			t.Error("a timestamp of a stranger was believed")
		}
		if r, err = (Format{}).Verify(t.Context(), art(apply(t, stamped, patch)), tr); err != nil || len(r.Signatures) != 1 || r.Signatures[0].Subject != b.Chain[0].Subject.String() {
			t.Errorf("the first taken off: %v", err)
		}
	}
}

// What others get wrong: a changed MsiDigitalSignatureEx, or one taken away, does
// not make an extended signature a plain one.
func TestExtendedCannotBeStripped(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, small(t, 1), s, nil)
	m, err := open(t.Context(), art(b))
	if err != nil {
		t.Fatal(err)
	}
	pre := m.extended
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"taken away": {change(t, b, cfb.Change{Name: streamExtended}), authenticode.ErrDigest},
		"changed":    {change(t, b, cfb.Change{Name: streamExtended, Data: make([]byte, 32)}), ErrExtended},
		"empty":      {change(t, b, cfb.Change{Name: streamExtended, Data: []byte{}}), ErrExtended},
		"added": {change(t, seal(t, small(t, 1), s, format.Params{"extended": "false"}),
			cfb.Change{Name: streamExtended, Data: sequence(32, 1)}), ErrExtended},
		"renamed stream":       {bytes.Replace(b, cfb.Name("mini"), cfb.Name("minj"), 1), ErrExtended},
		"renamed to the front": {bytes.Replace(b, cfb.Name(streamExtended), cfb.Name("\x04MsiDigitalSignatureEx"), 1), ErrExtended},
		"cut in two":           {change(t, b, cfb.Change{Name: streamExtended}, cfb.Change{Name: "\x041", Data: pre[:7]}, cfb.Change{Name: "\x042", Data: pre[7:]}), ErrExtended},
		"signature away":       {change(t, b, cfb.Change{Name: streamSignature}), nil},
	} {
		_, err := (Format{}).Verify(t.Context(), art(c.b), s.Trust())
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v: want %v", name, err, c.want)
		}
	}
	// Without it a stream may be renamed: the report says so.
	b = seal(t, small(t, 1), s, format.Params{"extended": "false"})
	r, err := (Format{}).Verify(t.Context(), art(bytes.Replace(b, cfb.Name("mini"), cfb.Name("minj"), 1)), s.Trust())
	if err != nil || !strings.Contains(strings.Join(r.Signatures[0].Open, " "), "names") {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestOtherCompoundFiles(t *testing.T) {
	for name, b := range map[string][]byte{
		"document": pack(t, 0x00, 512), "text": []byte(strings.Repeat("x", 2000)), "empty": nil, "short": []byte(cfb.Magic),
	} {
		if (Format{}).Detect(art(b)) {
			t.Errorf("%s is detected", name)
		}
		if _, err := (Format{}).Plan(t.Context(), art(b), nil); !errors.Is(err, ErrNotMSI) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for kind, want := range map[byte]string{0x82: "transform", 0x84: "package", 0x86: "patch"} {
		b := pack(t, kind, 512, cfb.Change{Name: "x", Data: []byte("x")})
		r, err := (Format{}).Inspect(t.Context(), art(b))
		if err != nil || !(Format{}).Detect(art(b)) || r.Facts[0].Value != "Windows Installer "+want || len(r.Signatures) != 0 {
			t.Errorf("%x: %v, %v", kind, r, err)
		}
	}
}

// hole is a file with a great many zeros in its middle.
type hole struct {
	head, tail []byte
	size       int64
}

func (h *hole) Name() string { return "large.msi" }
func (h *hole) Size() int64  { return h.size }
func (h *hole) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= h.size {
		return 0, io.EOF
	}
	clear(p)
	if off < int64(len(h.head)) {
		copy(p, h.head[off:])
	}
	at := h.size - int64(len(h.tail))
	if end := off + int64(len(p)); end > at {
		if off < at {
			copy(p[at-off:], h.tail)
		} else {
			copy(p, h.tail[off-at:])
		}
	}
	if off+int64(len(p)) > h.size {
		return int(h.size - off), io.EOF
	}
	return len(p), nil
}

// An MSI of more than 2 GiB: tables and streams stand behind 2 GiB of sectors that
// are free, with sectors of both sizes. It is planned, signed and verified; the
// signature goes into free sectors.
func TestMoreThan2GiB(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			h := large(t, sector)
			s := formattest.Identity(t, sigalg.P256)
			p, err := (Format{}).Plan(t.Context(), h, nil)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := (Format{}).Attach(t.Context(), h, p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
			if err != nil {
				t.Fatal(err)
			}
			if err := patch.Check(); err != nil {
				t.Fatal(err)
			}
			n := 0
			at := h.size - int64(len(h.tail))
			for i := len(patch.Edits) - 1; i >= 0; i-- {
				e := patch.Edits[i]
				n += len(e.Insert)
				switch {
				case e.Offset >= at:
					o := e.Offset - at
					h.tail = append(append(bytes.Clone(h.tail[:o]), e.Insert...), h.tail[o+e.Delete:]...)
				case e.Offset+e.Delete <= int64(len(h.head)) && e.Delete == int64(len(e.Insert)):
					copy(h.head[e.Offset:], e.Insert)
				default:
					t.Fatalf("edit at %d", e.Offset)
				}
			}
			h.size = patch.NewSize()
			if n > 128<<10 {
				t.Errorf("edits of %d bytes", n)
			}
			if _, err := (Format{}).Verify(t.Context(), h, s.Trust()); err != nil {
				t.Fatal(err)
			}
			h.tail[bytes.Index(h.tail, sequence(4100, 1)[:40])] ^= 1
			if _, err := (Format{}).Verify(t.Context(), h, s.Trust()); err == nil {
				t.Error("a changed stream is accepted")
			}
		})
	}
}

// large moves the directory, the mini FAT and all streams of a small file behind
// 2 GiB that belong to one more stream's... nothing: they are free, apart from the
// tables at the front.
func large(t testing.TB, sector int) *hole {
	t.Helper()
	le := binary.LittleEndian
	src := pack(t, 0x84, sector, cfb.Change{Name: "mini", Data: sequence(70, 1)}, cfb.Change{Name: "big", Data: sequence(4100, 1)})
	words := uint32(sector / 4)
	count := uint32(len(src)/sector - 1)
	first := uint32(2<<30/sector) + 64 // where the small file's first sector goes
	n := first + count
	fats := (n + words - 1) / words
	difats := uint32(0)
	if fats > 109 {
		difats = (fats - 109 + words - 2) / (words - 1)
	}
	h := &hole{size: (int64(n) + 1) * int64(sector), head: make([]byte, (int64(fats+difats)+65)*int64(sector)), tail: bytes.Clone(src[sector:])}
	copy(h.head, src[:sector])
	move := func(b []byte) {
		if v := le.Uint32(b); v < count {
			le.PutUint32(b, v+first)
		}
	}
	// The small file has one table sector: its links move.
	fat := make([]byte, fats*uint32(sector))
	for i := 0; i < len(fat); i += 4 {
		le.PutUint32(fat[i:], 0xffffffff)
	}
	old := int(le.Uint32(src[0x4c:]))
	for i := range count {
		e := src[(old+1)*sector+4*int(i):][:4]
		if int(i) != old {
			copy(fat[4*(first+i):], e)
			move(fat[4*(first+i):][:4])
		}
	}
	clear(h.tail[old*sector:][:sector]) // free now
	for i := range fats {
		le.PutUint32(fat[4*i:], 0xfffffffd)
	}
	for i := range difats {
		le.PutUint32(fat[4*(fats+i):], 0xfffffffc)
	}
	if lock := uint32(0x7fffff00/sector - 1); lock < n {
		le.PutUint32(fat[4*lock:], 0xfffffffe)
	}
	copy(h.head[sector:], fat)
	le.PutUint32(h.head[0x2c:], fats)
	for _, at := range []int{0x30, 0x3c} {
		move(h.head[at:])
	}
	for i := range min(fats, 109) {
		le.PutUint32(h.head[0x4c+4*i:], i)
	}
	if difats > 0 {
		le.PutUint32(h.head[0x44:], fats)
		le.PutUint32(h.head[0x48:], difats)
		d := h.head[int(fats+1)*sector:]
		for i := 0; i < len(d); i += 4 {
			le.PutUint32(d[i:], 0xffffffff)
		}
		for k := uint32(109); k < fats; k++ {
			i := (k - 109) / (words - 1)
			le.PutUint32(d[int(i)*sector+int((k-109)%(words-1))*4:], k)
		}
		for i := range difats {
			next := uint32(0xfffffffe)
			if i+1 < difats {
				next = fats + i + 1
			}
			le.PutUint32(d[int(i+1)*sector-4:], next)
		}
	}
	dir := h.tail[int(le.Uint32(src[0x30:]))*sector:]
	for i := range sector / 128 {
		e := dir[i*128:]
		if e[0x42] == 5 || e[0x42] == 2 && le.Uint32(e[0x78:]) >= 4096 {
			move(e[0x74:])
		}
	}
	return h
}

// Whatever is accepted can be planned, signed and verified.
func FuzzPlan(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	seeds := [][]byte{small(f, 1), pack(f, 0x86, 4096, cfb.Change{Name: "a", Data: []byte("b")}), seal(f, small(f, 1), s, nil)}
	for _, b := range seeds {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := (Format{}).Plan(t.Context(), art(b), format.Params{"existing": "replace"})
		if err != nil {
			return
		}
		patch, err := (Format{}).Attach(t.Context(), art(b), p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		signed := apply(t, b, patch)
		if _, err := (Format{}).Verify(t.Context(), art(signed), s.Trust()); err != nil {
			t.Fatal(err)
		}
		_ = (Format{}).List(t.Context(), art(signed), func(format.Entry) error { return nil })
	})
}

// Nobody without a key makes a file that verifies: its digest is a seed's.
func FuzzVerify(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	known := map[string]bool{}
	for _, params := range []format.Params{nil, {"extended": "false"}} {
		b := seal(f, small(f, 1), s, params)
		f.Add(b)
		r, err := (Format{}).Verify(f.Context(), art(b), s.Trust())
		if err != nil {
			f.Fatal(err)
		}
		known[string(r.Signatures[0].Content)] = true
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := (Format{}).Verify(t.Context(), art(b), s.Trust()); err == nil && !known[string(r.Signatures[0].Content)] {
			t.Error("a new file verifies")
		}
		_, _ = (Format{}).Inspect(t.Context(), art(b))
	})
}
