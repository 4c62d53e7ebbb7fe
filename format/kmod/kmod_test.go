package kmod

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const modinfo = "license=GPL\x00description=A small module\x00version=1.2\x00version=1.3\x00vermagic=6.1.0 SMP mod_unload\x00name=small\x00"

// small is a relocatable ELF file with .modinfo, code and section names.
func small(wide, big bool, info, code string) []byte {
	var o binary.AppendByteOrder = binary.LittleEndian
	data := byte(1)
	if big {
		o, data = binary.BigEndian, 2
	}
	names := "\x00.modinfo\x00.text\x00.shstrtab\x00"
	header, entry, class := 52, 40, byte(1)
	if wide {
		header, entry, class = 64, 64, 2
	}
	b := append([]byte("\x7fELF"), class, data, 1)
	b = append(b, make([]byte, 9)...)
	b = o.AppendUint32(o.AppendUint16(o.AppendUint16(b, 1), 62), 1)
	word := func(b []byte, v int) []byte {
		if wide {
			return o.AppendUint64(b, uint64(v))
		}
		return o.AppendUint32(b, uint32(v))
	}
	table := header + len(info) + len(code) + len(names)
	b = word(word(word(b, 0), 0), table)
	b = o.AppendUint32(b, 0)
	for _, v := range []int{header, 0, 0, entry, 4, 3} {
		b = o.AppendUint16(b, uint16(v))
	}
	b = append(b, info+code+names...)
	section := func(name, typ, off, size int) {
		b = o.AppendUint32(o.AppendUint32(b, uint32(name)), uint32(typ))
		b = word(word(word(word(b, 0), 0), off), size)
		b = o.AppendUint32(o.AppendUint32(b, 0), 0)
		b = word(word(b, 1), 0)
	}
	section(0, 0, 0, 0)
	section(1, 1, header, len(info))
	section(10, 1, header+len(info), len(code))
	section(16, 3, header+len(info)+len(code), len(names))
	return b
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("small.ko", b) }

// sign runs the whole way.
func sign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(b), p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), artifact(b), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Bytes(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func digestOption(s sigalg.Scheme) string { return format.HashName(cms.DigestFor(s)) }

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name      string
		kind      sigalg.Key
		wide, big bool
	}{{"64 bits", sigalg.P256, true, false}, {"32 bits big-endian", sigalg.RSA3072, false, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := formattest.Identity(t, c.kind)
			formattest.Run(t, New(), formattest.Case{
				Artifact: small(c.wide, c.big, modinfo, "code"), Other: small(c.wide, c.big, modinfo, "c0de"), Name: "small.ko", Params: format.Params{"digest": digestOption(s.Scheme)}, Signer: s,
				Refused:  []format.Params{{"digest": "sha1"}, {"replace": "yes"}},
				Unsigned: []string{"Facts", "Body"},
				// Nobody signs by what name the certificate is called.
				Open: func(signed []byte, i int) bool {
					m, err := open(artifact(signed))
					if err != nil {
						t.Fatal(err)
					}
					serial, err := asn1.Marshal(s.Chain[0].SerialNumber)
					if err != nil {
						t.Fatal(err)
					}
					sid := append(bytes.Clone(s.Chain[0].RawIssuer), serial...)
					at := bytes.Index(m.cms, sid)
					if at < 0 {
						t.Fatal("no signer identifier")
					}
					i -= int(m.end) + at
					return i >= 0 && i < len(sid)
				},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(small(true, false, modinfo, string(make([]byte, 8<<20)))), nil)
}

func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact(small(true, false, modinfo, "code")), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got %x want %x", err, got, want)
	}
	if f := plan.Facts; len(f) != 5 || f[0].Value != "small" || f[1].Value != "1.2" {
		t.Errorf("facts %v", f)
	}
}

// Invariant 4: a signature that stayed would be content to the next one.
func TestSignedModuleIsRefusedOrReplaced(t *testing.T) {
	file := small(true, false, modinfo, "code")
	first, second := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	once := sign(t, file, first, nil)
	if _, err := New().Plan(t.Context(), artifact(once), nil); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	twice := sign(t, once, second, format.Params{"replace": "true"})
	if !bytes.HasPrefix(twice, file) || bytes.Count(twice, []byte(magic)) != 1 {
		t.Error("the first signature stayed")
	}
	if _, err := New().Verify(t.Context(), artifact(twice), first.Trust()); err == nil {
		t.Error("the first signer is still believed")
	}
	if _, err := New().Verify(t.Context(), artifact(twice), second.Trust()); err != nil {
		t.Error(err)
	}
	stacked := append(bytes.Clone(once), once[len(file):]...)
	if _, err := New().Verify(t.Context(), artifact(stacked), first.Trust()); err == nil {
		t.Error("a signature behind a signature is accepted")
	}
}

// A certificate among the intermediates must be right in itself; without one the
// key decides, and the report says that the name is open.
func TestTrust(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := sign(t, small(true, false, modinfo, "code"), s, nil)
	all := s.Trust()
	all.Intermediates = s.Chain
	byChain := all
	byChain.Keys = nil
	late := byChain
	late.Now = formattest.At.AddDate(100, 0, 0)
	for name, c := range map[string]struct {
		t     format.Trust
		ok    bool
		chain bool
	}{
		"chain and key": {all, true, true}, "chain": {byChain, true, true}, "key": {format.Trust{Keys: s.Trust().Keys}, true, false},
		"expired": {late, false, false}, "roots alone": {format.Trust{Roots: s.Trust().Roots, Now: formattest.At}, false, false},
	} {
		r, err := New().Verify(t.Context(), artifact(signed), c.t)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		} else if err == nil && (len(r.Signatures[0].Open) == 0) != c.chain {
			t.Errorf("%s: open %v", name, r.Signatures[0].Open)
		}
	}
}

// Schemes that no kernel verifies are refused before anything is signed.
func TestKernelKnowsScheme(t *testing.T) {
	for _, kind := range []sigalg.Key{sigalg.Ed25519, sigalg.MLDSA65} {
		s := formattest.Identity(t, kind)
		plan, err := New().Plan(t.Context(), artifact(small(true, false, modinfo, "code")), format.Params{"digest": "sha512"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New().Assemble(plan, s.Identity, formattest.At, nil); err == nil || !strings.Contains(err.Error(), "kernels do not verify") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Nothing may hide in a signature: attributes, content, further signers, another
// encoding, wrong trailers.
func TestSmuggledBytes(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	file := small(true, false, modinfo, "code")
	signed := sign(t, file, s, nil)
	m, err := open(artifact(signed))
	if err != nil {
		t.Fatal(err)
	}
	wrap := func(der []byte, trailer [12]byte) []byte {
		binary.BigEndian.PutUint32(trailer[8:], uint32(len(der)))
		return append(append(append(bytes.Clone(file), der...), trailer[:]...), magic...)
	}
	p7 := [12]byte{2: 2}
	attr, err := cms.AddUnsigned(m.cms, 0, cms.NewAttribute(cms.OIDTimeStampToken, s.Timestamp(t, []byte("x"), formattest.At)))
	if err != nil {
		t.Fatal(err)
	}
	withCert, err := cms.AddCertificates(m.cms, s.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if r, err := New().Verify(t.Context(), artifact(wrap(withCert, p7)), s.Trust()); err != nil || len(r.Signatures[0].Open) == 0 {
		t.Errorf("with a certificate: %v", err)
	}
	if _, err := New().Verify(t.Context(), artifact(wrap(m.cms, p7)), s.Trust()); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"unsigned attribute": wrap(attr, p7), "byte after the CMS": wrap(append(bytes.Clone(m.cms), 0), p7),
		"algorithm in the trailer": wrap(m.cms, [12]byte{1, 0, 2}), "padding in the trailer": wrap(m.cms, [12]byte{2: 2, 7: 1}),
		"key type of old kernels": wrap(m.cms, [12]byte{2: 1}), "nothing": wrap(nil, p7),
		"length beyond the file": append(append(bytes.Clone(file), 0, 0, 2, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff), magic...),
		"another magic":          bytes.Replace(signed, []byte("~Module"), []byte("~module"), 1),
	} {
		if _, err := New().Verify(t.Context(), artifact(b), s.Trust()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDetect(t *testing.T) {
	good := small(true, false, modinfo, "code")
	program := bytes.Clone(good)
	program[16] = 2
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"module": {good, true}, "object without .modinfo": {bytes.Replace(good, []byte(".modinfo"), []byte(".datinfo"), 1), false},
		"program": {program, false}, "empty": {nil, false}, "cut": {good[:100], false}, "compressed": {[]byte("\xfd7zXZ\x00 and so on and so on and so on and so on and so on and so on"), false},
	} {
		if New().Detect(artifact(c.b)) != c.want {
			t.Error(name)
		}
	}
}

func FuzzModule(f *testing.F) {
	good := small(true, false, modinfo, "code")
	s := formattest.Identity(f, sigalg.P256)
	signed := sign(f, good, s, nil)
	for _, b := range [][]byte{good, signed, small(false, true, modinfo, "c")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := artifact(b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if p, err := New().Plan(t.Context(), a, format.Params{"replace": "true"}); err == nil {
			if _, err := New().Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Errorf("a plan that is not assembled: %v", err)
			}
		}
		if _, err := New().Verify(t.Context(), a, s.Trust()); err == nil && !bytes.HasPrefix(b, good) {
			t.Errorf("accepted: %x", b)
		}
	})
}
