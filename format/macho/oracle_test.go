package macho

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const hint = "run make judges"

// sample reads one of relic's sample files.
func sample(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(formattest.Judges(tb), "lib", "relic", "packages", path))
	if err != nil {
		tb.Fatalf("%v: %s", err, hint)
	}
	return b
}

// goProgram is what Go's own linker makes for arm64: signed by the linker.
func goProgram(tb testing.TB) []byte {
	tb.Helper()
	dir := tb.TempDir()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	c := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, src)
	c.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0")
	if msg, err := c.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func lipo(tb testing.TB, args ...string) {
	tb.Helper()
	p := formattest.Program(tb, "llvm-lipo-14", "apt-get install llvm")
	if _, err := formattest.RunJudge(tb, p, args...); err != nil {
		tb.Fatal(err)
	}
}

func write(tb testing.TB, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "program")
	if err := os.WriteFile(path, b, 0o700); err != nil {
		tb.Fatal(err)
	}
	return path
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// inputs are files made by others: Apple's linker and lipo, Go's linker, LLVM's lipo.
func inputs(tb testing.TB) map[string][]byte {
	tb.Helper()
	thin, fat, linked := sample(tb, "slimfile.app/dummyapp"), sample(tb, "fatfile.app/Contents/MacOS/dummy"), goProgram(tb)
	f, err := parse(artifact(fat))
	if err != nil {
		tb.Fatal(err)
	}
	p := f.slices[0]
	joined := filepath.Join(tb.TempDir(), "joined")
	lipo(tb, "-create", write(tb, fat[p.off:p.off+p.size]), write(tb, linked), "-output", joined)
	return map[string][]byte{"Apple thin": thin, "Apple universal": fat, "Go arm64": linked, "LLVM universal": read(tb, joined)}
}

func relic(tb testing.TB, root string, b []byte) error {
	tb.Helper()
	out, err := formattest.RunJudge(tb, formattest.Program(tb, "relic", hint), "verify", "--cert", root, write(tb, b))
	if err == nil && !strings.Contains(out, "OK") {
		err = errors.New(out)
	}
	return err
}

func rootFile(tb testing.TB, s *formattest.Signer) string {
	tb.Helper()
	_, _, root := s.Root.WriteFiles(tb, tb.TempDir(), "root")
	return root
}

// byQuill signs b with quill, whose key comes in a PKCS #12 file.
func byQuill(tb testing.TB, b []byte) ([]byte, format.Trust) {
	tb.Helper()
	root := cmstest.NewRoot(tb)
	id := root.Issue(tb, "Peer", sigalg.RSA3072)
	dir := tb.TempDir()
	cert, key, _ := id.WriteFiles(tb, dir, "peer")
	ca := filepath.Join(dir, "root.pem")
	p12 := filepath.Join(dir, "peer.p12")
	if _, err := cmstest.OpenSSL(tb, "pkcs12", "-export", "-legacy", "-inkey", key, "-in", cert, "-certfile", ca, "-out", p12, "-passout", "pass:secret"); err != nil {
		tb.Fatal(err)
	}
	path := write(tb, b)
	c := exec.CommandContext(tb.Context(), formattest.Program(tb, "quill", hint), "sign", "--p12", p12, "--timestamp-server", "", "--identity", "com.example.peer", path)
	c.Env = append(os.Environ(), "QUILL_SIGN_PASSWORD=secret")
	if out, err := c.CombinedOutput(); err != nil {
		tb.Fatalf("quill: %v: %s", err, out)
	}
	return read(tb, path), format.Trust{Roots: root.Pool(), TimestampRoots: root.Pool(), Now: time.Now()}
}

var keys = []sigalg.Key{sigalg.RSA3072, sigalg.P256}

func TestOracleMachO(t *testing.T) {
	v := formattest.Judge(t, "macho", "relic 8.2.0, quill 0.5.1")
	v.Note = "relic stands in for Apple's systems, which none of our machines runs: pages, slots, CMS, chain and timestamp of every slice; quill signs for us to verify"
	all := inputs(t)
	for _, key := range keys {
		s := formattest.Identity(t, key)
		root := rootFile(t, s)
		for name, b := range all {
			signed := seal(t, b, s, format.Params{"identifier": "com.example.program", "entitlements": smallEntitlements}, true)
			what := name + " " + string(key)
			v.Accepts(what, formattest.Key(key), relic(t, root, signed))
			r, err := verify(t, signed, s.Trust())
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, i := range r.Signatures {
				if i.Time.IsZero() {
					t.Errorf("%s: %s has no timestamp", what, i.Label)
				}
			}
			f, err := parse(artifact(signed))
			if err != nil {
				t.Fatal(err)
			}
			last := f.slices[len(f.slices)-1]
			for where, at := range map[string]int64{"code": last.off + last.text.off + 8192, "slots": last.off + last.signature.off + 400} {
				bad := flipped(signed, at)
				_, err := verify(t, bad, s.Trust())
				v.Rejects(what+": "+where, err, relic(t, root, bad))
			}
		}
	}
	// relic's own signatures have their attributes in no order of DER, which package
	// cms refuses: quill is the signer.
	signed, trust := byQuill(t, all["Go arm64"])
	_, err := verify(t, signed, trust)
	v.Takes("quill", err)
}

// OpenSSL judges the CMS signature of each slice over its CodeDirectory, and its
// chain; LLVM reads the load commands and takes universal files apart.
func TestOracleMachOSlices(t *testing.T) {
	v := formattest.Judge(t, "macho", "openssl, llvm 14")
	v.Note = "CMS over the CodeDirectory of each slice as LLVM cuts it out; OpenSSL makes no signatures of this kind"
	all := inputs(t)
	for _, key := range keys {
		s := formattest.Identity(t, key)
		root := rootFile(t, s)
		for _, name := range []string{"Apple universal", "LLVM universal"} {
			path := write(t, seal(t, all[name], s, nil, false))
			f, err := parse(artifact(read(t, path)))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range f.slices {
				cut := filepath.Join(t.TempDir(), "cut")
				lipo(t, path, "-thin", p.architecture(), "-output", cut)
				b := read(t, cut)
				if _, err := formattest.RunJudge(t, formattest.Program(t, "llvm-objdump-14", "apt-get install llvm"), "--macho", "--private-headers", cut); err != nil {
					t.Error(err)
				}
				what := fmt.Sprintf("%s %s %s", name, p.architecture(), key)
				v.Accepts(what, formattest.Key(key), openssl(t, root, b))
				at := p.signature.off + 100 // inside the CodeDirectory
				_, ours := verify(t, flipped(b, at), s.Trust())
				v.Rejects(what, ours, openssl(t, root, flipped(b, at)))
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
	f, err := parse(artifact(b))
	if err != nil {
		return err
	}
	p := f.slices[0]
	s, err := codesign.Parse(b[p.signature.off:p.signature.end()])
	if err != nil {
		return err
	}
	_, err = cmstest.OpenSSL(tb, "cms", "-verify", "-binary", "-inform", "DER", "-in", write(tb, side.Data), "-content", write(tb, s.Directories[0].Raw),
		"-CAfile", root, "-purpose", "any", "-attime", fmt.Sprint(formattest.At.Unix()), "-out", os.DevNull)
	return err
}

// What LLVM's lipo makes of our slices verifies, and taken apart again each slice
// is what it was.
func TestUniversalFilesAreTakenApart(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	fat := seal(t, sample(t, "fatfile.app/Contents/MacOS/dummy"), s, nil, false)
	path := write(t, fat)
	f, err := parse(artifact(fat))
	if err != nil {
		t.Fatal(err)
	}
	var cuts []string
	for _, p := range f.slices {
		cut := filepath.Join(t.TempDir(), "cut")
		lipo(t, path, "-thin", p.architecture(), "-output", cut)
		if b := read(t, cut); !bytes.Equal(b, fat[p.off:p.off+p.size]) {
			t.Errorf("%s: lipo cuts out something else", p.architecture())
		}
		cuts = append(cuts, cut)
	}
	joined := filepath.Join(t.TempDir(), "joined")
	lipo(t, append(append([]string{"-create"}, cuts...), "-output", joined)...)
	r, err := verify(t, read(t, joined), s.Trust())
	if err != nil || len(r.Signatures) != len(cuts) {
		t.Errorf("%v", err)
	}
}
