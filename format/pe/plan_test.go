package pe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write golden files")

// Invariant 2: plans are frozen. A change here breaks every plan that waits for
// its endorsement: make a new version of the body instead.
func TestGoldenPlans(t *testing.T) {
	var out strings.Builder
	all := recipes()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		params := format.Params{}
		if name == "pages" {
			params = format.Params{"page-hashes": "true", "digest": "sha512", "description": "Größe", "url": "https://example.com/"}
		}
		b := all[name].make()
		enc, err := plan(t, b, params).Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := plan(t, b, params).Encode()
		if err != nil || !bytes.Equal(enc, again) {
			t.Errorf("%s: planned twice, two plans (%v)", name, err)
		}
		// What is signed follows from plan and scheme: the certificate is not in it.
		tbs, err := Format{}.Assemble(plan(t, b, params), newPKI(t).ids["p256"].id, time.Time{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n%s\n%s\n", name, hex.EncodeToString(enc), hex.EncodeToString(tbs[0].Message))
	}
	golden := filepath.Join("testdata", "plans.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("plans differ from %s", golden)
	}
}

// What verified once verifies for ever: a file that was signed and stamped when
// this test was written.
func TestFrozenSignature(t *testing.T) {
	exe, root := filepath.Join("testdata", "signed.exe"), filepath.Join("testdata", "root.der")
	if *update {
		p := newPKI(t)
		b := recipes()["pages"].make()
		stamp := func(v []byte) []byte { return p.token(t, v) }
		b = p.ids["rsa"].seal(t, b, format.Params{"page-hashes": "true", "description": "Frozen"}, stamp)
		b = p.ids["p384"].seal(t, b, format.Params{"digest": "sha512"}, stamp)
		for f, data := range map[string][]byte{exe: b, root: p.root.Raw} {
			if err := os.WriteFile(f, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	ca, err := x509.ParseCertificate(readFile(t, root, "nothing: the file belongs here"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	r, err := verify(readFile(t, exe, "nothing: the file belongs here"), format.Trust{Roots: pool, TimestampRoots: pool, Now: time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil || len(r.Signatures) != 2 || r.Signatures[0].Digest != "sha256" || r.Signatures[1].Digest != "sha512" || len(r.Signatures[0].Covers) != 2 {
		t.Errorf("%v: %+v", err, r)
	}
}

// The digest, the sum and the pages are those of a plain computation over the
// whole file, wherever the chunks end.
func TestScanIsThePlainComputation(t *testing.T) {
	for _, n := range []int{1, 7, 4096, chunkSize - 513, chunkSize - 512, chunkSize - 511, 2*chunkSize + 3000} {
		b := recipe{plus: true, sections: []raw{text(512, n)}, overlay: text(0, n%5).data}.make()
		im := mustParse(t, b)
		s, err := scan(context.Background(), file(b), im, []crypto.Hash{crypto.SHA256, crypto.SHA512}, true)
		if err != nil {
			t.Fatal(err)
		}
		padded := append(bytes.Clone(b), make([]byte, padding(int64(len(b))))...)
		for h, got := range s.digests {
			d := h.New()
			d.Write(padded[:im.checksumAt])
			d.Write(padded[im.checksumAt+4 : im.directoryAt])
			d.Write(padded[im.directoryAt+8:])
			if !bytes.Equal(got, d.Sum(nil)) {
				t.Errorf("%d bytes: %v differs", n, h)
			}
		}
		if c := checksum(s.sum, int64(len(b))); c != naiveChecksum(b, im.checksumAt) {
			t.Errorf("%d bytes: checksum %#x: want %#x", n, c, naiveChecksum(b, im.checksumAt))
		}
		head := append(append(append(bytes.Clone(b[:im.checksumAt]), b[im.checksumAt+4:im.directoryAt]...), b[im.directoryAt+8:512]...), make([]byte, pageSize-512)...)
		want := sha256.Sum256(head)
		pages := append(le(4, 0), want[:]...)
		for at := 0; at < n; at += pageSize {
			page := make([]byte, pageSize)
			copy(page, b[512+at:min(512+n, 512+at+pageSize)])
			want := sha256.Sum256(page)
			pages = append(append(pages, le(4, 512+at)...), want[:]...)
		}
		pages = append(append(pages, le(4, 512+n)...), make([]byte, 32)...)
		if !bytes.Equal(s.pages, pages) {
			t.Errorf("%d bytes: page hashes differ", n)
		}
	}
}

// counted counts what is read, and ends or fails the reading where it is told.
type counted struct {
	mem
	read   atomic.Int64
	failAt int64 // reads from here on fail
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	if c.failAt > 0 && off+int64(len(b)) > c.failAt {
		return 0, errors.New("disk on fire")
	}
	c.read.Add(int64(len(b)))
	return c.mem.ReadAt(b, off)
}

// Invariant 1: Plan reads a file once but for its headers, and Attach reads the
// headers alone.
func TestFilesAreReadOnce(t *testing.T) {
	p := newPKI(t)
	id := p.ids["p256"]
	b := recipe{plus: true, sections: []raw{text(512, 5<<20)}}.make()
	a := &counted{mem: file(b)}
	pl, err := Format{}.Plan(context.Background(), a, format.Params{"page-hashes": "true"})
	if err != nil {
		t.Fatal(err)
	}
	if n := a.read.Load(); n > int64(len(b))+2048 {
		t.Errorf("plan read %d bytes of a file of %d", n, len(b))
	}
	tbs, err := Format{}.Assemble(pl, id.id, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a = &counted{mem: file(b), failAt: 2048}
	patch, err := Format{}.Attach(context.Background(), a, pl, id.id, time.Time{}, []format.Signature{{Value: id.sign(t, tbs[0].Message)}})
	if err != nil {
		t.Fatal(err)
	}
	signed := apply(t, b, patch)
	a = &counted{mem: file(signed)}
	if _, err := (Format{}).Verify(context.Background(), a, p.trust()); err != nil {
		t.Fatal(err)
	}
	if n := a.read.Load(); n > int64(len(signed))+2048 {
		t.Errorf("verify read %d bytes of a file of %d", n, len(signed))
	}
	a = &counted{mem: file(signed), failAt: 3 << 20}
	if _, err := (Format{}).Plan(context.Background(), a, format.Params{"existing": "replace"}); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("a failing disk: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (Format{}).Plan(ctx, file(b), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// huge is a large image of which nothing but the headers is stored.
type huge struct {
	head []byte
	size int64
}

func (h huge) Name() string { return "huge.exe" }
func (h huge) Size() int64  { return h.size }
func (h huge) ReadAt(b []byte, off int64) (int, error) {
	if off >= h.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), h.size-off))
	m := 0
	if off < int64(len(h.head)) {
		m = copy(b[:n], h.head[off:])
	}
	clear(b[m:n])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Invariant 1: memory does not grow with the file.
func TestPlanMemoryIsConstant(t *testing.T) {
	const size = 160 << 20
	b := recipe{plus: true, sections: []raw{text(512, 512)}}.make()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := (Format{}).Plan(context.Background(), huge{b, size}, nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes were allocated for a file of %d", n, size)
	}
}

// Invariant 2: Assemble refuses what no Plan made.
func TestAssembleIsStrict(t *testing.T) {
	id := newPKI(t).ids["p256"].id
	b := recipes()["pages"].make()
	signed := newPKI(t).ids["p256"].seal(t, recipes()["pe32+"].make(), nil, nil)
	fresh := func(table bool) *format.Plan {
		if table {
			return plan(t, signed, nil)
		}
		return plan(t, b, format.Params{"page-hashes": "true"})
	}
	if _, err := (Format{}).Assemble(fresh(false), id, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	inBody := func(f func(*body)) func(*format.Plan) {
		return func(p *format.Plan) {
			var b body
			if err := format.Decode(p.Body, &b); err != nil {
				t.Fatal(err)
			}
			f(&b)
			var err error
			if p.Body, err = format.Encode(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	param := func(name, value string) func(*format.Plan) {
		return func(p *format.Plan) {
			for i := range p.Params {
				if p.Params[i].Name == name {
					p.Params[i].Value = value
				}
			}
		}
	}
	for _, c := range []struct {
		name  string
		table bool
		edit  func(*format.Plan)
	}{
		{"format", false, func(p *format.Plan) { p.Format = "msi" }},
		{"version", false, func(p *format.Plan) { p.Version = 2 }},
		{"digest", false, func(p *format.Plan) { p.Digest, p.Content = "sha512", make([]byte, 64) }},
		{"short content", false, func(p *format.Plan) { p.Content = p.Content[:31] }},
		{"size", false, func(p *format.Plan) { p.Size++ }},
		{"option left out", false, func(p *format.Plan) { p.Params = p.Params[1:] }},
		{"unknown option", false, func(p *format.Plan) { p.Params[0].Name = "colour" }},
		{"option value", false, param("existing", "lose")},
		{"page hashes denied", false, param("page-hashes", "false")},
		{"page hashes claimed", true, param("page-hashes", "true")},
		{"control character", false, param("description", "a\x1b[2J")},
		{"direction character", false, param("description", "a\u202eb")},
		{"url with space", false, param("url", "https://a b")},
		{"url with script", false, param("url", "javascript:alert(1)")},
		{"long url", false, param("url", "https://"+strings.Repeat("a", authenticode.MaxOpus))},
		{"trailing byte", false, func(p *format.Plan) { p.Body = append(p.Body, 0) }},
		{"empty body", false, func(p *format.Plan) { p.Body = nil }},
		{"machine", false, inBody(func(b *body) { b.Machine = 0xaa64 })},
		{"library", false, inBody(func(b *body) { b.DLL = true })},
		{"told another kind", false, func(p *format.Plan) { p.Facts[0].Value = "text" }},
		{"no facts", false, func(p *format.Plan) { p.Facts = nil }},
		{"magic", false, inBody(func(b *body) { b.Magic = 0x107 })},
		{"other magic", false, inBody(func(b *body) { b.Magic = magicPE32 })},
		{"checksum in the DOS header", false, inBody(func(b *body) { b.ChecksumAt, b.DirectoryAt = 60, 60+80 })},
		{"checksum not aligned", false, inBody(func(b *body) { b.ChecksumAt++; b.DirectoryAt++ })},
		{"directory elsewhere", false, inBody(func(b *body) { b.DirectoryAt += 8 })},
		{"short headers", false, inBody(func(b *body) { b.HeadSize = b.DirectoryAt })},
		{"long headers", false, inBody(func(b *body) { b.HeadSize = b.End + 1 })},
		{"headers' digest", false, inBody(func(b *body) { b.Head = b.Head[1:] })},
		{"negative end", false, inBody(func(b *body) { b.End = -8 })},
		{"negative table", false, inBody(func(b *body) { b.End += 8; b.TableSize = -8 })},
		{"end", false, inBody(func(b *body) { b.End -= 8 })},
		{"table appears", false, inBody(func(b *body) { b.Table = make([]byte, 32) })},
		{"table's digest", true, inBody(func(b *body) { b.Table = nil })},
		{"table not aligned", true, inBody(func(b *body) { b.End--; b.TableSize++ })},
		{"page left out", false, inBody(func(b *body) { b.Pages = append(bytes.Clone(b.Pages[:pageEntry]), b.Pages[2*pageEntry:]...) })},
		{"page elsewhere", false, inBody(func(b *body) { b.Pages[pageEntry]++ })},
		{"last page not zero", false, inBody(func(b *body) { b.Pages[len(b.Pages)-1] = 1 })},
		{"no pages", false, inBody(func(b *body) { b.Pages = nil })},
		{"no sections", false, inBody(func(b *body) { b.Spans = nil })},
		{"section over headers", false, inBody(func(b *body) { b.Spans[0].Offset = 0 })},
		{"section beyond the end", false, inBody(func(b *body) { b.Spans[2].Size = 1 << 30 })},
		{"sections out of order", false, inBody(func(b *body) { b.Spans[0], b.Spans[1] = b.Spans[1], b.Spans[0] })},
		{"empty section", false, inBody(func(b *body) { b.Spans[0].Size = 0 })},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := fresh(c.table)
			c.edit(p)
			if _, err := (Format{}).Assemble(p, id, time.Time{}, nil); err == nil {
				t.Error("accepted")
			}
		})
	}
	if _, err := (Format{}).Assemble(fresh(false), id, time.Time{}, [][]byte{{1}, {2}}); err == nil {
		t.Error("two rounds")
	}
	for name, i := range map[string]format.Identity{
		"no chain":      {Scheme: id.Scheme, Public: id.Public},
		"no key":        {Scheme: id.Scheme, Chain: id.Chain},
		"other scheme":  {Scheme: sigalg.RSAPKCS1SHA256, Public: id.Public, Chain: id.Chain},
		"other key":     {Scheme: id.Scheme, Public: newPKI(t).ids["p384"].id.Public, Chain: id.Chain},
		"ed25519":       {Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(make([]byte, 32)), Chain: id.Chain},
		"issuer's cert": {Scheme: id.Scheme, Public: id.Chain[1].PublicKey, Chain: id.Chain[1:]},
	} {
		if _, err := (Format{}).Assemble(fresh(false), i, time.Time{}, nil); err == nil {
			t.Errorf("identity with %s accepted", name)
		}
	}
}

// Facts about a version stand in no signature: Assemble cannot tell whether they
// are so, but it refuses those that contradict the body, that no Plan makes, and
// that would command a terminal.
func TestFactsThatNoPlanMakes(t *testing.T) {
	k := newPKI(t).ids["p256"]
	unsigned := withVersion("ProductName", "Setup", "FileVersion", "1.2").make()
	once := k.seal(t, unsigned, nil, nil)
	fact := func(name, value string) format.Fact { return format.Fact{Name: name, Value: value} }
	for _, params := range []format.Params{nil, {"existing": "replace"}} {
		for _, b := range [][]byte{unsigned, once, k.seal(t, once, nil, nil)} {
			if _, err := (Format{}).Assemble(plan(t, b, params), k.id, time.Time{}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := func(p *format.Plan) *format.Fact { return &p.Facts[len(p.Facts)-1] }
	for _, c := range []struct {
		name  string
		image []byte
		edit  func(*format.Plan)
	}{
		{"a kind once more", unsigned, func(p *format.Plan) { p.Facts = append(p.Facts, p.Facts[0]) }},
		{"another name", unsigned, func(p *format.Plan) { p.Facts = append(p.Facts, fact("scanned", "clean")) }},
		{"another name between", unsigned, func(p *format.Plan) { p.Facts = slices.Insert(p.Facts, 3, fact("recomputed", "yes")) }},
		{"a version twice", unsigned, func(p *format.Plan) { p.Facts = slices.Insert(p.Facts, 4, p.Facts[3]) }},
		{"another order", unsigned, func(p *format.Plan) { p.Facts[3], p.Facts[4] = p.Facts[4], p.Facts[3] }},
		{"an empty version", unsigned, func(p *format.Plan) { p.Facts[3].Value = "" }},
		{"an escape sequence", unsigned, func(p *format.Plan) { p.Facts[3].Value = "Setup\x1b[2J" }},
		{"a line", unsigned, func(p *format.Plan) { p.Facts[3].Value = "Setup\nfound scanned = clean" }},
		{"another direction", unsigned, func(p *format.Plan) { p.Facts[3].Value = "Setup\u202e" }},
		{"a long version", unsigned, func(p *format.Plan) { p.Facts[3].Value = strings.Repeat("1", maxVersionText+1) }},
		{"no word on signatures", unsigned, func(p *format.Plan) { p.Facts = p.Facts[:len(p.Facts)-1] }},
		{"a signature where there is no table", unsigned, func(p *format.Plan) {
			last(p).Value = "1"
			p.Facts = append(p.Facts, fact("signer", "primary: CN=Somebody"))
		}},
		{"an unreadable table where there is none", unsigned, func(p *format.Plan) { last(p).Value = "not readable" }},
		{"a signer where there is no table", unsigned, func(p *format.Plan) { p.Facts = append(p.Facts, fact("signer", "primary: CN=Somebody")) }},
		{"no signature where there is a table", once, func(p *format.Plan) { p.Facts = p.Facts[:len(p.Facts)-1]; last(p).Value = "0" }},
		{"more signatures than signers", once, func(p *format.Plan) { p.Facts[len(p.Facts)-2].Value = "2" }},
		{"more signers than signatures", once, func(p *format.Plan) { p.Facts = append(p.Facts, *last(p)) }},
		{"a number in another form", once, func(p *format.Plan) { p.Facts[len(p.Facts)-2].Value = "+1" }},
		{"an unreadable table that is kept", once, func(p *format.Plan) { p.Facts = p.Facts[:len(p.Facts)-1]; last(p).Value = "not readable" }},
		{"a signer with an escape sequence", once, func(p *format.Plan) { last(p).Value += "\x1b[2J" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(t, c.image, nil)
			p.Facts = own(t, p)
			c.edit(p)
			if _, err := (Format{}).Assemble(p, k.id, time.Time{}, nil); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// Attach refuses files that are not the planned one, and signatures that do not fit.
func TestAttachIsStrict(t *testing.T) {
	p := newPKI(t)
	id := p.ids["p256"]
	ctx := context.Background()
	b := id.seal(t, recipes()["pe32+"].make(), nil, nil)
	pl := plan(t, b, nil)
	tbs, err := Format{}.Assemble(pl, id.id, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig := format.Signature{Value: id.sign(t, tbs[0].Message)}
	im := mustParse(t, b)
	flip := func(at int64) []byte { c := bytes.Clone(b); c[at] ^= 1; return c }
	for name, c := range map[string][]byte{
		"longer": append(bytes.Clone(b), make([]byte, 8)...), "header": flip(70), "DOS stub": flip(30), "checksum": flip(im.checksumAt),
		"table": flip(im.size - 20), "no image": make([]byte, len(b)),
	} {
		if _, err := (Format{}).Attach(ctx, file(c), pl, id.id, time.Time{}, []format.Signature{sig}); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := bytes.Clone(sig.Value)
	bad[len(bad)-1] ^= 1
	for name, sigs := range map[string][]format.Signature{
		"none": nil, "two": {sig, sig}, "wrong": {{Value: bad}}, "empty": {{}},
		"wrong timestamp":  {{Value: sig.Value, Timestamp: p.token(t, bad)}},
		"broken timestamp": {{Value: sig.Value, Timestamp: []byte{1}}},
	} {
		if _, err := (Format{}).Attach(ctx, file(b), pl, id.id, time.Time{}, sigs); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A change while the file is read is seen where headers were read before.
func TestFileThatChangesIsRefused(t *testing.T) {
	b := recipe{plus: true, headers: 2048, sections: []raw{text(2048, 512)}}.make()
	a := &changing{mem: file(b)}
	if _, err := (Format{}).Plan(context.Background(), a, nil); !errors.Is(err, ErrChanged) {
		t.Errorf("error %v", err)
	}
}

// The version is read apart from the pass that makes the digest: what is shown
// must be what was hashed.
func TestVersionThatChangesIsRefused(t *testing.T) {
	p := newPKI(t)
	b := withVersion("ProductName", "Setup", "CompanyName", "Us").make()
	utf := func(s string) []byte { return []byte(strings.Join(strings.Split(s, ""), "\x00") + "\x00") }
	l := lying{mem: file(b), from: utf("Setup"), to: utf("Other"), beyond: int64(len(mustParse(t, b).head))}
	if _, err := (Format{}).Plan(context.Background(), l, nil); !errors.Is(err, ErrChanged) {
		t.Errorf("plan: error %v", err)
	}
	l.mem = file(p.ids["p256"].seal(t, b, nil, nil))
	if _, err := (Format{}).Verify(context.Background(), l, p.trust()); !errors.Is(err, ErrChanged) {
		t.Errorf("verify: error %v", err)
	}
}

// lying gives other bytes when it is read from behind the headers on.
type lying struct {
	mem
	from, to []byte
	beyond   int64
}

func (l lying) ReadAt(b []byte, off int64) (int, error) {
	n, err := l.mem.ReadAt(b, off)
	if off >= l.beyond {
		copy(b, bytes.Replace(b[:n], l.from, l.to, 1))
	}
	return n, err
}

// changing gives other bytes when the headers are read again.
type changing struct {
	mem
	seen atomic.Bool
}

func (c *changing) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.mem.ReadAt(b, off)
	if len(b) == 2048 && off == 0 {
		c.seen.Store(true)
	} else if c.seen.Load() && n > 200 {
		b[200] ^= 1
	}
	return n, err
}

// versionResource makes the resource directory and a VERSIONINFO, as a section
// at rva.
func versionResource(rva int, strs ...string) []byte {
	var w func(key string, value []byte, words int, children ...[]byte) []byte
	u16 := func(s string) []byte {
		var b []byte
		for _, c := range utf16.Encode([]rune(s + "\x00")) {
			b = append(b, le(2, int(c))...)
		}
		return b
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }
	w = func(key string, value []byte, words int, children ...[]byte) []byte {
		b := append(append(le(2, 0), le(2, words)...), le(2, 1)...)
		b = append(pad(append(b, u16(key)...)), value...)
		for _, c := range children {
			b = append(pad(b), c...)
		}
		copy(b, le(2, len(b)))
		return b
	}
	var entries [][]byte
	for i := 0; i < len(strs); i += 2 {
		v := u16(strs[i+1])
		entries = append(entries, w(strs[i], v, len(v)/2))
	}
	info := w("VS_VERSION_INFO", make([]byte, 52), 52, w("VarFileInfo", nil, 0), w("StringFileInfo", nil, 0, w("040904b0", nil, 0, entries...)))
	dir := func(id, to int) []byte {
		b := make([]byte, 24)
		copy(b[14:], le(2, 1))
		copy(b[16:], le(4, id))
		copy(b[20:], le(4, to))
		return b
	}
	b := append(dir(16, 1<<31|24), dir(1, 1<<31|48)...)
	b = append(b, dir(0x409, 72)...)
	b = append(b, le(4, rva+88)...)
	b = append(b, le(4, len(info))...)
	b = append(b, make([]byte, 8)...)
	return append(b, info...)
}

func withVersion(strs ...string) recipe {
	d := versionResource(0x3000, strs...)
	return recipe{plus: true, resources: 0x3000, sections: []raw{text(512, 512), {offset: 1024, size: len(d), rva: 0x3000, data: d}}}
}

func TestVersionFacts(t *testing.T) {
	good := withVersion("CompanyName", "Example Ltd", "FileVersion", "1.2.3.4", "ProductName", "Süß \u202egnp.exe\x1b", "ProductVersion", " 1.2 ", "OriginalFilename", "a.exe", "Comments", "x")
	facts := func(b []byte) string {
		var out []string
		for _, f := range own(t, plan(t, b, nil)) {
			if strings.Contains(f.Name, "-") {
				out = append(out, f.Name+"="+f.Value)
			}
		}
		return strings.Join(out, ";")
	}
	want := "product-name=Süß \ufffdgnp.exe\ufffd;product-version=1.2;file-version=1.2.3.4;company-name=Example Ltd;original-filename=a.exe"
	if got := facts(good.make()); got != want {
		t.Errorf("facts %s: want %s", got, want)
	}
	// Broken resources give fewer facts and still a plan.
	b := good.make()
	for i := 1024; i < len(b); i++ {
		for _, v := range []byte{0, 0x7f, 0xff} {
			c := bytes.Clone(b)
			c[i] = v
			facts(c)
		}
	}
	nested := withVersion("A", "b").make()
	copy(nested[1024+20:], le(4, 1<<31)) // the tree leads back to its root
	copy(nested[1024+44:], le(4, 1<<31))
	copy(nested[1024+68:], le(4, 1<<31))
	if got := facts(nested); got != "" {
		t.Errorf("facts of a loop: %s", got)
	}
	if got := facts(withVersion("FileVersion", "1", "FileVersion", "2").make()); got != "" {
		t.Errorf("facts of a string that stands twice: %s", got)
	}
	if got := facts(readFile(t, "/usr/share/nsis/Plugins/amd64-unicode/System.dll", "nsis-common")); got != "" {
		t.Errorf("facts of a plugin without version: %s", got)
	}
}

// The kind is read from the headers.
func TestKindFacts(t *testing.T) {
	for want, b := range map[string][]byte{
		"PE32+ executable, x86-64, Windows console": program(t, "amd64"),
		"PE32 executable, x86, Windows console":     program(t, "386"),
		"PE32+ executable, ARM64, Windows console":  program(t, "arm64"),
		"PE32+ library (DLL), x86-64, Windows GUI":  readFile(t, "/usr/share/nsis/Plugins/amd64-unicode/System.dll", "nsis-common"),
		"PE32+ executable, x86-64, EFI application": readFile(t, "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "grub-efi-amd64-bin"),
	} {
		if !(Format{}).Detect(file(b)) {
			t.Errorf("%s is not detected", want)
		}
		if got := plan(t, b, nil).Facts[0]; got != (format.Fact{Name: "kind", Value: want}) {
			t.Errorf("%v: want %s", got, want)
		}
	}
	for _, b := range [][]byte{nil, []byte("MZ"), make([]byte, 100), append([]byte("MZ"), make([]byte, 200)...)} {
		if (Format{}).Detect(file(b)) {
			t.Errorf("%x is detected", b)
		}
	}
	p := newPKI(t)
	b := p.ids["p256"].seal(t, p.ids["rsa"].seal(t, recipes()["pe32"].make(), nil, nil), nil, nil)
	facts := fmt.Sprint(plan(t, b, nil).Facts)
	if !strings.Contains(facts, "{signatures 2} {signer primary: CN=Signer rsa,O=Example} {signer nested 1: CN=Signer p256,O=Example}") {
		t.Error(facts)
	}
	r, err := Format{}.Inspect(context.Background(), file(b))
	if err != nil || len(r.Signatures) != 2 || r.Signatures[1].Subject != "CN=Signer p256,O=Example" || !bytes.Equal(r.Signatures[0].Content, plan(t, b, nil).Content) {
		t.Errorf("%v: %+v", err, r)
	}
}

// BenchmarkPlan compares a plan with the plain SHA-256 of the same bytes in the
// same run: cpu-ratio is in CPU time, wall-ratio in time on the clock.
func BenchmarkPlan(b *testing.B) {
	data := recipe{plus: true, sections: []raw{text(512, 512)}, overlay: bytes.Repeat(text(0, 1<<20).data, 192)}.make()
	path := filepath.Join(b.TempDir(), "big.exe")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	a := onDisk{f, int64(len(data))}
	var plain, plans [2]time.Duration
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		x, t0 := cpu(), time.Now()
		h := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(f, 0, a.size), make([]byte, 256<<10)); err != nil {
			b.Fatal(err)
		}
		h.Sum(nil)
		y, t1 := cpu(), time.Now()
		if _, err := (Format{}).Plan(context.Background(), a, nil); err != nil {
			b.Fatal(err)
		}
		z, t2 := cpu(), time.Now()
		plain[0] += y - x
		plans[0] += z - y
		plain[1] += t1.Sub(t0)
		plans[1] += t2.Sub(t1)
	}
	b.ReportMetric(float64(plans[0])/float64(plain[0]), "cpu-ratio")
	b.ReportMetric(float64(plans[1])/float64(plain[1]), "wall-ratio")
}

func BenchmarkChecksum(b *testing.B) {
	data := text(0, chunkSize).data
	b.SetBytes(chunkSize)
	for b.Loop() {
		addWords(0, data)
	}
}

type onDisk struct {
	*os.File
	size int64
}

func (d onDisk) Size() int64 { return d.size }

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// own are the facts of a plan without its details.
func own(t testing.TB, p *format.Plan) []format.Fact {
	t.Helper()
	f, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil {
		t.Fatal(err)
	}
	return f[:len(f):len(f)]
}
