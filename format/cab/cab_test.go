package cab

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recipe is a cabinet to make by hand: one folder with one stored file.
type recipe struct {
	reserve        []byte // of the header; nil: none
	folder, block  int    // bytes of the reserves of folders and blocks
	previous, next bool
	index          int
	text           string
}

func (r recipe) make() []byte {
	le := binary.LittleEndian
	b := make([]byte, headerSize)
	copy(b, "MSCF")
	b[24], b[25], b[26], b[28] = 3, 1, 1, 1
	var flags uint16
	if r.reserve != nil || r.folder+r.block > 0 {
		flags |= flagReserve
		b = le.AppendUint16(b, uint16(len(r.reserve)))
		b = append(append(b, byte(r.folder), byte(r.block)), r.reserve...)
	}
	if r.previous {
		flags |= flagPrevious
		b = append(b, "one.cab\x00Disk 1\x00"...)
	}
	if r.next {
		flags |= flagNext
		b = append(b, "three.cab\x00Disk 3\x00"...)
	}
	le.PutUint16(b[30:], flags)
	le.PutUint16(b[32:], 77)
	le.PutUint16(b[34:], uint16(r.index))
	folder := len(b)
	b = append(b, 0, 0, 0, 0, 1, 0, 0, 0)
	b = append(b, bytes.Repeat([]byte{'F'}, r.folder)...)
	le.PutUint32(b[16:], uint32(len(b)))
	b = le.AppendUint32(b, uint32(len(r.text)))
	b = append(b, make([]byte, 10)...)
	b = append(b, 0x20, 0)
	b = append(b, "file.txt\x00"...)
	le.PutUint32(b[folder:], uint32(len(b)))
	b = append(b, 0, 0, 0, 0)
	b = le.AppendUint16(le.AppendUint16(b, uint16(len(r.text))), uint16(len(r.text)))
	b = append(b, bytes.Repeat([]byte{'D'}, r.block)...)
	b = append(b, r.text...)
	le.PutUint32(b[8:], uint32(len(b)))
	return b
}

// recipes are all shapes. The reserve of a signature is 20 bytes; others keep what
// is in them.
func recipes() map[string]recipe {
	text := strings.Repeat("the text of the file\r\n", 20)
	return map[string]recipe{
		"plain":             {text: text},
		"empty reserve":     {text: text, reserve: make([]byte, 20)},
		"large reserve":     {text: text, reserve: make([]byte, 6144)},
		"small reserve":     {text: text, reserve: make([]byte, 8)},
		"first part":        {text: text, reserve: append([]byte{5, 0, 0, 0}, "parts"...)},
		"first part, space": {text: text, reserve: append(append([]byte{5, 0, 0, 0}, "parts"...), make([]byte, 100)...)},
		"folder reserve":    {text: text, folder: 3, block: 5},
		"first of a set":    {text: text, next: true},
		"second of a set":   {text: text, next: true, previous: true, index: 1},
		"last of a set":     {text: text, previous: true, index: 2, reserve: make([]byte, 20), block: 4},
	}
}

func art(b []byte) format.Artifact { return format.BytesArtifact("a.cab", b) }

func apply(t testing.TB, b []byte, p *format.Patch) []byte {
	t.Helper()
	return formattest.Apply(t, art(b), p)
}

func seal(t testing.TB, b []byte, s *formattest.Signer, params format.Params) []byte {
	t.Helper()
	return formattest.Seal(t, Format{}, art(b), s, params)
}

func TestConformance(t *testing.T) {
	for _, name := range []string{"plain", "first part", "second of a set"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recipes()[name]
			r.text = "short text"
			other := r
			other.text = "Short text"
			formattest.Run(t, Format{}, formattest.Case{
				Artifact: r.make(), Other: other.make(), Name: "a.cab", Params: format.Params{"description": "Cabinet"},
				Signer: formattest.Identity(t, sigalg.P256), Refused: []format.Params{{"digest": "md5"}, {"url": "ftp://x"}},
				Unsigned: []string{"Facts", "Body"},
				Open:     func(_ []byte, i int) bool { return i == 39 }, // the size of the blocks' reserve
			})
		})
	}
}

func TestGoldenPlan(t *testing.T) {
	p, err := (Format{}).Plan(t.Context(), art(recipes()["second of a set"].make()), format.Params{"description": "Cabinet"})
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

// Every shape is signed, signed again, stamped and made bare again: byte for byte
// what it was, where it had no reserve or one that is still needed.
func TestEveryShape(t *testing.T) {
	s, two := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384)
	tr := s.Trust()
	tr.Roots.AddCert(two.Root.Certificate)
	for name, r := range recipes() {
		b := r.make()
		one := seal(t, b, s, nil)
		both := seal(t, one, two, format.Params{"digest": "sha512"})
		rep, err := (Format{}).Verify(t.Context(), art(both), tr)
		if err != nil || len(rep.Signatures) != 2 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(r.reserve) > 4 && !bytes.Contains(one[:len(b)], r.reserve[4:][:int(r.reserve[0])]) {
			t.Errorf("%s: the reserve's first part is gone", name)
		}
		todo, err := (Format{}).Unstamped(t.Context(), art(both), nil)
		if err != nil || len(todo) != 2 {
			t.Fatalf("%s: %v", name, err)
		}
		patch, err := (Format{}).Stamp(t.Context(), art(both), nil, todo[0], s.Timestamp(t, todo[0].Message, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		stamped := apply(t, both, patch)
		if rep, err = (Format{}).Verify(t.Context(), art(stamped), tr); err != nil || rep.Signatures[0].Time.IsZero() {
			t.Errorf("%s: stamped: %v", name, err)
		}
		if patch, err = (Format{}).Remove(t.Context(), art(stamped), -1); err != nil {
			t.Fatal(err)
		}
		bare := apply(t, stamped, patch)
		if len(r.reserve) == 0 && r.folder+r.block == 0 && !bytes.Equal(bare, b) {
			t.Errorf("%s: without its signatures it is not what it was", name)
		}
		if again := seal(t, bare, s, nil); !bytes.Equal(again[:40], one[:40]) {
			t.Errorf("%s: signed again it has another header", name)
		}
		if patch, err = (Format{}).Remove(t.Context(), art(both), 1); err != nil || !bytes.Equal(apply(t, both, patch), one) {
			t.Errorf("%s: without the second signature it is not what it was: %v", name, err)
		}
	}
}

// The number of a cabinet in its set is signed: cabinets of a set cannot change
// places.
func TestNumberInTheSetIsSigned(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, recipes()["second of a set"].make(), s, nil)
	binary.LittleEndian.PutUint16(b[34:], 2)
	if _, err := (Format{}).Verify(t.Context(), art(b), s.Trust()); !errors.Is(err, authenticode.ErrDigest) {
		t.Error(err)
	}
}

func TestMalformed(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	plain, signed := recipes()["plain"].make(), seal(t, recipes()["plain"].make(), s, nil)
	put := func(b []byte, at int, v ...byte) []byte { b = bytes.Clone(b); copy(b[at:], v); return b }
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"checksum of the header":  {put(plain, 4, 1), "reserved"},
		"unknown flag":            {put(plain, 30, 8), "flags"},
		"no folders":              {put(plain, 26, 0, 0), "no folders"},
		"65535 folders":           {put(plain, 26, 0xff, 0xff), "folders"},
		"files before the header": {put(plain, 16, 8), "files at"},
		"files behind the end":    {put(plain, 16, 0xff, 0xff), "files at"},
		"cabinet beyond the file": {put(plain, 8, 0xff, 0xff, 0xff, 0xff), "in a file of"},
		"data behind the end":     {put(plain, 36, 0xff, 0xff, 0xff), "data of folder"},
		"bytes behind":            {append(bytes.Clone(plain), 0), "after the cabinet"},
		"reserve of others":       {recipe{text: "x", reserve: []byte("reserved header test 123")}.make(), "not what signatures need"},
		"short reserve":           {recipe{text: "x", reserve: []byte{0}}.make(), "reserve of 1 bytes"},
		"bytes after the parts":   {recipe{text: "x", reserve: []byte{0, 0, 0, 0, 1}}.make(), "after the two parts"},
		"signature inside":        {recipe{text: "x", reserve: append([]byte{0, 0, 32, 0}, make([]byte, 32)...)}.make(), "second part"},
		"signature elsewhere":     {put(signed, 44, 1), "signature of"},
		"signature of no bytes":   {put(signed, 48, 0, 0), "signature of"},
		"place with more":         {put(signed, 52, 1), "after the place"},
		"not DER":                 {put(signed, int(le32(signed[8:])), 0x30, 0x80), "signature"},
		"dirty padding":           {append(put(signed, 48, byte(len(signed)-int(le32(signed[8:]))+8), byte((len(signed)-int(le32(signed[8:]))+8)>>8)), make([]byte, 8)...), "only padding"},
		"endless name":            {bytes.Replace(recipes()["first of a set"].make()[:60], []byte("three.cab\x00Disk 3\x00"), bytes.Repeat([]byte("x"), 17), 1), ""},
	} {
		_, err := (Format{}).Plan(t.Context(), art(c.b), nil)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want one with %q", name, err, c.want)
		}
	}
	for _, b := range [][]byte{nil, []byte("MSCF"), bytes.Repeat([]byte("x"), 100)} {
		if _, err := (Format{}).Plan(t.Context(), art(b), nil); !errors.Is(err, ErrNotCab) || (Format{}).Detect(art(b)) {
			t.Errorf("%.10q: %v", b, err)
		}
	}
	if _, err := (Format{}).Verify(t.Context(), art(plain), s.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

// The forms in which others say that a digest is a cabinet's, Windows among them; a
// digest of another kind of file is not one.
func TestContentsOfOthers(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := recipes()["plain"].make()
	p, err := (Format{}).Plan(t.Context(), art(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	image := []byte{0x30, 3, 3, 1, 0}
	moniker := []byte{0xa1, 6, 4, 1, 'x', 4, 1, 'y'}
	for _, c := range []struct {
		name  string
		typ   asn1.ObjectIdentifier
		value []byte
		open  int // entries of the report, 0: refused
	}{
		{"cabinet, link", authenticode.OIDCabData, authenticode.ObsoleteLink(), 1}, {"cabinet, image data", authenticode.OIDCabData, image, 1},
		{"link with a further digest", authenticode.OIDLink, moniker, 2}, {"link", authenticode.OIDLink, authenticode.ObsoleteLink(), 1},
		{"image", authenticode.OIDPEImageData, image, 0}, {"installer", authenticode.OIDSipInfo, image, 0}, {"cabinet, nothing", authenticode.OIDCabData, nil, 0},
	} {
		content, err := authenticode.Indirect{Type: c.typ, Value: c.value, Hash: crypto.SHA256, Digest: p.Content}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		st := &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content}
		tbs, err := st.Assemble(s.Identity, nil)
		if err != nil {
			t.Fatal(err)
		}
		der, err := st.Seal(s.Identity, []format.Signature{{Value: s.SignInput(t, tbs[0].Input())}})
		if err != nil {
			t.Fatal(err)
		}
		cabinet, err := open(art(b))
		if err != nil {
			t.Fatal(err)
		}
		patch, err := cabinet.Put(t.Context(), der)
		if err != nil {
			t.Fatal(err)
		}
		r, err := (Format{}).Verify(t.Context(), art(apply(t, b, patch)), s.Trust())
		if (err == nil) != (c.open > 0) || err == nil && len(r.Signatures[0].Open) != c.open {
			t.Errorf("%s: %v, %+v", c.name, err, r)
		}
	}
}

// gcab makes a cabinet of files of n bytes in all.
func gcab(t *testing.T, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out.cab")
	for i := range 3 {
		name := filepath.Join(dir, fmt.Sprintf("file%d.txt", i))
		if err := os.WriteFile(name, bytes.Repeat([]byte(fmt.Sprintf("line %d of a file\r\n", i)), 9000), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if _, err := formattest.RunJudge(t, formattest.Program(t, "gcab", "apt-get install gcab"), append([]string{"-cn", out}, args...)...); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestList(t *testing.T) {
	var got []string
	if err := (Format{}).List(t.Context(), art(gcab(t, "-z")), func(e format.Entry) error {
		got = append(got, fmt.Sprintf("%s %d", e.Name, e.Size))
		return nil
	}); err != nil || fmt.Sprint(got) != "[file0.txt 162000 file1.txt 162000 file2.txt 162000]" {
		t.Errorf("%v, %v", got, err)
	}
}

const tests = "/usr/libexec/installed-tests/libgcab-1.0/"

func installed(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(tests + name)
	if err != nil {
		t.Fatalf("%v: apt-get install libgcab-tests", err)
	}
	return b
}

// A cabinet that somebody signed years ago, with SHA-1: it is read and refused.
func TestOldSignature(t *testing.T) {
	b := installed(t, "test-signed.cab")
	r, err := (Format{}).Inspect(t.Context(), art(b))
	if err != nil || len(r.Signatures) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	s := formattest.Identity(t, sigalg.P256)
	if _, err := (Format{}).Verify(t.Context(), art(b), s.Trust()); err == nil {
		t.Error("accepted")
	}
	c, err := open(art(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Format{}).Verify(t.Context(), art(seal(t, b, s, format.Params{"existing": "replace"})), s.Trust()); err != nil || c.der == nil {
		t.Errorf("replaced: %v", err)
	}
}

// osslsigncode takes what we sign and we take what it signs: cabinets of gcab,
// stored and packed, of its tests, and the first one of a set.
func TestOracleCAB(t *testing.T) {
	j := authenticodetest.New(t)
	v := formattest.Judge(t, "cab", j.Version)
	v.Note = "cabinets after the first of a set: osslsigncode does not read them"
	options := []format.Params{nil, {"description": "Größe", "url": "https://example.com/", "digest": "sha384"}}
	theirs := [][]string{nil, {"-n", "Cabinet"}}
	in := func(name string, b []byte) authenticodetest.Input {
		end := bytes.Clone(b[len(b)-30:])
		return authenticodetest.Input{Name: name, Data: b, At: end, Params: options, Foreign: theirs}
	}
	reserve := in("reserve.cab", recipes()["empty reserve"].make())
	reserve.Foreign = nil // osslsigncode takes no empty reserve
	set := in("set.cab", recipes()["first of a set"].make())
	set.Foreign = nil // osslsigncode leaves the names out when it signs, and then does not accept itself
	j.Oracle(t, v, Format{}, []authenticodetest.Input{
		in("stored.cab", gcab(t)), in("packed.cab", gcab(t, "-z")), in("none.cab", installed(t, "test-none.cab")), in("zip.cab", installed(t, "test-mszip.cab")),
		reserve, set,
	})
}

func FuzzPlan(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	for _, r := range recipes() {
		f.Add(r.make())
	}
	f.Add(seal(f, recipes()["plain"].make(), s, nil))
	n := 0
	for _, name := range []string{"CVE-2014-9556.cab", "CVE-2014-9732.cab", "CVE-2015-4470.cab", "CVE-2015-4471.cab", "test-ncbytes-overflow.cab"} {
		f.Add(installed(f, name))
		n++
	}
	if n == 0 {
		f.Fatal("no hostile seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = (Format{}).List(t.Context(), art(b), func(format.Entry) error { return nil })
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
		if patch, err = (Format{}).Remove(t.Context(), art(signed), -1); err != nil {
			t.Fatal(err)
		}
		again, err := (Format{}).Plan(t.Context(), art(apply(t, signed, patch)), format.Params{"existing": "replace"})
		if err != nil || !bytes.Equal(again.Content, p.Content) {
			t.Fatalf("bare again it has another digest: %v", err)
		}
	})
}

// relic takes what we sign: cabinets of gcab and of Microsoft's tools.
func TestOracleCABbyRelic(t *testing.T) {
	j := authenticodetest.NewRelic(t)
	v := formattest.Judge(t, "cab", j.Version)
	v.Note = "no sets of cabinets; relic's signatures are not in DER's order: they are not taken"
	var inputs []authenticodetest.Input
	for name, b := range map[string][]byte{"packed.cab": gcab(t, "-z"), "dummy.cab": authenticodetest.Sample(t, "dummy.cab"), "reserve.cab": recipes()["empty reserve"].make()} {
		inputs = append(inputs, authenticodetest.Input{Name: name, Data: b, At: bytes.Clone(b[len(b)-30:]), Params: []format.Params{nil, {"digest": "sha512"}}})
	}
	j.Oracle(t, v, Format{}, inputs)
}
