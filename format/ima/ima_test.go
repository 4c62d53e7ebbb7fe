package ima

import (
	"bytes"
	"crypto/x509"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const text = "any file at all\n"

func artifact(b []byte) format.Artifact { return format.BytesArtifact("file", b) }

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
	return patch.Sidecar.Data
}

func TestConformance(t *testing.T) {
	for kind, digest := range map[sigalg.Key]string{sigalg.RSA3072: "sha256", sigalg.P384: "sha384"} {
		t.Run(string(kind), func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "file", Params: format.Params{"digest": digest},
				Signer:  formattest.Identity(t, kind),
				Refused: []format.Params{{"digest": "sha1"}, {"key-id": "name"}},
				// The size is not signed: Attach refuses another one than the file's.
				Unsigned: []string{"Size"},
				// Four bytes name the key; nobody signs them.
				Open: func(_ []byte, i int) bool { return i >= 3 && i < 7 },
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(make([]byte, 8<<20+1)), nil)
}

func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact([]byte(text)), nil)
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
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got %x want %x", err, got, want)
	}
}

// The name of the key: the certificate's where it has one, else the key's own;
// what is neither is reported as open.
func TestKeyID(t *testing.T) {
	named := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.SubjectKeyId = []byte("0123456789") })
	byCert, byKey := sign(t, []byte(text), named, nil), sign(t, []byte(text), named, format.Params{"key-id": "key"})
	if string(byCert[3:7]) != "6789" || bytes.Equal(byKey[3:7], byCert[3:7]) {
		t.Errorf("key ids %x and %x", byCert[3:7], byKey[3:7])
	}
	bare := *named
	bare.Chain = nil
	if b := sign(t, []byte(text), &bare, nil); !bytes.Equal(b[3:7], byKey[3:7]) {
		t.Errorf("key id without certificate: %x", b[3:7])
	}
	trust := named.Trust()
	for name, c := range map[string]struct {
		sig   []byte
		chain []*x509.Certificate
		open  int
	}{"key": {byKey, nil, 0}, "certificate not known": {byCert, nil, 1}, "certificate": {byCert, named.Chain, 0}} {
		trust.Detached, trust.Intermediates = c.sig, c.chain
		r, err := New().Verify(t.Context(), artifact([]byte(text)), trust)
		if err != nil || len(r.Signatures[0].Open) != c.open {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	trust.Keys, trust.Detached = nil, byCert
	for n, chain := range [][]*x509.Certificate{nil, named.Chain} {
		trust.Intermediates = chain
		if _, err := New().Verify(t.Context(), artifact([]byte(text)), trust); (err == nil) != (n == 1) {
			t.Errorf("a certificate in place of a key, %d: %v", n, err)
		}
	}
}

// A signature of version 1 or with SHA-1, schemes that kernels do not know.
func TestWeakIsRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	good := sign(t, []byte(text), s, nil)
	for name, change := range map[string]func([]byte){
		"version 1": func(b []byte) { b[1] = 1 }, "version 3": func(b []byte) { b[1] = 3 }, "SHA-1": func(b []byte) { b[2] = 2 },
		"another hash": func(b []byte) { b[2] = 6 }, "EVM portable": func(b []byte) { b[0] = 5 },
	} {
		b := bytes.Clone(good)
		change(b)
		trust := s.Trust()
		trust.Detached = b
		if _, err := New().Verify(t.Context(), artifact([]byte(text)), trust); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	plan, err := New().Plan(t.Context(), artifact([]byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []sigalg.Scheme{sigalg.RSAPSSSHA256, sigalg.RSAPKCS1SHA512} {
		if _, err := New().Assemble(plan, s.With(scheme).Identity, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", scheme)
		}
	}
}

func FuzzSignature(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	good := sign(f, []byte(text), s, nil)
	f.Add(good)
	f.Add([]byte{3, 2, 4, 0, 0, 0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parse(b); err == nil && !bytes.Equal(p.encode(), b) {
			t.Errorf("%x re-encodes as %x", b, p.encode())
		}
		trust := s.Trust()
		trust.Detached = b
		if _, err := New().Verify(t.Context(), artifact([]byte(text)), trust); err == nil && !bytes.Equal(b[9:], good[9:]) {
			t.Errorf("accepted: %x", b)
		}
	})
}

// evmctl judges, and is the peer.
func TestOracleIMA(t *testing.T) {
	evmctl := formattest.Program(t, "evmctl", "apt-get install ima-evm-utils")
	version, err := formattest.RunJudge(t, evmctl, "--version")
	if err != nil {
		t.Fatal(err)
	}
	v := formattest.Judge(t, Name, strings.TrimSpace(version))
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096, sigalg.P256} {
		root := cmstest.NewRoot(t)
		key := root.Issue(t, "IMA Signer", kind)
		dir := t.TempDir()
		_, private, _ := key.WriteFiles(t, dir, "signer")
		public := filepath.Join(dir, "signer.der")
		if err := os.WriteFile(public, key.Certificate.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
		id := format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
		trust := format.Trust{Roots: root.Pool(), Intermediates: key.Chain, Now: formattest.At}
		for _, program := range []string{"/bin/sh", "/usr/bin/openssl", "/usr/bin/env"} {
			what := program + " " + string(kind)
			b, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := New().Plan(t.Context(), artifact(b), format.Params{"key-id": "key"})
			if err != nil {
				t.Fatal(err)
			}
			tbs, err := New().Assemble(plan, id, formattest.At, nil)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := New().Attach(t.Context(), artifact(b), plan, id, formattest.At, []format.Signature{{Value: key.SignInput(t, id.Scheme, tbs[0].Input())}})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "file")
			judge := func(b, sig []byte) error {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path+Suffix, sig, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := formattest.RunJudge(t, evmctl, "ima_verify", "--sigfile", "--key", public, path)
				return err
			}
			v.Accepts(what, string(kind), judge(b, patch.Sidecar.Data))
			trust.Detached = patch.Sidecar.Data
			bad := bytes.Clone(b)
			bad[len(bad)/2] ^= 1
			_, err = New().Verify(t.Context(), artifact(bad), trust)
			v.Rejects(what, err, judge(bad, patch.Sidecar.Data))

			judge(b, patch.Sidecar.Data) // puts the good file back
			if out, err := exec.Command(evmctl, "ima_sign", "--sigfile", "--hashalgo", "sha256", "--key", private, path).CombinedOutput(); err != nil {
				t.Fatalf("evmctl ima_sign: %v: %s", err, out)
			}
			theirs, err := os.ReadFile(path + Suffix)
			if err != nil {
				t.Fatal(err)
			}
			trust.Detached = theirs
			_, err = New().Verify(t.Context(), artifact(b), trust)
			v.Takes(what, err)
			if id.Scheme == sigalg.RSAPKCS1SHA256 && !bytes.Equal(theirs, patch.Sidecar.Data) {
				t.Errorf("%s: evmctl makes another file", what)
			}
		}
	}
}
