package records

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func sha(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// judge runs tools/judges/records_judge.py, which reads everything from the
// specification: CBOR, lists, jobs and trees are its own, signatures and
// certificates openssl's.
func judge(tb testing.TB, args ...string) error {
	tb.Helper()
	python := formattest.Program(tb, "python3", "apt-get install python3")
	_, err := formattest.RunJudge(tb, python, append([]string{filepath.Join("..", "..", "tools", "judges", "records_judge.py")}, args...)...)
	return err
}

func write(tb testing.TB, name string, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func certificates(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func TestOracleRecords(t *testing.T) {
	v := formattest.Judge(t, Name, "records_judge.py with openssl")
	formattest.Program(t, "openssl", "apt-get install openssl")
	at := strconv.FormatInt(formattest.At.Unix(), 10)
	long := make([]byte, 0)
	for n := range 300 {
		b, err := statement(t, n, "SELECT 1").Encode()
		if err != nil {
			t.Fatal(err)
		}
		long = append(append(long, 0, 0, byte(len(b)>>8), byte(len(b))), b...)
	}
	head := sample(t, "SELECT 1")
	first, err := statement(t, 0, "SELECT 1").Encode()
	if err != nil {
		t.Fatal(err)
	}
	head = head[:bytes.Index(head, first)-4]
	for _, scheme := range []sigalg.Scheme{sigalg.RSAPKCS1SHA256, sigalg.RSAPSSSHA512, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.PureEd25519} {
		kind := map[bool]sigalg.Key{true: sigalg.RSA3072, false: sigalg.P256}[scheme.Fits(sigalg.RSA3072)]
		switch scheme {
		case sigalg.ECDSASHA384:
			kind = sigalg.P384
		case sigalg.PureEd25519:
			kind = sigalg.Ed25519
		}
		s := formattest.Identity(t, kind).With(scheme)
		roots := write(t, "roots.pem", certificates(s.Root.Root))
		for name, file := range map[string][]byte{"three": sample(t, "SELECT 1"), "many": append(slices.Clone(head), long...)} {
			root := sign(t, file, s)
			listFile, rootFile := write(t, "list", file), write(t, "root", root)
			v.Accepts(name+" under "+string(scheme), string(kind), judge(t, "verify", listFile, rootFile, roots, at))
			trust := s.Trust()
			ours := func(file, root []byte) error {
				trust.Detached = root
				_, err := New().Verify(t.Context(), format.BytesArtifact("list", file), trust)
				return err
			}
			bad := slices.Clone(root)
			bad[bytes.Index(root, s.Chain[0].Raw)-20] ^= 1 // in what stands before the certificates
			v.Rejects(name+": signed root", ours(file, bad), judge(t, "verify", listFile, write(t, "root", bad), roots, at))
			bad = slices.Clone(file)
			bad[len(bad)-40] ^= 1 // in a field's digest
			v.Rejects(name+": list", ours(bad, root), judge(t, "verify", write(t, "list", bad), rootFile, roots, at))
			stranger := write(t, "roots.pem", certificates(formattest.Identity(t, sigalg.P256).Root.Root))
			trust.Roots = formattest.Identity(t, sigalg.P256).Trust().Roots
			v.Rejects(name+": another authority", ours(file, root), judge(t, "verify", listFile, rootFile, stranger, at))
		}
		// Theirs: a list signed by openssl's hand.
		key := cmstest.NewRoot(t).Issue(t, "Signer", kind)
		dir := t.TempDir()
		cert, private, _ := key.WriteFiles(t, dir, "signer")
		file := sample(t, "SELECT 1")
		rootFile := filepath.Join(dir, "root")
		if err := judge(t, "sign", write(t, "list", file), rootFile, private, cert, string(scheme), at); err != nil {
			t.Fatal(err)
		}
		root, err := os.ReadFile(rootFile)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New().Verify(t.Context(), format.BytesArtifact("list", file), format.Trust{Roots: key.Pool(), Now: formattest.At, Detached: root})
		v.Takes(string(scheme), err)
	}
}
