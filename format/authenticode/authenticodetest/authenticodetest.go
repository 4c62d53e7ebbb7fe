// Package authenticodetest has osslsigncode and relic judge formats of Authenticode,
// and osslsigncode sign for them: what the tests of all of those formats need.
package authenticodetest

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Signer is a certificate under the judge's root, with its files for programs.
type Signer struct {
	format.Identity
	Kind      sigalg.Key
	cert, key string
	id        *cmstest.Identity
}

// Judge is osslsigncode, or relic, with one root that it and we trust.
type Judge struct {
	Root    *cmstest.Identity
	Program string
	Version string // "osslsigncode 2.9"
	relic   bool
	dir     string
	ca      string
	sub     *cmstest.Identity
	tsa     *cmstest.Identity
}

// New finds osslsigncode and makes an authority.
func New(t *testing.T) *Judge {
	t.Helper()
	j := found(t, formattest.Program(t, "osslsigncode", "apt-get install osslsigncode"))
	out, err := formattest.RunJudge(t, j.Program, "--version")
	first, _, ok := strings.Cut(out, ",")
	if err != nil || !ok {
		t.Fatalf("osslsigncode --version: %v: %s", err, out)
	}
	j.Version = first
	return j
}

// relicHint says how to get relic and its sample files.
const relicHint = "run tools/judges/relic.sh"

// NewRelic finds relic, a second verifier, which does not look at the usages of
// certificates, and whose signatures are not in DER's order.
func NewRelic(t *testing.T) *Judge {
	t.Helper()
	j := found(t, formattest.Program(t, "relic", relicHint))
	j.relic, j.Version = true, "relic 8.2.0"
	return j
}

// Sample is one of the files that come with relic: installers, cabinets, programs and
// scripts that tools of Microsoft made.
func Sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(formattest.Judges(t), "lib", "relic", "packages", name))
	if err != nil {
		t.Fatalf("%v: %s", err, relicHint)
	}
	return b
}

func found(t *testing.T, program string) *Judge {
	t.Helper()
	j := &Judge{Root: cmstest.NewRoot(t), dir: t.TempDir(), Program: program}
	j.sub = j.Root.Authority(t, "Test Intermediate")
	j.tsa = j.Root.IssueTSA(t, "Test Time", sigalg.RSA3072)
	_, _, j.ca = j.tsa.WriteFiles(t, j.dir, "tsa")
	return j
}

// Signer issues a certificate for code signing.
func (j *Judge) Signer(t *testing.T, kind sigalg.Key, change ...func(*x509.Certificate)) *Signer {
	t.Helper()
	id := j.sub.Issue(t, "Signer "+string(kind), kind, change...)
	s := &Signer{format.Identity{Scheme: kind.Default(), Public: id.Key.Public(), Chain: id.Chain}, kind, "", "", id}
	dir, err := os.MkdirTemp(j.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	s.cert, s.key, _ = id.WriteFiles(t, dir, "signer")
	return s
}

// Trust believes the judge's root.
func (j *Judge) Trust() format.Trust {
	return format.Trust{Roots: j.Root.Pool(), TimestampRoots: j.Root.Pool(), Now: cmstest.At}
}

// Seal signs b as f does it.
func (s *Signer) Seal(t *testing.T, f format.Format, name string, b []byte, params format.Params) []byte {
	t.Helper()
	out, err := s.TrySeal(t, f, name, b, params)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TrySeal is Seal that gives the error back.
func (s *Signer) TrySeal(t *testing.T, f format.Format, name string, b []byte, params format.Params) ([]byte, error) {
	t.Helper()
	a := format.BytesArtifact(name, b)
	p, err := f.Plan(t.Context(), a, params)
	if err != nil {
		return nil, err
	}
	var sigs []format.Signature
	for done := [][]byte{}; len(sigs) < format.MaxRounds; {
		tbs, err := f.Assemble(p, s.Identity, cmstest.At, done)
		if err != nil {
			return nil, err
		}
		if len(tbs) == 0 {
			break
		}
		if len(tbs) != 1 {
			return nil, fmt.Errorf("%d messages", len(tbs))
		}
		sig := s.id.SignInput(t, tbs[0].Scheme, tbs[0].Input())
		done, sigs = append(done, sig), append(sigs, format.Signature{Value: sig})
	}
	patch, err := f.Attach(t.Context(), a, p, s.Identity, cmstest.At, sigs)
	if err != nil {
		return nil, err
	}
	return patch.Bytes(a)
}

// write puts b into a file of that name, in a folder of its own.
func (j *Judge) write(t *testing.T, name string, b []byte) string {
	t.Helper()
	dir, err := os.MkdirTemp(j.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Verify is what the judge says of a file.
func (j *Judge) Verify(t *testing.T, name string, b []byte, args ...string) error {
	t.Helper()
	_, err := j.Says(t, name, b, args...)
	return err
}

// Says is Verify with what it prints.
func (j *Judge) Says(t *testing.T, name string, b []byte, args ...string) (string, error) {
	t.Helper()
	if j.relic {
		return formattest.RunJudge(t, j.Program, append([]string{"verify", "--cert", j.ca, j.write(t, name, b)}, args...)...)
	}
	args = append([]string{"verify", "-CAfile", j.ca, "-TSA-CAfile", j.ca, "-time", strconv.FormatInt(cmstest.At.Unix(), 10), "-in", j.write(t, name, b)}, args...)
	out, err := formattest.RunJudge(t, j.Program, args...)
	if err == nil && (strings.Contains(out, "MISMATCH") || !strings.Contains(out, "Signature verification: ok") && !strings.Contains(out, "Succeeded")) {
		err = errors.New(out)
	}
	return out, err
}

// Sign has osslsigncode sign.
func (j *Judge) Sign(t *testing.T, s *Signer, name string, b []byte, args ...string) []byte {
	t.Helper()
	in := j.write(t, name, b)
	out := filepath.Join(filepath.Dir(in), "signed-"+name)
	args = append([]string{"sign", "-certs", s.cert, "-key", s.key, "-h", "sha256", "-in", in, "-out", out}, args...)
	if _, err := formattest.RunJudge(t, j.Program, args...); err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Input is a file to sign and how to tamper with what becomes of it.
type Input struct {
	Name    string // of the file: osslsigncode looks at extensions
	Data    []byte
	Tamper  func([]byte) // changes one byte that is signed; nil: At is flipped
	At      []byte       // some bytes of the content
	Params  []format.Params
	Foreign [][]string // options of osslsigncode's own signatures
	Verify  []string   // further arguments of osslsigncode verify
}

// Oracle has the judge look at each input, signed with RSA-3072 and P-256 under
// each set of options, and us at what the judge signs.
func (j *Judge) Oracle(t *testing.T, v *formattest.Verdicts, f format.Format, inputs []Input) {
	t.Helper()
	signers := []*Signer{j.Signer(t, sigalg.RSA3072), j.Signer(t, sigalg.P256)}
	ours := func(name string, b []byte) error {
		_, err := f.Verify(t.Context(), format.BytesArtifact(name, b), j.Trust())
		return err
	}
	for _, in := range inputs {
		for _, s := range signers {
			for _, params := range in.Params {
				what := fmt.Sprintf("%s %s %v", in.Name, s.Kind, params)
				signed := s.Seal(t, f, in.Name, in.Data, params)
				if err := ours(in.Name, signed); err != nil {
					t.Errorf("%s: we do not accept ours: %v", what, err)
				}
				v.Accepts(what, string(s.Kind), j.Verify(t, in.Name, signed, in.Verify...))
				bad := bytes.Clone(signed)
				if in.Tamper != nil {
					in.Tamper(bad)
				} else {
					at := bytes.Index(bad, in.At)
					if at < 0 {
						t.Fatalf("%s: what is to be tampered with is not in the signed file", what)
					}
					bad[at+len(in.At)/2] ^= 1
				}
				v.Rejects(what, ours(in.Name, bad), j.Verify(t, in.Name, bad, in.Verify...))
			}
			for _, args := range in.Foreign {
				what := fmt.Sprintf("%s %s %v", in.Name, s.Kind, args)
				theirs := j.Sign(t, s, in.Name, in.Data, args...)
				err := ours(in.Name, theirs)
				v.Takes(what, err)
				if err != nil {
					continue
				}
				// Ours beside theirs: both verify, for both verifiers.
				both := signers[1].Seal(t, f, in.Name, theirs, nil)
				if err := ours(in.Name, both); err != nil {
					t.Errorf("%s: ours beside theirs: %v", what, err)
				}
				v.Accepts(what+", ours beside it", string(sigalg.P256), j.Verify(t, in.Name, both, in.Verify...))
			}
		}
	}
	if j.relic {
		return
	}
	// The named attack: a certificate without the code-signing usage.
	bad := j.Signer(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	in := inputs[0]
	if _, err := bad.TrySeal(t, f, in.Name, in.Data, in.Params[0]); err == nil || !strings.Contains(err.Error(), "not for code signing") {
		t.Errorf("a server's certificate signs code: %v", err)
	}
	if theirs := j.Sign(t, bad, in.Name, in.Data); true {
		v.Rejects("certificate without code signing", ours(in.Name, theirs), j.Verify(t, in.Name, theirs, in.Verify...))
	}
}

// File writes b where osslsigncode can read it, for options that name files.
func (j *Judge) File(t *testing.T, name string, b []byte) string {
	t.Helper()
	return j.write(t, name, b)
}
