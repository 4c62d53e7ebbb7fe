package pe

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Invariant 3: no byte of a signed file can change without being noticed. Each
// byte is tried with one bit flipped, and with all of them.
func TestEveryFlippedByteIsRejected(t *testing.T) {
	p := newPKI(t)
	shape := recipe{plus: true, sections: []raw{text(512, 100)}, overlay: []byte("odd")}.make()
	stamp := func(v []byte) []byte { return p.token(t, v) }
	for _, c := range []struct {
		name   string
		signed []byte
		masks  int // changes tried for each byte
	}{
		{"rsa", p.ids["rsa"].seal(t, shape, nil, nil), 2},
		{"pages, stamped", p.ids["p256"].seal(t, shape, format.Params{"page-hashes": "true", "description": "x"}, stamp), 2},
		{"nested", p.ids["p256"].seal(t, p.ids["rsa"].seal(t, shape, nil, nil), nil, stamp), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := c.signed
			if r, err := verify(b, p.trust()); err != nil || len(r.Signatures[0].Open) > 0 {
				t.Fatal(err)
			}
			im := mustParse(t, b)
			entries, err := parseTable(b[im.tableAt:])
			if err != nil {
				t.Fatal(err)
			}
			var open []int
			for i := range b {
				for _, mask := range []byte{1 << (i % 8), 0xff}[:c.masks] {
					// The checksum would notice a change outside of the signed part, so it
					// is made right again: an attacker would do so too.
					f := bytes.Clone(b)
					f[i] ^= mask
					if i < int(im.checksumAt) || i >= int(im.checksumAt)+4 {
						copy(f[im.checksumAt:], le(4, int(naiveChecksum(f, im.checksumAt))))
					}
					if _, err := verify(f, p.trust()); err != nil {
						continue
					}
					// The format writes an entry's length in two ways, with and without
					// its padding, and Verify takes both.
					if i-int(im.tableAt) < 4 && le32(f[im.tableAt:]) == uint32(len(entries[0].der)+certHeaderSize) {
						continue
					}
					open = append(open, i)
				}
			}
			if len(open) > 0 {
				t.Errorf("%d changes were not noticed, at %d (certificate table at %d)", len(open), open, im.tableAt)
			}
			// An absent checksum is accepted, a wrong one is not.
			f := bytes.Clone(b)
			copy(f[im.checksumAt:], le(4, 0))
			if _, err := verify(f, p.trust()); err != nil {
				t.Errorf("no checksum: %v", err)
			}
		})
	}
}

// Invariant 5: a file cut anywhere is an error.
func TestTruncation(t *testing.T) {
	p := newPKI(t)
	b := p.ids["p256"].seal(t, recipes()["pe32+"].make(), format.Params{"page-hashes": "true"}, nil)
	for n := range b {
		if _, err := verify(b[:n], p.trust()); err == nil {
			t.Errorf("%d of %d bytes verify", n, len(b))
		}
		if _, err := (Format{}).Inspect(context.Background(), file(b[:n])); err == nil {
			t.Errorf("%d of %d bytes are inspected", n, len(b))
		}
		if _, err := (Format{}).Plan(context.Background(), file(b[:n]), nil); err == nil {
			t.Errorf("%d of %d bytes are planned", n, len(b))
		}
	}
}

func TestMalformedImagesAreRefused(t *testing.T) {
	put := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	const pe = 64
	const opt = pe + 24
	good := recipe{plus: true, sections: []raw{text(512, 512), text(1024, 512)}}
	table := opt + 16*8 + 112 // of sections
	dir := opt + 112 + 32
	for _, c := range []struct {
		name, want string
		recipe     recipe
		edit       func([]byte) []byte
	}{
		{"no MZ", "not a PE image", good, put(0, 'Z')},
		{"no PE", "not a PE image", good, put(pe, 'N')},
		{"PE header in the DOS header", "within the DOS header", good, put(60, 4)},
		{"PE header not aligned", "multiple of 4", good, put(60, 66)},
		{"PE header far away", "at most", good, put(60, 0, 0, 0, 0x7f)},
		{"PE header at the end", "file ends", good, put(60, 0xf0, 5)},
		{"ROM image", "unknown kind", good, put(opt, 7, 1)},
		{"object file", "object file", good, put(pe+20, 0, 0)},
		{"short optional header", "want at least", good, put(pe+20, 100, 0)},
		{"no place for a certificate table", "no place for a certificate table", recipe{dirs: 4, sections: good.sections}, nil},
		{"directories beyond the optional header", "cannot hold", recipe{dirs: 5, sections: good.sections}, put(opt+92, 6)},
		{"too many directories", "at most 16", good, put(opt+108, 17)},
		{"too many sections", "at most 1024", good, put(pe+6, 1, 4)},
		{"section table beyond SizeOfHeaders", "SizeOfHeaders", recipe{plus: true, headers: 300}, put(pe+6, 3)},
		{"SizeOfHeaders beyond the file", "SizeOfHeaders", good, put(opt+60, 0, 0, 8, 0)},
		{"SizeOfHeaders beyond the limit", "SizeOfHeaders", good, put(opt+60, 0, 0, 0x20, 0)},
		{"section beyond the file", "beyond", good, put(table+sectionSize+16, 1, 2)},
		{"section offset wraps", "beyond", good, put(table+sectionSize+16, 0xff, 0xff, 0xff, 0xff)},
		{"sections overlap", "overlaps", good, put(table+sectionSize+20, 0xff, 3)},
		{"section over the headers", "overlaps", good, put(table+20, 0, 1)},
		{"EFI image with a gap", "firmware", recipe{plus: true, subsystem: 10, sections: []raw{text(1024, 512)}}, nil},
		{"EFI section without place", "no place", recipe{subsystem: 11, sections: []raw{text(512, 512), {size: 64}}}, nil},
		{"table with offset alone", "both or neither", good, put(dir, 8)},
		{"table with size alone", "both or neither", good, put(dir+4, 8)},
		{"table not aligned", "multiples of 8", good, put(dir, 0x01, 6, 0, 0, 8)},
		{"table of odd size", "multiples of 8", good, put(dir, 0, 4, 0, 0, 7)},
		{"table beyond the file", "ends at", good, put(dir, 0, 6, 0, 0, 8)},
		{"table not at the end", "after the certificate table", good, put(dir, 0, 4, 0, 0, 8)},
		{"table over the headers", "SizeOfHeaders", good, put(dir, 0, 1, 0, 0, 0, 5)},
		{"table over a section", "beyond", good, put(dir, 0, 5, 0, 0, 0, 1)},
		{"huge table", "at most", good, put(dir, 0, 6, 0, 0, 0, 0, 0, 0x7f)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.recipe.make()
			if c.edit != nil {
				b = c.edit(b)
			}
			_, err := Format{}.Plan(context.Background(), file(b), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNotPE) {
				t.Errorf("error %v: want one with %q", err, c.want)
			}
			if _, verr := verify(b, format.Trust{Roots: newPKI(t).pool}); verr == nil || verr.Error() != err.Error() {
				t.Errorf("verify says %v, plan says %v", verr, err)
			}
		})
	}
}

// The padding check of WinVerifyTrust, and everything else that may stand in a
// certificate table.
func TestMalformedTablesAreRefused(t *testing.T) {
	p := newPKI(t)
	b := p.ids["p256"].seal(t, recipes()["pe32+"].make(), nil, nil)
	im := mustParse(t, b)
	tab := b[im.tableAt:]
	entries, err := parseTable(tab)
	if err != nil {
		t.Fatal(err)
	}
	der := entries[0].der
	retable := func(table []byte) []byte {
		patch, err := im.patch(table, mustSum(t, b))
		if err != nil {
			t.Fatal(err)
		}
		return apply(t, b, patch)
	}
	if again := retable(tab); !bytes.Equal(again, b) {
		t.Fatal("a table put back is not the same file")
	}
	longer := bytes.Clone(newEntry(append(bytes.Clone(der), make([]byte, 16)...)))
	dirty := bytes.Clone(newEntry(append(bytes.Clone(der), 1)))
	unaligned := append(le(4, len(der)+8), tab[4:8]...)
	unaligned = append(unaligned, der...)
	unaligned = append(unaligned, make([]byte, padding(int64(len(unaligned))))...)
	other := append(append(le(4, 16), le(2, 0x200)...), le(2, 0xef1)...)
	other = append(other, make([]byte, 8)...)
	old := bytes.Clone(tab)
	copy(old[4:], le(2, 0x100))
	short := bytes.Clone(tab)
	copy(short, le(4, 8))
	long := bytes.Clone(tab)
	copy(long, le(4, len(tab)+1))
	cut := bytes.Clone(tab)
	copy(cut, le(4, len(der)))
	for _, c := range []struct {
		name, want string
		table      []byte
	}{
		{"zeros after the signature", "only padding", longer},
		{"data after the signature", "only padding", dirty},
		{"length without padding", "", unaligned},
		{"another type", "only PKCS #7", append(bytes.Clone(tab), other...)},
		{"another type alone", "only PKCS #7", other},
		{"revision 1", "only PKCS #7", old},
		{"empty entry", "has 8 bytes", short},
		{"zeros at the end", "has 0 bytes", append(bytes.Clone(tab), make([]byte, 8)...)},
		{"entry beyond the table", "bytes of", long},
		{"signature beyond its entry", "", cut},
		{"not DER", "no PKCS #7", newEntry([]byte{0x30, 0x84, 1, 2})},
		{"another structure", "malformed", newEntry([]byte{5, 0})},
		{"indefinite length", "indefinite", newEntry([]byte{0x30, 0x80, 0, 0})},
		{"too many entries", "more than 16", bytes.Repeat(newEntry([]byte{5, 0}), 17)},
		{"one signature twice", "", append(bytes.Clone(tab), tab...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := retable(c.table)
			_, err := verify(f, p.trust())
			accepted := c.name == "length without padding" || c.name == "one signature twice"
			if (err == nil) != accepted || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v: want one with %q", err, c.want)
			}
			if r, err := (Format{}).Inspect(context.Background(), file(f)); strings.Contains(c.want, "only PKCS #7") && (err != nil || !strings.Contains(r.Facts[len(r.Facts)-1].Value, "only PKCS #7")) {
				t.Errorf("inspect: %v", err)
			}
			_, err = Format{}.Plan(context.Background(), file(f), nil)
			if (err == nil) != accepted || err != nil && !strings.Contains(err.Error(), "existing=replace") {
				t.Errorf("keep: %v", err)
			}
			if _, err := verify(p.ids["p256"].seal(t, f, format.Params{"existing": "replace"}, nil), p.trust()); err != nil {
				t.Errorf("replace: %v", err)
			}
		})
	}
}

func mustSum(t testing.TB, b []byte) uint16 {
	t.Helper()
	s, err := scan(context.Background(), file(b), mustParse(t, b), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return s.sum
}

// Signatures that are sound CMS and still not Authenticode's, or not believed.
func TestUnacceptableSignatures(t *testing.T) {
	p := newPKI(t)
	b := recipes()["pe32+"].make()
	im := mustParse(t, b)
	id := p.ids["p256"]
	good := plan(t, b, nil)
	m, err := assemble(good, id.id)
	if err != nil {
		t.Fatal(err)
	}
	// build signs content of a type, with unsigned attributes, as Authenticode's
	// signer would.
	build := func(t *testing.T, c cms.Content, unsigned ...cms.Attribute) []byte {
		s := m.spec
		s.ContentType = c.Type
		body := c.Bytes
		if c.PKCS7 {
			if body, err = authenticode.Contents(c.Bytes); err != nil {
				t.Fatal(err)
			}
		}
		h := s.Digest.New()
		h.Write(body)
		s.ContentDigest = h.Sum(nil)
		msg, err := s.SignedAttributes()
		if err != nil {
			t.Fatal(err)
		}
		der, err := cms.Encode(c, id.id.Chain, cms.SignerInfo{Spec: s, Signature: id.sign(t, msg), Certificate: id.id.Chain[0], Unsigned: unsigned})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	put := func(t *testing.T, der []byte) []byte {
		patch, err := im.patch(newEntry(der), mustSum(t, b))
		if err != nil {
			t.Fatal(err)
		}
		return apply(t, b, patch)
	}
	spcContent := func(content []byte) cms.Content {
		return cms.Content{Type: cms.OIDSpcIndirectData, Bytes: content, PKCS7: true}
	}
	plain := build(t, spcContent(m.content))
	if _, err := verify(put(t, plain), p.trust()); err != nil {
		t.Fatal(err)
	}
	nest := func(der ...[]byte) cms.Attribute { return cms.NewAttribute(cms.OIDNestedSignature, der...) }
	sha1 := indirectSHA1(t)
	wrongDigest, err := indirectData{hash: 5, digest: make([]byte, 32)}.encode()
	if err != nil {
		t.Fatal(err)
	}
	pages := make([]byte, 2*pageEntry)
	wrongPages, err := indirectData{hash: 5, digest: good.Content, pages: pages}.encode()
	if err != nil {
		t.Fatal(err)
	}
	many := make([][]byte, authenticode.MaxNested+1)
	for i := range many {
		many[i] = build(t, spcContent(m.content))
	}
	for _, c := range []struct {
		name, want string
		der        []byte
	}{
		{"plain data", "not Authenticode's", build(t, cms.Content{Type: cms.OIDData, Bytes: []byte("x")})},
		{"octet string", "not in the form of PKCS #7", build(t, cms.Content{Type: cms.OIDSpcIndirectData, Bytes: m.content})},
		{"SHA-1", "too weak", build(t, spcContent(sha1))},
		{"another image's digest", "does not have the digest", build(t, spcContent(wrongDigest))},
		{"another image's pages", "page hashes differ", build(t, spcContent(wrongPages))},
		{"unknown unsigned attribute", "not covered by anything", build(t, spcContent(m.content), cms.NewAttribute([]int{1, 2, 3, 4}, []byte{5, 0}))},
		{"legacy countersignature", "not covered by anything", build(t, spcContent(m.content), cms.NewAttribute([]int{1, 2, 840, 113549, 1, 9, 6}, []byte{0x30, 0}))},
		{"timestamp over something else", "timestamp", build(t, spcContent(m.content), cms.NewAttribute(cms.OIDMicrosoftTimeStamp, p.token(t, []byte("x"))))},
		{"two timestamps", "more than one timestamp", build(t, spcContent(m.content), cms.NewAttribute(cms.OIDMicrosoftTimeStamp, p.token(t, []byte("x")), p.token(t, []byte("y"))))},
		{"nested garbage", "nested 1 signature", build(t, spcContent(m.content), nest([]byte{5, 0}))},
		{"nested signature of another image", "nested 1 signature", build(t, spcContent(m.content), nest(build(t, spcContent(wrongDigest))))},
		{"nested in nested", "nested in it", build(t, spcContent(m.content), nest(build(t, spcContent(m.content), nest(plain))))},
		{"too many nested", "more than 32", build(t, spcContent(m.content), nest(many...))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := verify(put(t, c.der), p.trust()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v: want one with %q", err, c.want)
			}
		})
	}

	// Who is trusted, and when.
	f := put(t, plain)
	late, early, noRoots, empty := p.trust(), p.trust(), p.trust(), p.trust()
	late.Now, early.Now = p.now.Add(2000*time.Hour), p.now.Add(-2*time.Hour)
	noRoots.Roots = nil
	empty.Roots = emptyPool()
	for name, tr := range map[string]format.Trust{"late": late, "early": early, "no roots": noRoots, "empty roots": empty} {
		if _, err := verify(f, tr); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	stamped := id.seal(t, b, nil, func(v []byte) []byte { return p.token(t, v) })
	if _, err := verify(stamped, late); err != nil {
		t.Errorf("a timestamp keeps a signature valid: %v", err)
	}
	lifetime := p.ids["lifetime"].seal(t, b, nil, func(v []byte) []byte { return p.token(t, v) })
	if _, err := verify(lifetime, p.trust()); err != nil {
		t.Error(err)
	}
	if _, err := verify(lifetime, late); err == nil {
		t.Error("a certificate for lifetime signing was believed after its end")
	}
	late.TimestampRoots = nil
	if _, err := verify(stamped, late); err == nil {
		t.Error("a timestamp of nobody who is trusted was believed")
	}
	late.TimestampRoots = emptyPool()
	if _, err := verify(stamped, late); err == nil {
		t.Error("a timestamp of a stranger was believed")
	}
	now := p.trust()
	now.TimestampRoots = nil
	r, err := verify(stamped, now)
	if err != nil || !r.Signatures[0].Time.IsZero() || len(r.Signatures[0].Open) != 1 || len(r.Signatures[0].Facts) != 1 {
		t.Errorf("unchecked timestamp: %v, %+v", err, r)
	}
	if _, err := verify(p.tsaSigned(t, b), p.trust()); err == nil || !strings.Contains(err.Error(), "not for the wanted usage") {
		t.Errorf("a certificate for time-stamping signs code: %v", err)
	}
	if _, err := verify(b, p.trust()); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
}

// Certificates that no chain needs are named as open; all others are covered.
func TestOpenCertificates(t *testing.T) {
	p := newPKI(t)
	id := p.ids["p256"]
	chain := id.id.Chain
	for _, c := range []struct {
		extra *x509.Certificate
		open  int
	}{{p.root, 0}, {p.ids["rsa"].id.Chain[0], 1}} {
		id.id.Chain = append(slices.Clone(chain), c.extra)
		r, err := verify(id.seal(t, recipes()["pe32"].make(), nil, nil), p.trust())
		if err != nil || len(r.Signatures[0].Open) != c.open {
			t.Errorf("%v: %v", err, r)
		}
	}
}

// assembled is what is signed and its parts, for signatures that are made by hand.
type assembled struct {
	content []byte
	spec    cms.SignerSpec
	message []byte
}

func assemble(p *format.Plan, id format.Identity) (*assembled, error) {
	b, params, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	s, err := b.statement(p, params)
	if err != nil {
		return nil, err
	}
	m := &assembled{content: s.Content}
	if m.spec, err = s.Spec(id); err != nil {
		return nil, err
	}
	m.message, err = m.spec.SignedAttributes()
	return m, err
}

// tsaSigned signs with a certificate that is not for code, past the check of
// Assemble.
func (p *pki) tsaSigned(t *testing.T, b []byte) []byte {
	t.Helper()
	good, err := assemble(plan(t, b, nil), p.ids["rsa"].id)
	if err != nil {
		t.Fatal(err)
	}
	s := p.tsa
	if _, err := assemble(plan(t, b, nil), s.id); err == nil {
		t.Error("a certificate for time-stamping may sign code")
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDSpcIndirectData, Bytes: good.content, PKCS7: true}, s.id.Chain,
		cms.SignerInfo{Spec: good.spec, Signature: s.sign(t, good.message), Certificate: s.id.Chain[0]})
	if err != nil {
		t.Fatal(err)
	}
	patch, err := mustParse(t, b).patch(newEntry(der), mustSum(t, b))
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, b, patch)
}

func indirectSHA1(t *testing.T) []byte {
	t.Helper()
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(authenticode.OIDPEImageData)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BitString(nil)
				b.AddASN1(context0.Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1(context0, func(*cryptobyte.Builder) {}) })
				})
			})
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier([]int{1, 3, 14, 3, 2, 26}) })
			b.AddASN1OctetString(make([]byte, 20))
		})
	})
	return b.BytesOrPanic()
}
