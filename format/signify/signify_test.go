package signify

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

const text = "SHA256 (file) = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"

func sign(t testing.TB, content []byte, s *formattest.Signer, p format.Params) (file, side []byte) {
	t.Helper()
	a := format.BytesArtifact("f", content)
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if patch.Sidecar != nil {
		return content, patch.Sidecar.Data
	}
	if file, err = patch.Bytes(a); err != nil {
		t.Fatal(err)
	}
	return file, nil
}

func check(t testing.TB, content, side []byte, s *formattest.Signer) error {
	t.Helper()
	tr := s.Trust()
	tr.Detached = side
	_, err := New().Verify(t.Context(), format.BytesArtifact("f", content), tr)
	return err
}

func TestConformance(t *testing.T) {
	for _, mode := range []string{detached, embedded} {
		formattest.Run(t, New(), formattest.Case{
			Artifact: []byte(text), Other: []byte(text + "x\n"), Name: "SHA256", Signer: formattest.Identity(t, sigalg.Ed25519), Params: format.Params{"mode": mode, "key-id": "0123456789abcdef"},
			// The key's ID is a hint that no signature covers.
			Unsigned: []string{"Params"},
			Refused:  []format.Params{{"key-id": "12"}, {"key-id": "0123456789ABCDEF"}, {"digest": "sha256"}},
			Open: func(b []byte, i int) bool {
				line := bytes.IndexByte(b, '\n') + 1
				return i >= len(prefix) && i < line-1 || i >= line+2 && i <= line+13
			},
		})
	}
}

// What a key would sign that other formats would read as theirs.
func TestMessagesOfOthers(t *testing.T) {
	long := strings.Repeat("x", 100)
	for name, content := range map[string]string{
		"nothing":                     "",
		"a SHA-256 digest":            strings.Repeat("x", 31) + "\n",
		"a SHA-384 digest":            strings.Repeat("x", 47) + "\n",
		"a SHA-512 digest":            strings.Repeat("x", 63) + "\n",
		"DSSE's encoding":             "DSSEv1 28 application/vnd.in-toto+json 2 {}\n",
		"an SSH message":              "SSHSIG\x00\x00\x00\x04file" + long,
		"an SSH signature's preamble": "SSHSIG" + long + "\n",
		"a certificate":               "\x30\x82\x01\x00" + long + "\n",
		"a token":                     "eyJhbGciOiJFZERTQSJ9." + long,
		"zero bytes":                  "a\x00" + long + "\n",
		"no UTF-8":                    "\xff" + long + "\n",
		"more than a megabyte":        strings.Repeat(long[:99]+"\n", 10486),
	} {
		if _, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), nil); err == nil {
			t.Errorf("%s: a plan is made", name)
		}
	}
	s := formattest.Identity(t, sigalg.Ed25519)
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := *p
	if forged.Body, err = format.Encode(body{[]byte("another text\n")}); err != nil {
		t.Fatal(err)
	}
	if _, err := New().Assemble(&forged, s.Identity, formattest.At, nil); err == nil {
		t.Error("a content that is not the plan's Content")
	}
	if _, err := New().Assemble(p, formattest.Identity(t, sigalg.P256).Identity, formattest.At, nil); err == nil {
		t.Error("P-256")
	}
}

func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	_, good := sign(t, []byte(text), s, nil)
	if err := check(t, []byte(text), good, s); err != nil {
		t.Fatal(err)
	}
	file, _ := sign(t, []byte(text), s, format.Params{"mode": embedded})
	for name, b := range map[string][]byte{
		"text after a detached signature": append(bytes.Clone(good), text...),
		"carriage returns":                bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"an escape in the comment":        bytes.Replace(good, []byte(prefix), []byte(prefix+"\x1b[2J"), 1),
		"a comment without its prefix":    bytes.Replace(good, []byte(prefix), []byte("comment: "), 1),
		"a long comment":                  bytes.Replace(good, []byte(prefix), []byte(prefix+strings.Repeat("x", 1000)), 1),
	} {
		if check(t, []byte(text), b, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, b := range map[string][]byte{"a line more": append(bytes.Clone(file), "x\n"...), "a line before": append([]byte("x\n"), file...), "the signature alone": good, "two signatures": append(bytes.Clone(good), file...)} {
		if check(t, b, nil, s) == nil {
			t.Errorf("embedded, %s: accepted", name)
		}
	}
	if _, err := New().Plan(t.Context(), format.BytesArtifact("f", file), nil); err == nil {
		t.Error("a signed text is planned again")
	}
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), s.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

// Frozen: plans of version 1 stay good.
func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), format.Params{"key-id": "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Appendf(nil, "plan %x\n", enc)
	path, seed := filepath.Join("testdata", "plan.txt"), filepath.Join("testdata", "SHA256.sig")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		b, _ := sign(t, []byte(text), formattest.Identity(t, sigalg.Ed25519), format.Params{"mode": embedded})
		if err := os.WriteFile(seed, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%v\n%s", err, got)
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "SHA256.sig"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		sig, rest, err := parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(append(sig.encode(), rest...), b) {
			t.Fatal("it changed")
		}
		if check(t, b, nil, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
	})
}

func TestOracleSignify(t *testing.T) {
	prog := formattest.Program(t, "signify-openbsd", "apt-get install signify-openbsd")
	v := formattest.Judge(t, Name, "signify-openbsd 31")
	words, err := os.ReadFile("/etc/services")
	if err != nil {
		t.Fatal(err)
	}
	write := func(dir, name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	s := formattest.Identity(t, sigalg.Ed25519)
	pub := s.Public.(ed25519.PublicKey)
	for name, content := range map[string][]byte{"digests": []byte(text), "services": words, "large": bytes.Repeat([]byte(text), MaxContent/len(text))} {
		for _, mode := range []string{detached, embedded} {
			for _, id := range []string{"", "0123456789abcdef"} {
				what := name + " " + mode
				file, side := sign(t, content, s, format.Params{"mode": mode, "key-id": id})
				kid, err := readID(id, pub)
				if err != nil {
					t.Fatal(err)
				}
				judge := func(file []byte) error {
					dir := t.TempDir()
					args := []string{"-V", "-q", "-p", write(dir, "key", PublicKey(pub, kid))}
					if side != nil {
						args = append(args, "-x", write(dir, "sig", side), "-m", write(dir, "file", file))
					} else {
						args = append(args, "-e", "-x", write(dir, "file", file), "-m", filepath.Join(dir, "out"))
					}
					_, err := formattest.RunJudge(t, prog, args...)
					return err
				}
				v.Accepts(what, string(sigalg.Ed25519), judge(file))
				if err := check(t, file, side, s); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				bad := bytes.Clone(file)
				bad[len(bad)-5] ^= 1
				v.Rejects(what, check(t, bad, side, s), judge(bad))
			}
		}
	}
	dir := t.TempDir()
	key, in := filepath.Join(dir, "key.sec"), write(dir, "in", words)
	if _, err := formattest.RunJudge(t, prog, "-G", "-n", "-c", "signify", "-p", filepath.Join(dir, "key.pub"), "-s", key); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "key.pub"))
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
	for _, e := range []string{"", "-e"} {
		args := []string{"-S", "-s", key, "-m", in, "-x", in + Suffix}
		if e != "" {
			args = append(args, e)
		}
		if _, err := formattest.RunJudge(t, prog, args...); err != nil {
			t.Fatal(err)
		}
		signed, err := os.ReadFile(in + Suffix)
		if err != nil {
			t.Fatal(err)
		}
		tr, file := format.Trust{Keys: []crypto.PublicKey{theirs}}, signed
		if e == "" {
			tr.Detached, file = signed, words
		}
		_, err = New().Verify(t.Context(), format.BytesArtifact("f", file), tr)
		v.Takes("signify "+e, err)
	}
}
