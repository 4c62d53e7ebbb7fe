package gitobject

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/sshsig"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const commit = `tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
parent 1111111111111111111111111111111111111111
author A <a@example.com> 1767323045 +0000
committer B <b@example.com> 1767323045 +0100
encoding UTF-8

Make it so

Because.
`

const tag = `object 1111111111111111111111111111111111111111
type commit
tag v1.2.3
tagger A <a@example.com> 1767323045 +0000

Version 1.2.3
`

func options(s *formattest.Signer, kind string) format.Params {
	p := format.Params{"kind": kind, "digest": "sha512"}
	if h := s.Scheme.Hash(); h != 0 && kind != ssh {
		p["digest"] = format.HashName(h)
	}
	return p
}

func sign(t testing.TB, content string, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	a := format.BytesArtifact("f", []byte(content))
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

func check(t testing.TB, b []byte, s *formattest.Signer) error {
	t.Helper()
	_, err := New().Verify(t.Context(), format.BytesArtifact("f", b), s.Trust())
	return err
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		key     sigalg.Key
		kind    string
		content string
	}{
		{sigalg.Ed25519, ssh, commit}, {sigalg.P256, ssh, tag}, {sigalg.RSA3072, pgp, commit}, {sigalg.Ed25519, pgp, tag},
		{sigalg.P256, x509sig, commit}, {sigalg.RSA3072, x509sig, tag},
		{sigalg.Ed25519, ssh, strings.NewReplacer("4b825dc642cb6eb9a060e54bf8d69288fbee4904", strings.Repeat("4", 64), strings.Repeat("1", 40), strings.Repeat("1", 64)).Replace(commit)},
	} {
		t.Run(fmt.Sprint(c.key, c.kind, len(c.content)), func(t *testing.T) {
			t.Parallel()
			s := formattest.Identity(t, c.key)
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(c.content), Other: []byte(c.content + "more\n"), Name: "object", Signer: s, Params: options(s, c.kind),
				Refused: []format.Params{{"kind": "pgp"}, {"kind": ssh, "digest": "sha384"}, {"kind": ssh, "key-created": "2021-01-01T00:00:00Z"}, {"key-version": "6"}},
			})
		})
	}
}

// What git would strip, skip or take for something else.
func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	p := options(s, ssh)
	good, goodTag := string(sign(t, commit, s, p)), string(sign(t, tag, s, p))
	for _, b := range []string{good, goodTag} {
		if err := check(t, []byte(b), s); err != nil {
			t.Fatal(err)
		}
	}
	o, err := parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	header := good[strings.Index(good, "gpgsig"):strings.Index(good, "\n\n")]
	armor := string(o.signature)
	rep := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(s, old, new, 1)
	}
	for name, b := range map[string]string{
		"a second signature":                 rep(good, "\n\n", "\n"+header+"\n\n"),
		"a signature for the other hash":     rep(good, "\n\n", "\ngpgsig-sha256"+strings.TrimPrefix(header, "gpgsig")+"\n\n"),
		"a header that only looks like it":   rep(good, "\n\n", "\ngpgsig-other x\n\n"),
		"a second tree":                      rep(good, "encoding", "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nencoding"),
		"a parent after the committer":       rep(good, "encoding", "parent 1111111111111111111111111111111111111111\nencoding"),
		"a header more":                      rep(good, "encoding", "x evil\nencoding"),
		"zero byte in the message":           rep(good, "Because", "Because\x00"),
		"another message":                    rep(good, "Because", "Because not"),
		"another author":                     rep(good, "author A", "author E"),
		"upper-case names":                   rep(good, "4b825dc", "4B825DC"),
		"two authors on two lines":           rep(good, "author A", "author E\n A"),
		"text after a tag's signature":       goodTag + "evil\n",
		"an empty line more":                 goodTag + "\n\n",
		"two signatures of a tag":            goodTag + armor,
		"a signature inside a tag's message": rep(goodTag, "Version", armor+"Version"),
		"a message in PGP armour":            rep(goodTag, "-----BEGIN SSH", "-----BEGIN PGP MESSAGE-----\n-----BEGIN SSH"),
		"a commit's header in a tag":         rep(goodTag, "\n\n", "\n"+header+"\n\n"),
		"a tag's signature under a commit":   commit + armor,
		"the commit's signature under a tag": tag + armor,
		"a signature that is no signature":   rep(commit, "\n\n", "\ngpgsig x\n\n"),
		"no message":                         strings.Split(commit, "\n\n")[0] + "\n",
	} {
		if check(t, []byte(b), s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A signature over the same bytes that is for something else.
	foreign, err := sshsig.New().Plan(t.Context(), format.BytesArtifact("f", []byte(commit)), format.Params{"namespace": "file"})
	if err != nil {
		t.Fatal(err)
	}
	patch, err := sshsig.New().Attach(t.Context(), format.BytesArtifact("f", []byte(commit)), foreign, s.Identity, formattest.At, formattest.SignAll(t, sshsig.New(), foreign, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := parse([]byte(commit))
	if err != nil {
		t.Fatal(err)
	}
	at, insert, err := plain.sign(patch.Sidecar.Data)
	if err != nil {
		t.Fatal(err)
	}
	if check(t, []byte(commit[:at]+string(insert)+commit[at:]), s) == nil {
		t.Error("a signature of namespace file is accepted")
	}
	for name, b := range map[string]string{"a signed commit": good, "a signed tag": goodTag, "a tag without an end": strings.TrimSuffix(tag, "\n"), "a blob": "hello\n", "nothing": "", "too large": commit + strings.Repeat("x", MaxObject)} {
		if _, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(b)), p); err == nil {
			t.Errorf("%s: a plan is made", name)
		}
	}
}

// Invariant 1: plans that lie about their commit.
func TestForgedPlans(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(commit)), options(s, ssh))
	if err != nil {
		t.Fatal(err)
	}
	enc, err := format.Encode(body{[]byte(strings.Replace(commit, "Because", "Because not", 1))})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*format.Plan){
		"another commit": func(p *format.Plan) { p.Body = enc },
		"another fact":   func(p *format.Plan) { p.Facts = append([]format.Fact{{Name: "object", Value: "tag"}}, p.Facts[1:]...) },
		"no facts":       func(p *format.Plan) { p.Facts = nil },
		"another size":   func(p *format.Plan) { p.Size++ },
	} {
		p := *plan
		change(&p)
		if _, err := New().Assemble(&p, s.Identity, formattest.At, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A signature is not put into another object of the same size.
func TestAttachToAnotherObject(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	good := commit
	other := strings.Replace(good, "tree ", "tree 0", 1)
	other = other[:len("tree ")+40] + other[len("tree ")+41:]
	if len(other) != len(good) || other == good {
		t.Fatalf("%q", other)
	}
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(good)), options(s, ssh))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Attach(t.Context(), format.BytesArtifact("f", []byte(other)), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At)); err == nil {
		t.Error("attached to another commit")
	}
}

func TestReplaceAndRemove(t *testing.T) {
	one, two := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256)
	for _, content := range []string{commit, tag} {
		signed := sign(t, content, one, options(one, ssh))
		p := options(two, pgp)
		p["replace"] = "true"
		again := sign(t, string(signed), two, p)
		if check(t, again, two) != nil || check(t, again, one) == nil {
			t.Error("the signature was not replaced")
		}
		a := format.BytesArtifact("f", again)
		patch, err := Format{}.Remove(t.Context(), a, -1)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := patch.Bytes(a); err != nil || string(b) != content {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := (Format{}).Remove(t.Context(), format.BytesArtifact("f", []byte(content)), 0); !errors.Is(err, format.ErrUnsigned) {
			t.Error(err)
		}
		// As git asks a program for it: the signature alone, over the object without one.
		plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), options(one, ssh))
		if err != nil {
			t.Fatal(err)
		}
		armor, err := Format{}.Armored(plan, one.Identity, formattest.At, formattest.SignAll(t, New(), plan, one, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		if side, err := (Format{}).Extract(t.Context(), format.BytesArtifact("f", signed), 0); err != nil || !bytes.Equal(side.Data, armor) {
			t.Errorf("%q, %v: want %q", side.Data, err, armor)
		}
		if r, err := New().Inspect(t.Context(), a); err != nil || len(r.Signatures) != 1 || len(r.Facts) < 5 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	var got bytes.Buffer
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(bytes.Repeat([]byte{1}, 32))}
	for _, content := range []string{commit, tag} {
		for _, kind := range []string{ssh, pgp} {
			plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), format.Params{"kind": kind})
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
			fmt.Fprintf(&got, "plan %x\nmessage %x\n", enc, tbs[0].Message)
		}
	}
	path := filepath.Join("testdata", "plans.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		ed, ec := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256)
		for name, b := range map[string][]byte{"ssh": sign(t, commit, ed, options(ed, ssh)), "openpgp": sign(t, tag, ec, options(ec, pgp)), "x509": sign(t, commit, ec, options(ec, x509sig))} {
			if err := os.WriteFile(filepath.Join("testdata", name+".object"), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Errorf("%v\n%s", err, got.Bytes())
	}
}

func FuzzObject(f *testing.F) {
	names, err := filepath.Glob("testdata/*.object")
	if err != nil || len(names) < 3 {
		f.Fatalf("%d seeds: want 3", len(names))
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(tag))
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := format.BytesArtifact("f", b)
		if check(t, b, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
		New().Inspect(t.Context(), a)
		o, err := parse(b)
		if err != nil {
			return
		}
		bare, err := parse(o.payload)
		if err != nil || bare.signature != nil || !bytes.Equal(bare.payload, o.payload) {
			t.Fatalf("payload is no object: %v: %q", err, o.payload)
		}
		if _, _, err := bare.sign(nil); err != nil {
			return
		}
		if err := check(t, sign(t, string(o.payload), s, options(s, ssh)), s); err != nil {
			t.Fatal(err)
		}
	})
}
