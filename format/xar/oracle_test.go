package xar

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const hint = "run make judges"

// sample is a package that Apple's tools made.
func sample(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(formattest.Judges(tb), "lib", "relic", "packages", "dummy.pkg"))
	if err != nil {
		tb.Fatalf("%v: %s", err, hint)
	}
	return b
}

func write(tb testing.TB, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "a.pkg")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func relic(tb testing.TB, root string, b []byte) error {
	tb.Helper()
	out, err := formattest.RunJudge(tb, formattest.Program(tb, "relic", hint), "verify", "--cert", root, write(tb, b))
	if err == nil && !strings.Contains(out, "OK") {
		err = errors.New(out)
	}
	return err
}

// byRelic signs b with relic.
func byRelic(tb testing.TB, b []byte, key sigalg.Key) ([]byte, format.Trust) {
	tb.Helper()
	root := cmstest.NewRoot(tb)
	id := root.Issue(tb, "Peer", key)
	dir := tb.TempDir()
	cert, keyFile, _ := id.WriteFiles(tb, dir, "peer")
	config := filepath.Join(dir, "relic.yml")
	text := fmt.Sprintf("tokens:\n  file:\n    type: file\nkeys:\n  peer:\n    token: file\n    keyfile: %s\n    x509certificate: %s\n", keyFile, cert)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	out := filepath.Join(dir, "signed.pkg")
	if _, err := formattest.RunJudge(tb, formattest.Program(tb, "relic", hint), "sign", "-c", config, "-k", "peer", "-f", write(tb, b), "-o", out); err != nil {
		tb.Fatal(err)
	}
	signed, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return signed, format.Trust{Roots: root.Pool(), TimestampRoots: root.Pool(), Now: time.Now()}
}

var inputs = map[string]func(testing.TB) []byte{
	"Apple":  sample,
	"larger": func(testing.TB) []byte { return small(strings.Repeat("x", 100000)) },
}

func TestOraclePkg(t *testing.T) {
	v := formattest.Judge(t, "pkg", "relic 8.2.0")
	v.Note = "relic stands in for Apple's installer, which none of our machines runs: digest of the table, CMS, chain, timestamp, digests of files"
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := formattest.Identity(t, key)
		_, _, root := s.Root.WriteFiles(t, t.TempDir(), "root")
		for name, input := range inputs {
			for _, p := range []format.Params{nil, {"checksums": "sha256"}} {
				signed := seal(t, input(t), s, p, true)
				what := fmt.Sprintf("%s %s %v", name, key, p)
				v.Accepts(what, formattest.Key(key), relic(t, root, signed))
				x, err := parse(artifact(signed))
				if err != nil {
					t.Fatal(err)
				}
				for where, at := range map[string]int64{"table": headerSize + 100, "data": x.end - 5, "signature": x.heap + x.cms.off + 60} {
					bad := flipped(signed, at)
					_, ours := verify(t, bad, s.Trust())
					v.Rejects(what+": "+where, ours, relic(t, root, bad))
				}
			}
		}
	}
	// With other keys relic writes an algorithm that RFC 5753 does not know.
	signed, trust := byRelic(t, sample(t), sigalg.RSA3072)
	_, err := verify(t, signed, trust)
	v.Takes("relic", err)
}

// OpenSSL judges both signatures over the bytes that they are said to cover.
func TestOraclePkgSignatures(t *testing.T) {
	v := formattest.Judge(t, "pkg", "openssl")
	v.Note = "the RSA signature over the compressed table, which relic does not look at where there is a CMS signature, and the CMS signature over its digest; OpenSSL makes no packages"
	s := formattest.Identity(t, sigalg.RSA3072)
	_, _, root := s.Root.WriteFiles(t, t.TempDir(), "root")
	good := seal(t, sample(t), s, nil, false)
	check := func(b []byte) error {
		x, err := parse(artifact(b))
		if err != nil {
			return err
		}
		rsa, err := x.read(artifact(b), *x.rsa)
		if err != nil {
			return err
		}
		_, sd, err := signed(artifact(b))
		if err != nil {
			return err
		}
		cert := write(t, x.certs[0])
		pub := filepath.Join(t.TempDir(), "pub.pem")
		_, err1 := cmstest.OpenSSL(t, "x509", "-inform", "DER", "-in", cert, "-pubkey", "-noout", "-out", pub)
		_, err2 := cmstest.OpenSSL(t, "dgst", "-sha256", "-verify", pub, "-signature", write(t, rsa), write(t, x.packed))
		_, err3 := cmstest.OpenSSL(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", write(t, sd.Raw), "-content", write(t, digest(x.hash, x.packed)),
			"-CAfile", root, "-purpose", "any", "-attime", fmt.Sprint(formattest.At.Unix()), "-out", os.DevNull)
		return errors.Join(err1, err2, err3)
	}
	v.Accepts("Apple", formattest.Key(sigalg.RSA3072), check(good))
	x, err := parse(artifact(good))
	if err != nil {
		t.Fatal(err)
	}
	for where, at := range map[string]int64{"RSA": x.heap + x.rsa.off + 9, "CMS": x.heap + x.cms.off + 60} {
		bad := flipped(good, at)
		_, ours := verify(t, bad, s.Trust())
		v.Rejects(where, ours, check(bad))
	}
}
