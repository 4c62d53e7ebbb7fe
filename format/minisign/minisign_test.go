package minisign

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
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

const text = "any file at all\n"

func sign(t testing.TB, content []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	return formattest.Detach(t, New(), format.BytesArtifact("f", content), s, p)
}

func check(t testing.TB, content, side []byte, s *formattest.Signer) error {
	t.Helper()
	return formattest.Check(t, New(), format.BytesArtifact("f", content), side, s)
}

func TestConformance(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	for _, p := range []format.Params{{"trusted-comment": "release 1.2.3"}, {"key-id": "3C593CDBB701C04F"}} {
		formattest.Run(t, New(), formattest.Case{
			Artifact: []byte(text), Other: []byte(text + "\n"), Name: "f", Signer: s, Params: p,
			// The key's ID is a hint that no signature covers.
			Unsigned: []string{"Size", "Params"}[:1+len(p["key-id"])/16],
			Refused:  []format.Params{{"key-id": "12"}, {"key-id": "3c593cdbb701c04f"}, {"key-id": "XC593CDBB701C04F"}, {"trusted-comment": "a\nb"}, {"trusted-comment": strings.Repeat("x", 1001)}, {"trusted-comment": "\u202e"}, {"digest": "sha256"}},
			Open: func(b []byte, i int) bool {
				line := bytes.IndexByte(b, '\n') + 1 // the second: kind, key ID, signature
				return i >= len(untrusted) && i < line-1 || i >= line+2 && i <= line+13
			},
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), format.BytesArtifact("large", make([]byte, 8<<20+1)), nil)
}

func TestAttacks(t *testing.T) {
	s, other := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.Ed25519)
	good := sign(t, []byte(text), s, format.Params{"trusted-comment": "version 1"})
	if err := check(t, []byte(text), good, s); err != nil {
		t.Fatal(err)
	}
	sig, err := parse(good)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*signature)) []byte {
		c := *sig
		f(&c)
		return c.encode()
	}
	second, err := parse(sign(t, []byte("other\n"), s, format.Params{"trusted-comment": "version 1"}))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(good), "\n")
	raw, err := base64.StdEncoding.DecodeString(lines[1])
	if err != nil {
		t.Fatal(err)
	}
	raw[1] = 'd'
	for name, b := range map[string][]byte{
		"another trusted comment":            change(func(s *signature) { s.comment = "version 2" }),
		"the global signature of another":    change(func(s *signature) { s.global = second.global }),
		"both signatures of another":         second.encode(),
		"the signatures exchanged":           change(func(s *signature) { s.content, s.global = s.global, s.content }),
		"the older kind, over the content":   []byte(strings.Replace(string(good), lines[1], base64.StdEncoding.EncodeToString(raw), 1)),
		"no trusted comment":                 []byte(strings.Join(lines[:2], "\n") + "\n"),
		"a line more":                        append(bytes.Clone(good), '\n'),
		"carriage returns":                   bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"an escape in the untrusted comment": change(func(s *signature) { s.note = "\x1b[2J" }),
		"a comment beyond its limit":         change(func(s *signature) { s.note = strings.Repeat("x", 2000) }),
	} {
		if check(t, []byte(text), b, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// One key for each of the two signatures is none.
	mixed, err := parse(sign(t, []byte(text), other, format.Params{"trusted-comment": "version 1"}))
	if err != nil {
		t.Fatal(err)
	}
	mixed.content = sig.content
	tr := s.Trust()
	tr.Keys = append(tr.Keys, other.Public)
	tr.Detached = mixed.encode()
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr); err == nil {
		t.Error("two keys")
	}
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", nil), s.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Assemble(p, formattest.Identity(t, sigalg.P256).Identity, formattest.At, nil); err == nil {
		t.Error("P-256 is accepted")
	}
}

func TestInspect(t *testing.T) {
	side := format.BytesArtifact("f", sign(t, []byte(text), formattest.Identity(t, sigalg.Ed25519), nil))
	if r, err := New().Inspect(t.Context(), side); err != nil || len(r.Signatures) != 1 || !New().Detect(side) {
		t.Errorf("%+v, %v", r, err)
	}
	plain := format.BytesArtifact("f", []byte(text))
	if r, err := New().Inspect(t.Context(), plain); err != nil || len(r.Signatures) != 0 || New().Detect(plain) {
		t.Errorf("%+v, %v", r, err)
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), format.Params{"key-id": "3C593CDBB701C04F"})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(bytes.Repeat([]byte{1}, 32))}
	got := fmt.Appendf(nil, "plan %x\n", enc)
	var done [][]byte
	for range 2 {
		tbs, err := New().Assemble(plan, id, formattest.At, done)
		if err != nil {
			t.Fatal(err)
		}
		got = fmt.Appendf(got, "message %x\n", tbs[0].Message)
		done = append(done, bytes.Repeat([]byte{2}, 64))
	}
	path, seed := filepath.Join("testdata", "plan.txt"), filepath.Join("testdata", "file.minisig")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(seed, sign(t, []byte(text), formattest.Identity(t, sigalg.Ed25519), nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%v\n%s", err, got)
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "file.minisig"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		sig, err := parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(sig.encode(), b) {
			t.Fatal("it changed")
		}
		if check(t, []byte(text), b, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
	})
}

func TestOracleMinisign(t *testing.T) {
	mini := formattest.Program(t, "minisign", "apt-get install minisign")
	v := formattest.Judge(t, Name, "minisign 0.11")
	exe, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	s := formattest.Identity(t, sigalg.Ed25519)
	pub := s.Public.(ed25519.PublicKey)
	write := func(dir, name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, content := range map[string][]byte{"program": exe, "text": []byte(text), "empty": {}} {
		for _, comment := range []string{"", "version 1.2.3 of everything"} {
			for _, id := range []string{"", "3C593CDBB701C04F"} {
				side := sign(t, content, s, format.Params{"trusted-comment": comment, "key-id": id})
				kid, err := readID(id, pub)
				if err != nil {
					t.Fatal(err)
				}
				judge := func(content, side []byte) (string, error) {
					dir := t.TempDir()
					return formattest.RunJudge(t, mini, "-V", "-p", write(dir, "key", PublicKey(pub, kid)), "-x", write(dir, "sig", side), "-m", write(dir, "file", content))
				}
				out, err := judge(content, side)
				v.Accepts(name+" "+comment, string(sigalg.Ed25519), err)
				if !strings.Contains(out, "Trusted comment: "+comment) {
					t.Errorf("minisign says %s", out)
				}
				bad := append(bytes.Clone(content), 0)
				_, theirs := judge(bad, side)
				v.Rejects(name, check(t, bad, side, s), theirs)
				badside := bytes.Replace(side, []byte("\n"+trusted), []byte("\n"+trusted+"x"), 1)
				_, theirs = judge(content, badside)
				v.Rejects(name+" comment", check(t, content, badside, s), theirs)
			}
		}
	}
	dir := t.TempDir()
	key, in := filepath.Join(dir, "key"), write(dir, "in", exe)
	if _, err := formattest.RunJudge(t, mini, "-G", "-W", "-p", key+".pub", "-s", key); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Split(string(b), "\n")[1])
	if err != nil {
		t.Fatal(err)
	}
	theirs := ed25519.PublicKey(raw[10:])
	if again := PublicKey(theirs, [keyIDSize]byte(raw[2:])); !bytes.Equal(again, b) {
		t.Errorf("their key %s is written as %s", b, again)
	}
	for _, args := range [][]string{nil, {"-t", "a comment"}, {"-l"}} {
		if _, err := formattest.RunJudge(t, mini, append([]string{"-S", "-s", key, "-m", in}, args...)...); err != nil {
			t.Fatal(err)
		}
		side, err := os.ReadFile(in + Suffix)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New().Verify(t.Context(), format.BytesArtifact("f", exe), format.Trust{Keys: []crypto.PublicKey{theirs}, Detached: side})
		if len(args) == 1 { // legacy
			v.RejectsAlone("the older kind", err)
			continue
		}
		v.Takes(strings.Join(args, " "), err)
	}
}
