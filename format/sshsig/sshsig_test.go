package sshsig

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

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

func signers(t testing.TB) []*formattest.Signer {
	return []*formattest.Signer{
		formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384),
		formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPKCS1SHA512),
	}
}

func TestConformance(t *testing.T) {
	for _, s := range signers(t) {
		t.Run(string(s.Scheme), func(t *testing.T) {
			t.Parallel()
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte(text + "\n"), Name: "f", Signer: s, Unsigned: []string{"Size"},
				Refused: []format.Params{{"namespace": ""}, {"namespace": "git"}, {"namespace": "a b"}, {"namespace": "a\x00"}, {"namespace": strings.Repeat("x", 256)}, {"digest": "sha384"}},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), format.BytesArtifact("large", make([]byte, 8<<20+1)), nil)
}

// A second encoder of keys agrees.
func TestKeys(t *testing.T) {
	for _, s := range signers(t) {
		k, err := ssh.NewPublicKey(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		b, err := MarshalKey(s.Public)
		if err != nil || !bytes.Equal(b, k.Marshal()) || Fingerprint(b) != ssh.FingerprintSHA256(k) {
			t.Errorf("%s: %v", s.Scheme, err)
		}
	}
	for _, k := range []any{nil, "key", ed25519.PublicKey{1}, formattest.Identity(t, sigalg.MLDSA65).Public} {
		if _, err := MarshalKey(k); err == nil {
			t.Errorf("%T is accepted", k)
		}
	}
}

func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	good := sign(t, []byte(text), s, nil)
	if err := check(t, []byte(text), good, s); err != nil {
		t.Fatal(err)
	}
	sig, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Signature)) []byte {
		c := *sig
		f(&c)
		b, err := c.Armor()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw, err := sig.encode()
	if err != nil {
		t.Fatal(err)
	}
	wrap := func(raw []byte) []byte {
		return []byte(begin + "\n" + base64.StdEncoding.EncodeToString(raw) + "\n" + end + "\n")
	}
	for name, b := range map[string][]byte{
		"another namespace":           change(func(s *Signature) { s.Namespace = "email" }),
		"the namespace of git":        change(func(s *Signature) { s.Namespace = "git" }),
		"no namespace":                change(func(s *Signature) { s.Namespace = "" }),
		"another hash":                change(func(s *Signature) { s.Hash = "sha256" }),
		"sha1":                        change(func(s *Signature) { s.Hash = "sha1" }),
		"another algorithm":           change(func(s *Signature) { s.Scheme = sigalg.RSAPKCS1SHA256 }),
		"another key":                 change(func(x *Signature) { x.Key, _ = MarshalKey(formattest.Identity(t, sigalg.Ed25519).Public) }),
		"bytes after the signature":   wrap(append(bytes.Clone(raw), 0)),
		"something in reserved":       wrap(bytes.Replace(raw, []byte("file\x00\x00\x00\x00"), []byte("file\x00\x00\x00\x01x"), 1)),
		"version 2":                   wrap(bytes.Replace(raw, []byte("SSHSIG\x00\x00\x00\x01"), []byte("SSHSIG\x00\x00\x00\x02"), 1)),
		"a length beyond the end":     wrap(bytes.Replace(raw, []byte("\x00\x00\x00\x04file"), []byte("\xff\xff\xff\xfffile"), 1)),
		"lines of another length":     wrap(raw),
		"carriage returns":            bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"text before":                 append([]byte("x\n"), good...),
		"text after":                  append(bytes.Clone(good), "x\n"...),
		"SHA-1 RSA, by name":          wrap(bytes.Replace(raw, []byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x40"), []byte("\x00\x00\x00\x07ssh-rsa\x00\x00\x00\x44pad!"), 1)),
		"nothing":                     nil,
		"an empty line in the middle": bytes.Replace(good, []byte("\n"), []byte("\n\n"), 2),
	} {
		if bytes.Equal(b, good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if check(t, []byte(text), b, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]format.Identity{
		"pss": formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256).Identity, "sha384": formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPKCS1SHA384).Identity,
		"p256 with sha512": formattest.Identity(t, sigalg.P256).With(sigalg.ECDSASHA512).Identity, "ml-dsa": formattest.Identity(t, sigalg.MLDSA65).Identity, "no key": {},
	} {
		if _, err := New().Assemble(p, id, formattest.At, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", nil), s.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

func TestInspect(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	side := format.BytesArtifact("f.sig", sign(t, []byte(text), s, format.Params{"namespace": "release@example.com"}))
	if r, err := New().Inspect(t.Context(), side); err != nil || len(r.Signatures) != 1 || r.Signatures[0].Facts[0].Value != "release@example.com" || !New().Detect(side) {
		t.Errorf("%+v, %v", r, err)
	}
	plain := format.BytesArtifact("f", []byte(text))
	if r, err := New().Inspect(t.Context(), plain); err != nil || len(r.Signatures) != 0 || New().Detect(plain) {
		t.Errorf("%+v, %v", r, err)
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), format.Params{"namespace": "golden"})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := New().Assemble(plan, format.Identity{Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(bytes.Repeat([]byte{1}, 32))}, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Appendf(nil, "plan %x\nmessage %x\n", enc, tbs[0].Message)
	path := filepath.Join("testdata", "plan.txt")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		for i, s := range signers(t) {
			if err := os.WriteFile(filepath.Join("testdata", fmt.Sprintf("%d.sig", i)), sign(t, []byte(text), s, nil), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%v\n%s", err, got)
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/*.sig")
	if err != nil || len(names) < 5 {
		f.Fatalf("%d seeds: want 5", len(names))
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		sig, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := sig.Armor(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is written as %q: %v", b, again, err)
		}
		if check(t, []byte(text), b, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
	})
}

const packages = "apt-get install openssh-client"

func TestOracleSSHSIG(t *testing.T) {
	keygen := formattest.Program(t, "ssh-keygen", packages)
	v := formattest.Judge(t, Name, "ssh-keygen -Y 9.2")
	exe, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range signers(t) {
		k, err := ssh.NewPublicKey(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"program": exe, "text": []byte(text), "empty": {}} {
			for _, d := range []string{"sha256", "sha512"} {
				what := fmt.Sprint(s.Scheme, " ", name, " ", d)
				side := sign(t, content, s, format.Params{"digest": d, "namespace": "file"})
				judge := func(content []byte, namespace string) error {
					dir := t.TempDir()
					for n, b := range map[string][]byte{"allowed": append([]byte("a@example.com "), ssh.MarshalAuthorizedKey(k)...), "sig": side, "in": content} {
						if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
							t.Fatal(err)
						}
					}
					_, err := formattest.RunJudge(t, "/bin/sh", "-c", `exec "$0" -Y verify -f "$1/allowed" -I a@example.com -n "$2" -s "$1/sig" < "$1/in"`, keygen, dir, namespace)
					return err
				}
				v.Accepts(what, string(s.Scheme), judge(content, "file"))
				bad := append(bytes.Clone(content), 0)
				v.Rejects(what, check(t, bad, side, s), judge(bad, "file"))
				if judge(content, "email") == nil {
					t.Errorf("%s: another namespace", what)
				}
			}
		}
	}
	for _, typ := range []string{"ed25519", "ecdsa", "rsa"} {
		dir := t.TempDir()
		key, in := filepath.Join(dir, "key"), filepath.Join(dir, "in")
		if err := os.WriteFile(in, exe, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := formattest.RunJudge(t, keygen, "-q", "-t", typ, "-N", "", "-f", key); err != nil {
			t.Fatal(err)
		}
		pub, err := os.ReadFile(key + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		parsed, _, _, _, err := ssh.ParseAuthorizedKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := formattest.RunJudge(t, keygen, "-Y", "sign", "-f", key, "-n", "file", in); err != nil {
			t.Fatal(err)
		}
		side, err := os.ReadFile(in + ".sig")
		if err != nil {
			t.Fatal(err)
		}
		trust := format.Trust{Detached: side}
		trust.Keys = append(trust.Keys, parsed.(ssh.CryptoPublicKey).CryptoPublicKey())
		_, err = New().Verify(t.Context(), format.BytesArtifact("in", exe), trust)
		v.Takes(typ, err)
	}
}
