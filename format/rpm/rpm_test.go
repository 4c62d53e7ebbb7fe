package rpm

import (
	"bytes"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func str(tag uint32, v string) entry {
	return entry{tag: tag, typ: typeString, count: 1, data: append([]byte(v), 0)}
}

func num(tag uint32, v uint32) entry {
	return entry{tag: tag, typ: typeInt32, count: 1, data: binary.BigEndian.AppendUint32(nil, v)}
}

// build makes a package of a name and a payload, with reserved bytes of space.
func build(name, payload string, reserved int, change ...func(main, sig []entry) ([]entry, []entry)) []byte {
	sum := sha256.Sum256([]byte(payload))
	main := []entry{
		str(tagName, name), str(tagVersion, "1.2.3"), str(tagRelease, "1"), str(tagSummary, "a package\twith a tab"), str(tagArch, "noarch"),
		{tag: tagDigest, typ: typeStringArray, count: 1, data: append([]byte(hex.EncodeToString(sum[:])), 0)}, num(tagDigestAlgo, 8),
	}
	var sig []entry
	for _, c := range change {
		main, _ = c(main, nil)
	}
	h := encode(tagRegion, sorted(main))
	s1, s256, m := sha1.Sum(h), sha256.Sum256(h), md5.Sum(append(bytes.Clone(h), payload...))
	sig = []entry{str(tagSHA1, hex.EncodeToString(s1[:])), str(tagSHA256, hex.EncodeToString(s256[:])), num(tagSize, uint32(len(h)+len(payload))), {tag: tagMD5, typ: typeBin, count: 16, data: m[:]}}
	if reserved > 0 {
		sig = append(sig, entry{tag: tagReserved, typ: typeBin, count: uint32(reserved), data: make([]byte, reserved)})
	}
	for _, c := range change {
		_, sig = c(nil, sig)
	}
	lead := make([]byte, leadSize)
	copy(lead, leadMagic+"\x03\x00\x00\x00\x00\x01"+name)
	lead[77], lead[79] = 1, leadSignatures
	s := encode(tagRegionSig, sorted(sig))
	s = append(s, make([]byte, (8-len(s)%8)%8)...)
	return append(append(append(lead, s...), h...), payload...)
}

func sign(t testing.TB, content []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	a := format.BytesArtifact("p.rpm", content)
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	b, err := patch.Bytes(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t testing.TB, file []byte, s *formattest.Signer) error {
	t.Helper()
	_, err := New().Verify(t.Context(), format.BytesArtifact("p.rpm", file), s.Trust())
	return err
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		key      sigalg.Key
		v3       string
		reserved int
	}{{sigalg.RSA3072, "false", 600}, {sigalg.Ed25519, "true", 600}, {sigalg.Ed25519, "false", 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			formattest.Run(t, New(), formattest.Case{
				Artifact: build("hello", "payload\n", c.reserved), Other: build("hullo", "payload\n", c.reserved), Name: "hello.rpm",
				Params: format.Params{"v3": c.v3}, Signer: formattest.Identity(t, c.key),
				Refused: []format.Params{{"digest": "sha1"}, {"key-version": "6"}, {"key-created": ""}},
				// Of the body, where the header lies; facts are what inspectors recompute.
				Unsigned: []string{"Size", "Facts", "Body"},
				// The lead repeats what the header says; rpm ignores it.
				Open: func(_ []byte, i int) bool { return i >= 6 && i < 78 },
			})
		})
	}
}

// The header of one package with the payload of another is two good halves.
func TestPayloadOfAnotherPackage(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	one, two := sign(t, build("hello", "good payload\n", 600), s, nil), sign(t, build("hello", "evil payload\n", 600), s, nil)
	n := len("good payload\n")
	if check(t, one, s) != nil || check(t, two, s) != nil {
		t.Fatal("signed ones do not verify")
	}
	mixed := append(bytes.Clone(one[:len(one)-n]), two[len(two)-n:]...)
	if check(t, mixed, s) == nil {
		t.Error("header and payload of two packages are accepted")
	}
	// And where whoever mixes them mends the digests that nobody signs.
	h, err := readHead(t.Context(), format.BytesArtifact("f", mixed))
	if err != nil {
		t.Fatal(err)
	}
	m := md5.Sum(mixed[h.begin():])
	mixed = bytes.Replace(mixed, func() []byte { e, _ := h.sig.find(tagMD5); return e.data }(), m[:], 1)
	if err := check(t, mixed, s); err == nil || !strings.Contains(err.Error(), "payload") {
		t.Errorf("mended: %v", err)
	}
}

func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	with := func(f func(main []entry) []entry) []byte {
		return build("hello", "payload", 600, func(main, sig []entry) ([]entry, []entry) {
			if main != nil {
				main = f(main)
			}
			return main, sig
		})
	}
	drop := func(tag uint32) []byte {
		return with(func(m []entry) []entry {
			var out []entry
			for _, e := range m {
				if e.tag != tag {
					out = append(out, e)
				}
			}
			return out
		})
	}
	good := build("hello", "payload", 600)
	h, err := readHead(t.Context(), format.BytesArtifact("f", good))
	if err != nil {
		t.Fatal(err)
	}
	// An entry behind the region: its count grows, the region's stays.
	dribble := bytes.Clone(good[:h.begin()])
	m := bytes.Clone(h.mainRaw)
	binary.BigEndian.PutUint32(m[8:], uint32(len(h.main.entries)+2))
	extra := make([]byte, entrySize)
	binary.BigEndian.PutUint32(extra, 1023)
	binary.BigEndian.PutUint32(extra[4:], typeString)
	binary.BigEndian.PutUint32(extra[12:], 1)
	at := introSize + (len(h.main.entries)+1)*entrySize
	dribble = append(dribble, m[:at]...)
	dribble = append(append(append(dribble, extra...), m[at:]...), "payload"...)
	for name, b := range map[string][]byte{
		"no payload digest":             drop(tagDigest),
		"no algorithm of the digest":    drop(tagDigestAlgo),
		"MD5 of the payload":            with(func(m []entry) []entry { m[len(m)-1] = num(tagDigestAlgo, 1); return m }),
		"an entry twice":                with(func(m []entry) []entry { return append(m, str(tagName, "evil")) }),
		"an entry outside of a region":  dribble,
		"no payload":                    good[:len(good)-len("payload")],
		"header cut":                    good[:h.begin()+40],
		"a region in the wrong header":  append(append(bytes.Clone(good[:h.begin()]), encode(tagRegionSig, h.main.entries)...), "payload"...),
		"a count that is too large":     bytes.Replace(good, []byte("\x00\x00\x13\xe5\x00\x00\x00\x04\x00\x00\x00"), []byte("\x00\x00\x13\xe5\x00\x00\x00\x04\x7f\x00\x00"), 1),
		"a lead with another signature": append(append(bytes.Clone(good[:79]), 1), good[80:]...),
	} {
		if bytes.Equal(b, good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := New().Plan(t.Context(), format.BytesArtifact("f", b), nil); err == nil {
			t.Errorf("%s: a plan is made", name)
		}
	}
	for _, k := range []sigalg.Key{sigalg.P256, sigalg.MLDSA65} {
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", good), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New().Assemble(p, formattest.Identity(t, k).Identity, formattest.At, nil); err == nil {
			t.Errorf("%s is accepted", k)
		}
	}
	// A v3 signature alone: rpm would have used the header before it is checked.
	signed := sign(t, good, s, format.Params{"v3": "true"})
	if err := check(t, signed, s); err != nil {
		t.Fatal(err)
	}
	p, err := Format{}.Remove(t.Context(), format.BytesArtifact("f", signed), 0)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := p.Bytes(format.BytesArtifact("f", signed))
	if err != nil {
		t.Fatal(err)
	}
	if err := check(t, alone, s); err == nil || !strings.Contains(err.Error(), "header alone") {
		t.Errorf("v3 alone: %v", err)
	}
}

// Invariant 3: with v3, neither state can be exchanged.
func TestStatesOfTwoPackages(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	plan := func(b []byte) (*format.Plan, *body) {
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", b), format.Params{"v3": "true"})
		if err != nil {
			t.Fatal(err)
		}
		v := &body{}
		if err := format.Decode(p.Body, v); err != nil {
			t.Fatal(err)
		}
		return p, v
	}
	good, gb := plan(build("hello", "good payload\n", 600))
	_, eb := plan(build("hello", "evil payload\n", 600))
	for name, b := range map[string]body{
		"both":    {Header: gb.Header, Both: eb.Both, HeaderSize: gb.HeaderSize, Before: gb.Before},
		"header":  {Header: eb.Header, Both: gb.Both, HeaderSize: gb.HeaderSize, Before: gb.Before},
		"no both": {Header: gb.Header, HeaderSize: gb.HeaderSize, Before: gb.Before},
	} {
		p := *good
		var err error
		if p.Body, err = format.Encode(b); err != nil {
			t.Fatal(err)
		}
		if _, err := New().Assemble(&p, s.Identity, formattest.At, nil); err == nil {
			t.Errorf("%s of another package is accepted", name)
		}
	}
}

// Signatures go into reserved space: the file keeps its size, header and payload
// their place. Keys of two kinds sign side by side.
func TestReservedSpace(t *testing.T) {
	rsa, ed := formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.Ed25519)
	for reserved := 700; reserved < 740; reserved++ {
		b := build("hello", "payload", reserved)
		one := sign(t, b, rsa, nil)
		two := sign(t, one, ed, nil)
		if len(one) != len(b) || len(two) != len(b) {
			t.Errorf("%d reserved: sizes %d, %d, %d", reserved, len(b), len(one), len(two))
		}
		tr := rsa.Trust()
		tr.Keys = append(tr.Keys, ed.Public)
		r, err := New().Verify(t.Context(), format.BytesArtifact("f", two), tr)
		if err != nil || len(r.Signatures) != 2 {
			t.Fatalf("%v", err)
		}
		if check(t, two, rsa) == nil {
			t.Error("a second signature that is not trusted is accepted")
		}
		// Taken off again, the file is what it was.
		for _, f := range [][]byte{one, two} {
			p, err := Format{}.Remove(t.Context(), format.BytesArtifact("f", f), -1)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.Bytes(format.BytesArtifact("f", f)); err != nil || len(got) != len(b) || check(t, got, rsa) == nil {
				t.Errorf("%d reserved: removal: %v", reserved, err)
			}
		}
	}
	once := sign(t, build("hello", "payload", 0), rsa, nil)
	if err := check(t, once, rsa); err != nil {
		t.Error(err)
	}
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", once), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Attach(t.Context(), format.BytesArtifact("f", once), plan, rsa.Identity, formattest.At, formattest.SignAll(t, New(), plan, rsa, formattest.At)); err == nil {
		t.Error("a second signature by RSA takes the place of the first")
	}
	again := sign(t, once, formattest.Identity(t, sigalg.RSA4096), format.Params{"replace": "true"})
	if check(t, again, rsa) == nil {
		t.Error("replaced and still good")
	}
}

// Lists of files that lie about their length.
func TestList(t *testing.T) {
	array := func(tag uint32, vs ...string) entry {
		return entry{tag: tag, typ: typeStringArray, count: uint32(len(vs)), data: []byte(strings.Join(vs, "\x00") + "\x00")}
	}
	good := map[uint32]entry{tagFileSizes: num(tagFileSizes, 3), tagFileDigests: array(tagFileDigests, strings.Repeat("ab", 32)), tagDirIndexes: num(tagDirIndexes, 0), tagBaseNames: array(tagBaseNames, "f"), tagDirNames: array(tagDirNames, "/etc/"), tagFileAlgorithm: num(tagFileAlgorithm, 8)}
	for name, c := range map[string]struct {
		tag   uint32
		entry entry
	}{
		"":                   {},
		"a folder too far":   {tagDirIndexes, num(tagDirIndexes, 1)},
		"more names":         {tagBaseNames, array(tagBaseNames, "f", "g")},
		"no sizes":           {tagFileSizes, str(tagFileSizes, "x")},
		"a digest too short": {tagFileDigests, array(tagFileDigests, "ab")},
	} {
		b := build("hello", "payload", 0, func(main, sig []entry) ([]entry, []entry) {
			if main == nil {
				return nil, sig
			}
			for tag, e := range good {
				if tag == c.tag {
					e = c.entry
				}
				main = append(main, e)
			}
			return main, nil
		})
		n := 0
		err := Format{}.List(t.Context(), format.BytesArtifact("f", b), func(e format.Entry) error {
			n++
			if e.Name != "/etc/f" || e.Size != 3 || len(e.Digest) != 32 {
				t.Errorf("%+v", e)
			}
			return nil
		})
		if (err == nil) != (name == "") || name == "" && n != 1 {
			t.Errorf("%q: %d files, %v", name, n, err)
		}
	}
	if err := (Format{}).List(t.Context(), format.BytesArtifact("f", build("a", "b", 0)), func(format.Entry) error { return nil }); err != nil {
		t.Errorf("no files: %v", err)
	}
}

func TestExtract(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	a := format.BytesArtifact("f", sign(t, build("hello", "payload", 600), s, format.Params{"v3": "true"}))
	for i := range 2 {
		if _, err := (Format{}).Extract(t.Context(), a, i); err != nil {
			t.Error(err)
		}
	}
	if _, err := (Format{}).Extract(t.Context(), a, 2); err == nil {
		t.Error("signature 2 of 2")
	}
	if _, err := (Format{}).Extract(t.Context(), format.BytesArtifact("f", build("a", "b", 0)), 0); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	var got bytes.Buffer
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(bytes.Repeat([]byte{1}, 32))}
	for _, v3 := range []string{"false", "true"} {
		plan, err := New().Plan(t.Context(), format.BytesArtifact("f", build("hello", "payload\n", 600)), format.Params{"v3": v3})
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := New().Assemble(plan, id, formattest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "plan %x\n", enc)
		for _, m := range tbs {
			fmt.Fprintf(&got, "message %x\n", m.Message)
		}
	}
	path := filepath.Join("testdata", "plans.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		s := formattest.Identity(t, sigalg.Ed25519)
		if err := os.WriteFile(filepath.Join("testdata", "signed.rpm"), sign(t, build("hello", "payload\n", 300), s, format.Params{"v3": "true"}), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Errorf("%v\n%s", err, got.Bytes())
	}
}

// Entries keep the order in which they stand, which with numbers among them decides
// where the others lie.
func TestHeaderIsWrittenAsRead(t *testing.T) {
	for name, tags := range map[string][]entry{
		"by tag":             {str(tagName, "hello"), str(tagVersion, "1"), num(tagDigestAlgo, 8)},
		"by place":           {num(tagDigestAlgo, 8), str(tagVersion, "1"), str(tagName, "hello")},
		"text before number": {str(0xdd02e9, "hello"), num(tagDigestAlgo, 8), str(tagName, "a")},
		"tag above 31 bits":  {str(0xffffffff, "hello"), num(tagDigestAlgo, 8)},
	} {
		for _, region := range []uint32{tagRegion, tagRegionSig} {
			b := encode(region, tags)
			h, err := parseHeader(b, region)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := encode(region, h.entries); !bytes.Equal(got, b) {
				t.Errorf("%s: %x is written as %x", name, b, got)
			}
		}
	}
}

func FuzzPackage(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "signed.rpm"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(build("hello", "payload", 0))
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := format.BytesArtifact("f", b)
		New().Detect(a)
		if check(t, b, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
		New().Inspect(t.Context(), a)
		Format{}.List(t.Context(), a, func(format.Entry) error { return nil })
		if h, err := readHead(t.Context(), a); err == nil {
			if got := encode(tagRegion, h.main.entries); !bytes.Equal(got, h.mainRaw) {
				t.Fatalf("header %x is written as %x", h.mainRaw, got)
			}
			sig := encode(tagRegionSig, h.sig.entries)
			if got := h.raw[leadSize:]; !bytes.HasPrefix(got, sig) || len(got)-len(sig) > 7 {
				t.Fatalf("signatures %x are written as %x", got, sig)
			}
		}
		if p, err := New().Plan(t.Context(), a, format.Params{"replace": "true"}); err == nil {
			if _, err := New().Attach(t.Context(), a, p, s.Identity, formattest.At, formattest.SignAll(t, New(), p, s, formattest.At)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
