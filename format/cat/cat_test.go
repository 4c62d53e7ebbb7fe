package cat

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

var made = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// members digests files.
func members(t testing.TB, files map[string][]byte) []*Member {
	t.Helper()
	var out []*Member
	for name, b := range files {
		m, err := NewMember(t.Context(), format.BytesArtifact(name, b), crypto.SHA256, Attribute{"OSAttr", "2:10.0"})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func create(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	b, err := Create(members(t, files), []Attribute{{"OSAttr", "2:6.1,2:10.0"}, {"HWID1", "pci\\ven_1234&dev_5678"}}, made)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// version1 makes a catalogue without a signature one of version 1, as a seed: those
// that Microsoft made are not ours to keep here.
func version1(t testing.TB, b []byte) []byte {
	t.Helper()
	var from, to cryptobyte.Builder
	from.AddASN1ObjectIdentifier(oidMembersV2)
	to.AddASN1ObjectIdentifier(oidMembersV1)
	b = bytes.Replace(b, from.BytesOrPanic(), to.BytesOrPanic(), 1)
	if l, err := Read(art(b)); err != nil || l.Version != 1 || len(l.Members) == 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	return b
}

func art(b []byte) format.Artifact { return format.BytesArtifact("a.cat", b) }

func apply(t testing.TB, b []byte, p *format.Patch) []byte {
	t.Helper()
	return formattest.Apply(t, art(b), p)
}

func seal(t testing.TB, b []byte, s *formattest.Signer, params format.Params) []byte {
	t.Helper()
	return formattest.Seal(t, Format{}, art(b), s, params)
}

// program builds a Windows program.
func program(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "hello.exe")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, src)
	c.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GO111MODULE=off")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build for Windows: %v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	one, two := create(t, map[string][]byte{"a.inf": []byte("one")}), create(t, map[string][]byte{"a.inf": []byte("two")})
	formattest.Run(t, Format{}, formattest.Case{
		Artifact: one, Other: two, Name: "a.cat", Params: format.Params{"description": "Driver"}, Signer: formattest.Identity(t, sigalg.P256),
		Refused: []format.Params{{"digest": "md5"}, {"url": "ftp://x"}},
		// Of the body, the digest of the file as it was is in no signature.
		Unsigned: []string{"Body"},
	})
}

func TestGoldenPlan(t *testing.T) {
	p, err := (Format{}).Plan(t.Context(), art(create(t, map[string][]byte{"a.inf": []byte("one"), "b.txt": []byte("two")})), nil)
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
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("plan %x: want %x (%v)", b, want, err)
	}
}

// Invariant 1, and what is put in comes out.
func TestCreate(t *testing.T) {
	files := map[string][]byte{"a.inf": []byte("one"), "b.txt": []byte("two"), "größe.exe": program(t)}
	b := create(t, files)
	for range 5 {
		if !bytes.Equal(create(t, files), b) { // maps have no order
			t.Fatal("two catalogues of the same members differ")
		}
	}
	l, err := Read(art(b))
	if err != nil || l.Version != 2 || !l.Made.Equal(made) || len(l.Members) != 3 || len(l.Attributes) != 2 {
		t.Fatalf("%+v, %v", l, err)
	}
	for _, m := range members(t, files) {
		got, ok := l.Find(m.Hash, m.Digest)
		if !ok || got.Kind != m.Kind || got.Attributes[0] != m.Attributes[0] && got.Attributes[1] != m.Attributes[0] {
			t.Errorf("%+v: want %+v", got, m)
		}
	}
	if _, ok := l.Find(crypto.SHA256, make([]byte, 32)); ok {
		t.Error("a digest is found that is not there")
	}
	var names []string
	if err := (Format{}).List(t.Context(), art(b), func(e format.Entry) error { names = append(names, e.Name); return nil }); err != nil || len(names) != 3 {
		t.Errorf("%v, %v", names, err)
	}
	other, err := Create(members(t, files), nil, made)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := Read(art(other)); err != nil || bytes.Equal(o.ID, l.ID) {
		t.Errorf("another list has the same identifier: %v", err)
	}
	for name, f := range map[string]func() ([]byte, error){
		"no members": func() ([]byte, error) { return Create(nil, nil, made) },
		"one twice":  func() ([]byte, error) { m := members(t, files); return Create(append(m, m[0]), nil, made) },
		"no time":    func() ([]byte, error) { return Create(members(t, files), nil, time.Time{}) },
		"no digest":  func() ([]byte, error) { return Create([]*Member{{Hash: crypto.SHA256}}, nil, made) },
		"SHA-1": func() ([]byte, error) {
			return Create([]*Member{{Hash: crypto.SHA1, Digest: make([]byte, 20)}}, nil, made)
		},
		"line end": func() ([]byte, error) {
			return Create(members(t, files), []Attribute{{"OSAttr", "2:6.1\n2:10.0"}}, made)
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewMember(t.Context(), art(b), crypto.SHA1); !errors.Is(err, authenticode.ErrWeak) {
		t.Error(err)
	}
}

// Invariant 4: signing again, beside and instead, and taking off keep the list.
func TestListStays(t *testing.T) {
	bare := create(t, map[string][]byte{"a.inf": []byte("one"), "b.txt": []byte("two")})
	s, two := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384)
	tr := s.Trust()
	tr.Roots.AddCert(two.Root.Certificate)
	both := seal(t, seal(t, bare, s, nil), two, format.Params{"digest": "sha384"})
	r, err := (Format{}).Verify(t.Context(), art(both), tr)
	if err != nil || len(r.Signatures) != 2 {
		t.Fatal(err)
	}
	todo, err := (Format{}).Unstamped(t.Context(), art(both), nil)
	if err != nil || len(todo) != 2 {
		t.Fatal(err)
	}
	p, err := (Format{}).Stamp(t.Context(), art(both), nil, todo[1], s.Timestamp(t, todo[1].Message, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	both = apply(t, both, p)
	if p, err = (Format{}).Remove(t.Context(), art(both), -1); err != nil || !bytes.Equal(apply(t, both, p), bare) {
		t.Errorf("bare again it is another file: %v", err)
	}
	again := seal(t, both, two, format.Params{"existing": "replace", "digest": "sha384"})
	if r, err = (Format{}).Verify(t.Context(), art(again), tr); err != nil || len(r.Signatures) != 1 {
		t.Error(err)
	}
	a, _ := open(art(bare))
	b, _ := open(art(again))
	if !bytes.Equal(a.content, b.content) {
		t.Error("the list changed")
	}
	if _, err := (Format{}).Assemble(mustPlan(t, bare, format.Params{"digest": "sha512"}), s.Identity, formattest.At, nil); err == nil || !strings.Contains(err.Error(), "wants digest=sha256") {
		t.Errorf("digest sha512 with a key for SHA-256: %v", err)
	}
}

func mustPlan(t testing.TB, b []byte, params format.Params) *format.Plan {
	t.Helper()
	p, err := (Format{}).Plan(t.Context(), art(b), params)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A signature over another list, nested in a good one, makes the catalogue bad.
func TestNestedSignatureOfAnotherList(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	one, two := seal(t, create(t, map[string][]byte{"a": []byte("one")}), s, nil), seal(t, create(t, map[string][]byte{"a": []byte("two")}), s, nil)
	mixed, err := cms.AddUnsigned(one, 0, cms.NewAttribute(cms.OIDNestedSignature, two))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Format{}).Verify(t.Context(), art(one), s.Trust()); err != nil {
		t.Fatal(err)
	}
	if _, err := (Format{}).Verify(t.Context(), art(mixed), s.Trust()); err == nil || !strings.Contains(err.Error(), "another list") {
		t.Error(err)
	}
}

// Invariant 2: Windows looks members up by their tags, also those that have no digest.
func TestTagsAreShown(t *testing.T) {
	digest := bytes.Repeat([]byte{0xab}, 32)
	digits := bytes.ReplaceAll([]byte(strings.Repeat("AB", 32)), []byte("AB"), []byte("A\x00B\x00"))
	name := []Attribute{{"File", "a.sys"}}
	good := fmt.Sprintf("a.sys sha256:%x", digest)
	for _, c := range []struct {
		m    Member
		want string
	}{
		{Member{Tag: digest, Hash: crypto.SHA256, Digest: digest, Attributes: name}, good},
		{Member{Tag: digits, Hash: crypto.SHA256, Digest: digest, Attributes: name}, good},
		{Member{Tag: append(bytes.Clone(digits), 0, 0), Hash: crypto.SHA256, Digest: digest, Attributes: name}, good},
		{Member{Tag: []byte("evil"), Hash: crypto.SHA256, Digest: digest, Attributes: name}, "tag 6576696c " + good},
		{Member{Tag: []byte("evil"), Attributes: name}, "tag 6576696c a.sys"},
		{Member{Tag: []byte("evil")}, "tag 6576696c"},
	} {
		facts := (&List{Version: 2, Members: []Member{c.m}}).facts()
		if got := facts[len(facts)-1]; got != (format.Fact{Name: "member", Value: c.want}) {
			t.Errorf("%+v: want %s", got, c.want)
		}
	}
}

func TestNotCatalogues(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for name, b := range map[string][]byte{"empty": nil, "text": bytes.Repeat([]byte("x"), 100), "program": program(t), "sequence": append([]byte{0x30, 0x80}, make([]byte, 100)...)} {
		if _, err := (Format{}).Plan(t.Context(), art(b), nil); !errors.Is(err, ErrNotCatalog) || (Format{}).Detect(art(b)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bare := create(t, map[string][]byte{"a": []byte("one")})
	if _, err := (Format{}).Verify(t.Context(), art(bare), s.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"members of another kind": bytes.Replace(bare, []byte{0x82, 0x37, 12, 1, 3}, []byte{0x82, 0x37, 12, 1, 4}, 1),
		"list for others":         bytes.Replace(bare, []byte{0x82, 0x37, 12, 1, 1}, []byte{0x82, 0x37, 12, 1, 9}, 1),
		"attribute without name":  bytes.Replace(bare, []byte{30, 8, 0, 'F'}, []byte{30, 8, 0, 1}, 1),
	} {
		if bytes.Equal(b, bare) {
			t.Fatalf("%s: nothing was replaced", name)
		}
		_, err := (Format{}).Plan(t.Context(), art(b), nil)
		if name == "attribute without name" {
			if err != nil { // characters that cannot be shown are replaced
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// microsoft is a driver catalogue of version 1 that Microsoft signed with SHA-1.
func microsoft(t testing.TB) []byte {
	t.Helper()
	return authenticodetest.Sample(t, "hyperv.cat")
}

// A catalogue by others: its members are read, its SHA-1 signature is refused, and it
// is signed anew with every member kept.
func TestMicrosoftsCatalogue(t *testing.T) {
	b := microsoft(t)
	l, err := Read(art(b))
	if err != nil || l.Version != 1 || len(l.Members) != 22 || l.Members[0].Hash != crypto.SHA1 || l.Members[0].Kind != Image || len(l.Attributes) != 1 || l.Attributes[0].Name != "OSAttr" {
		t.Fatalf("%+v, %v", l, err)
	}
	s := formattest.Identity(t, sigalg.P256)
	root, err := x509.ParseCertificate(s.Root.Certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	tr := s.Trust()
	tr.Roots.AddCert(root)
	if _, err := (Format{}).Verify(t.Context(), art(b), tr); err == nil {
		t.Error("a signature with SHA-1 is accepted")
	}
	if r, err := (Format{}).Inspect(t.Context(), art(b)); err != nil || len(r.Signatures) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	signed := seal(t, b, s, format.Params{"existing": "replace"})
	if _, err := (Format{}).Verify(t.Context(), art(signed), tr); err != nil {
		t.Error(err)
	}
	if again, err := Read(art(signed)); err != nil || len(again.Members) != 22 || !bytes.Equal(again.ID, l.ID) {
		t.Errorf("%+v, %v", again, err)
	}
}

// osslsigncode finds programs, cabinets and scripts in catalogues that we make and
// sign, and in one by others that we sign anew; and we take what it signs.
func TestOracleCAT(t *testing.T) {
	j := authenticodetest.New(t)
	v := formattest.Judge(t, "cat", j.Version)
	exe, script := program(t), []byte("Write-Host hello\r\n")
	cabinet, err := os.ReadFile("/usr/libexec/installed-tests/libgcab-1.0/test-none.cab")
	if err != nil {
		t.Fatalf("%v: apt-get install libgcab-tests", err)
	}
	files := map[string][]byte{"hello.exe": exe, "hello.ps1": script, "hello.cab": cabinet}
	bare := create(t, files)
	ours := func(b []byte) error {
		_, err := (Format{}).Verify(t.Context(), art(b), j.Trust())
		return err
	}
	judge := func(b []byte, member string, content []byte) error {
		return j.Verify(t, member, content, "-catalog", j.File(t, "a.cat", b))
	}
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := j.Signer(t, kind)
		for _, params := range []format.Params{nil, {"description": "Größe", "url": "https://example.com/"}} {
			signed := s.Seal(t, Format{}, "a.cat", bare, params)
			if err := ours(signed); err != nil {
				t.Error(err)
			}
			for name, content := range files {
				v.Accepts(name+" "+string(kind), string(kind), judge(signed, name, content))
				other := bytes.Clone(content)
				other[len(other)-3] ^= 1
				l, err := Read(art(signed))
				if err != nil {
					t.Fatal(err)
				}
				m, err := NewMember(t.Context(), format.BytesArtifact(name, other), crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := l.Find(m.Hash, m.Digest); ok {
					t.Errorf("%s: tampered it is found", name)
				}
				v.Rejects(name+" tampered", errors.New("not found"), judge(signed, name, other))
				bad := bytes.Clone(signed)
				if m, err = NewMember(t.Context(), format.BytesArtifact(name, content), crypto.SHA256); err != nil {
					t.Fatal(err)
				}
				bad[bytes.LastIndex(bad, m.Digest)] ^= 1
				v.Rejects("digest of "+name, ours(bad), judge(bad, name, content))
			}
		}
		theirs := j.Sign(t, s, "a.cat", bare, "-n", "Driver")
		v.Takes("theirs "+string(kind), ours(theirs))
		both := s.Seal(t, Format{}, "a.cat", theirs, nil)
		if err := ours(both); err != nil {
			t.Errorf("ours beside theirs: %v", err)
		}
		v.Accepts("ours beside theirs", string(kind), judge(both, "hello.exe", exe))
		v.Takes("Microsoft's list", ours(j.Sign(t, s, "a.cat", microsoft(t))))
	}
	// The named attack: a certificate without the code-signing usage.
	bad := j.Signer(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	if _, err := bad.TrySeal(t, Format{}, "a.cat", bare, nil); err == nil || !strings.Contains(err.Error(), "not for code signing") {
		t.Errorf("a server's certificate signs code: %v", err)
	}
	theirs := j.Sign(t, bad, "a.cat", bare)
	v.Rejects("certificate without code signing", ours(theirs), judge(theirs, "hello.exe", exe))
}

// What is accepted can be signed, and keeps its list.
func FuzzPlan(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	bare := create(f, map[string][]byte{"a.inf": []byte("one"), "b.txt": []byte("two")})
	first := version1(f, bare)
	for _, b := range [][]byte{bare, seal(f, bare, s, nil), first, seal(f, first, s, nil)} {
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
		if err := (Format{}).List(t.Context(), art(signed), func(format.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

// A list that is accepted can be shown.
func FuzzList(f *testing.F) {
	bare := create(f, map[string][]byte{"a.inf": []byte("one")})
	for _, b := range [][]byte{bare, version1(f, bare)} {
		c, err := open(art(b))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c.content)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseList(b)
		if err != nil {
			return
		}
		p := format.Plan{Format: "cat", Digest: "sha256", Content: make([]byte, 32), Params: []format.Fact{}, Facts: l.facts(), Body: []byte{}}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

// relic takes what we sign: our catalogue and Microsoft's list.
func TestOracleCATbyRelic(t *testing.T) {
	j := authenticodetest.NewRelic(t)
	v := formattest.Judge(t, "cat", j.Version)
	v.Note = "the signature over the list, not the members; relic's signatures are not in DER's order: they are not taken"
	bare := create(t, map[string][]byte{"a.inf": []byte("one"), "b.txt": []byte("two")})
	replace := []format.Params{{"existing": "replace"}}
	j.Oracle(t, v, Format{}, []authenticodetest.Input{
		{Name: "a.cat", Data: bare, At: members(t, map[string][]byte{"a.inf": []byte("one")})[0].Digest, Params: replace},
		{Name: "hyperv.cat", Data: microsoft(t), At: []byte{0x0e, 0xb0, 0x43, 0x7f, 0xc7, 0x7c, 0xda, 0xbf}, Params: replace},
	})
}
