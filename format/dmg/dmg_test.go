package dmg

import (
	"bytes"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write golden files")

// small is an image of n bytes of data and a property list that says nothing.
func small(n int, seed byte) []byte {
	list := `<plist version="1.0"><dict/></plist>`
	b := bytes.Repeat([]byte{seed}, n)
	b = append(b, list...)
	t := make([]byte, trailerSize)
	copy(t, magic)
	be.PutUint32(t[atVersion:], imageVersion)
	be.PutUint32(t[atSize:], trailerSize)
	be.PutUint64(t[32:], uint64(n))
	be.PutUint32(t[atSegments:], 1)
	be.PutUint64(t[atList:], uint64(n))
	be.PutUint64(t[atList+8:], uint64(len(list)))
	return append(b, t...)
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("a.dmg", b) }

func seal(tb testing.TB, b []byte, s *formattest.Signer, p format.Params, stamp bool) []byte {
	tb.Helper()
	f := Format{}
	if p == nil {
		p = format.Params{"identifier": "com.example.image"}
	}
	plan, err := f.Plan(tb.Context(), artifact(b), p)
	if err != nil {
		tb.Fatal(err)
	}
	sigs := formattest.SignAll(tb, f, plan, s, formattest.At)
	if stamp {
		sigs[0].Timestamp = s.Timestamp(tb, sigs[0].Value, formattest.At)
	}
	patch, err := f.Attach(tb.Context(), artifact(b), plan, s.Identity, formattest.At, sigs)
	if err != nil {
		tb.Fatal(err)
	}
	return apply(tb, b, patch)
}

func apply(tb testing.TB, b []byte, p *format.Patch) []byte {
	tb.Helper()
	out, err := p.Bytes(artifact(b))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func verify(tb testing.TB, b []byte, t format.Trust) (*format.Report, error) {
	tb.Helper()
	return Format{}.Verify(tb.Context(), artifact(b), t)
}

func flipped(b []byte, at int64) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1
	return c
}

func TestConformance(t *testing.T) {
	formattest.Run(t, Format{}, formattest.Case{
		Artifact: small(100, 1), Other: small(100, 2), Name: "a.dmg", Signer: formattest.Identity(t, sigalg.P256),
		Params: format.Params{"identifier": "a"}, Refused: []format.Params{{}, {"identifier": "a", "requirements": "AAAA"}, {"identifier": "a", "digest": "sha1"}},
		Unsigned: []string{"Facts"}, // details: what the property list says
	})
}

func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good := seal(t, small(5000, 1), s, nil, true)
	m, err := parse(artifact(good))
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int64{"data": 7, "property list": m.end - 1, "trailer": m.size - 1, "checksum in the trailer": m.size - trailerSize + 90} {
		if _, err := verify(t, flipped(good, at), s.Trust()); !errors.Is(err, ErrDigest) && !errors.Is(err, codesign.ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Bytes that are put between signature and trailer, the length told and not told.
	inner := append(bytes.Clone(good[:m.size-trailerSize]), make([]byte, 64)...)
	if _, err := verify(t, append(inner, m.trailer...), s.Trust()); !errors.Is(err, ErrMalformed) {
		t.Errorf("bytes behind the signature: %v", err)
	}
	inner[len(inner)-1] = 1
	if _, err := verify(t, append(inner, m.signed(m.old+64)...), s.Trust()); !errors.Is(err, codesign.ErrMalformed) {
		t.Errorf("bytes in the signature: %v", err)
	}
	// A good signature over the image that leaves the trailer to anybody.
	d, err := m.signature(artifact(good))
	if err != nil {
		t.Fatal(err)
	}
	c := codesign.Code{Identifier: "a", Limit: m.end, Slots: d.Directories[0].Slots}
	a, err := c.Assemble(crypto.SHA256, s.Identity, formattest.At)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.Finish(format.Signature{Value: s.Sign(t, a.Message)})
	if err != nil {
		t.Fatal(err)
	}
	loose := apply(t, good, m.patch(b, m.signed(int64(len(b)))))
	if _, err := verify(t, loose, s.Trust()); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "trailer is not hashed") {
		t.Errorf("trailer without a slot: %v", err)
	}
}

func TestRefused(t *testing.T) {
	good := small(100, 1)
	field := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[len(b)-trailerSize+at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"no trailer": make([]byte, 600), "short": good[:100], "segments": field(atSegments+3, 2), "version": field(atVersion+3, 5),
		"list outside": field(atList, 1), "bytes before the trailer": append(append(bytes.Clone(good[:136]), 0), good[136:]...), "signature that is not there": field(atSignature+7, 9),
	} {
		if _, err := (Format{}).Plan(t.Context(), artifact(b), format.Params{"identifier": "a"}); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNotImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplaceStampRemove(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	bare := small(5000, 1)
	b := seal(t, bare, s, nil, false)
	if _, err := (Format{}).Plan(t.Context(), artifact(b), nil); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	todo, err := Format{}.Unstamped(t.Context(), artifact(b), nil)
	if err != nil || len(todo) != 1 {
		t.Fatalf("%v, %v", todo, err)
	}
	patch, err := Format{}.Stamp(t.Context(), artifact(b), nil, todo[0], s.Timestamp(t, todo[0].Message, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	stamped := apply(t, b, patch)
	if r, err := verify(t, stamped, s.Trust()); err != nil || r.Signatures[0].Time.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	other := formattest.Identity(t, sigalg.RSA3072)
	again := seal(t, stamped, other, format.Params{"replace": "true", "digest": "sha384"}, false)
	if r, err := verify(t, again, other.Trust()); err != nil || r.Signatures[0].Digest != "sha384" || r.Signatures[0].Facts[0].Value != "com.example.image" {
		t.Errorf("%+v, %v", r, err)
	}
	if patch, err = (Format{}).Remove(t.Context(), artifact(again), -1); err != nil || !bytes.Equal(apply(t, again, patch), bare) {
		t.Errorf("removed: another image: %v", err)
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, Format{}, artifact(small(8<<20, 1)), format.Params{"identifier": "a"})
}

func TestGoldenPlan(t *testing.T) {
	p, err := Format{}.Plan(t.Context(), artifact(small(5000, 1)), format.Params{"identifier": "com.example.golden"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("plan differs from %s: %v", path, err)
	}
}

func FuzzParse(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	f.Add(small(100, 1))
	f.Add(seal(f, small(100, 1), s, nil, false))
	trust := s.Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(artifact(b))
		if err != nil {
			return
		}
		if m.end+m.old+trailerSize != int64(len(b)) {
			t.Fatalf("%+v", m)
		}
		Format{}.Inspect(t.Context(), artifact(b))
		Format{}.Verify(t.Context(), artifact(b), trust)
		if p, err := (Format{}).Plan(t.Context(), artifact(b), format.Params{"identifier": "x", "replace": "true"}); err == nil {
			if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Fatalf("a plan that nobody can sign: %v", err)
			}
		}
	})
}

const hint = "run make judges"

func write(tb testing.TB, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "a.dmg")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// TestOracleDMG has relic judge images; what it signs itself has its attributes in
// no order of DER, which package cms refuses.
func TestOracleDMG(t *testing.T) {
	v := formattest.Judge(t, "dmg", "relic 8.2.0, openssl")
	v.Note = "relic stands in for Apple's systems (image, trailer, CMS, chain, timestamp), OpenSSL judges the CMS signature once more; no other signer of images makes CMS that is in DER"
	sample, err := os.ReadFile(filepath.Join(formattest.Judges(t), "lib", "relic", "packages", "dummy.dmg"))
	if err != nil {
		t.Fatalf("%v: %s", err, hint)
	}
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := formattest.Identity(t, key)
		_, _, root := s.Root.WriteFiles(t, t.TempDir(), "root")
		judge := func(b []byte) error {
			out, err := formattest.RunJudge(t, formattest.Program(t, "relic", hint), "verify", "--cert", root, write(t, b))
			if err == nil && !strings.Contains(out, "OK") {
				err = errors.New(out)
			}
			return err
		}
		for name, b := range map[string][]byte{"Apple": sample, "larger": small(3<<20, 9)} {
			signed := seal(t, b, s, nil, true)
			m, err := parse(artifact(signed))
			if err != nil {
				t.Fatal(err)
			}
			what := name + " " + string(key)
			v.Accepts(what, formattest.Key(key), errors.Join(judge(signed), openssl(t, root, signed)))
			for where, at := range map[string]int64{"data": 1000, "trailer": m.size - 20, "CodeDirectory": m.end + 100} {
				bad := flipped(signed, at)
				_, ours := verify(t, bad, s.Trust())
				v.Rejects(what+": "+where, ours, judge(bad))
			}
		}
	}
}

func openssl(tb testing.TB, root string, b []byte) error {
	tb.Helper()
	side, err := Format{}.Extract(tb.Context(), artifact(b), 0)
	if err != nil {
		return err
	}
	m, err := parse(artifact(b))
	if err != nil {
		return err
	}
	s, err := m.signature(artifact(b))
	if err != nil {
		return err
	}
	_, err = cmstest.OpenSSL(tb, "cms", "-verify", "-binary", "-inform", "DER", "-in", write(tb, side.Data), "-content", write(tb, s.Directories[0].Raw),
		"-CAfile", root, "-purpose", "any", "-attime", fmt.Sprint(formattest.At.Unix()), "-out", os.DevNull)
	return err
}
