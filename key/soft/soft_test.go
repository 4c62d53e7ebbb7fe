//go:build unix

package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/keytest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const secret = "correct horse battery staple"

func pass() []byte { return []byte(secret) }

// faultEnv makes the test binary a process that dies while it writes: its value
// is the stage, its argument the file.
const faultEnv = "SOFT_TEST_DIE_AT"

func TestMain(m *testing.M) {
	if stage := os.Getenv(faultEnv); stage != "" {
		dieWriting(os.Args[1], stage)
	}
	os.Exit(m.Run())
}

func dieWriting(path, stage string) {
	p, err := Open(path, pass())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	p.file.fault = func(at string) {
		if at == stage {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // never a step further
		}
	}
	_, err = p.Generate(context.Background(), "soft:second", sigalg.Ed25519)
	fmt.Fprintln(os.Stderr, "still alive:", err)
	os.Exit(4)
}

// fresh makes a key file that opens as cheaply as is allowed.
func fresh(t testing.TB) (*Provider, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	p, err := create(path, pass(), minCost, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, path
}

func reopen(t testing.TB, p *Provider, path string) *Provider {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, pass())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

func generateAs(t testing.TB, p *Provider, name string, k sigalg.Key) key.Key {
	t.Helper()
	made, err := p.Generate(t.Context(), key.URI("soft:"+name), k)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	made, err := create(path, pass(), minCost, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	keytest.Run(t, func(t *testing.T) key.Provider {
		p, err := Open(path, pass())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}, keytest.Options{
		Algorithms: sigalg.Keys(),
		URI:        func(name string) key.URI { return key.URI("soft:" + name) },
		Malformed: []key.URI{
			"soft:A", "soft:-a", "soft:.a", "soft:_a", "soft:a/b", "soft:../a", "soft:ä", "soft:a b", "soft:a%20",
			"Soft:a", "soft://a", key.URI("soft:" + strings.Repeat("a", 65)),
		},
		Secrets: []string{secret},
	})
}

func TestNames(t *testing.T) {
	p, _ := fresh(t)
	for _, name := range []string{"a", "0", "a.b_c-d", strings.Repeat("z", 64)} {
		generateAs(t, p, name, sigalg.Ed25519)
	}
	want := []key.URI{"soft:0", "soft:a", "soft:a.b_c-d", key.URI("soft:" + strings.Repeat("z", 64))}
	if got := p.Keys(); !slices.Equal(got, want) {
		t.Fatalf("Keys: %q", got)
	}
}

// Invariant 1: neither the file nor any way of printing shows a private key.
func TestNothingShown(t *testing.T) {
	p, path := fresh(t)
	k := generateAs(t, p, "one", sigalg.Ed25519)
	seed := k.(*entry).signer.(ed25519.PrivateKey).Seed()
	dataKey := bytes.Clone(p.file.envelope.dataKey)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{seed, dataKey, pass(), []byte("one")} {
		if bytes.Contains(data, s) {
			t.Fatal("the file shows what must be encrypted")
		}
	}
	for _, v := range []any{k, p, *p.file.lock} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, v)
			for _, s := range [][]byte{seed, dataKey} {
				if strings.Contains(out, hex.EncodeToString(s)) || strings.Contains(out, strings.Trim(fmt.Sprint(s), "[]")) || strings.Contains(out, string(s)) {
					t.Fatalf("%s prints a secret", verb)
				}
			}
		}
	}
}

func TestPassphrase(t *testing.T) {
	p, path := fresh(t)
	generateAs(t, p, "a", sigalg.Ed25519)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "x", secret + " ", secret[1:], strings.ToUpper(secret)} {
		if _, err := Open(path, []byte(wrong)); !errors.Is(err, ErrPassphrase) {
			t.Fatalf("passphrase %q: %v", wrong, err)
		}
	}
	given := pass()
	p, err := Open(path, given)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !bytes.Equal(given, make([]byte, len(given))) {
		t.Fatal("the passphrase was not zeroed")
	}
	if _, err := Create(filepath.Join(t.TempDir(), "k"), []byte("short")); err == nil {
		t.Fatal("short passphrase accepted")
	}
	if err := p.ChangePassphrase(t.Context(), []byte("short")); err == nil {
		t.Fatal("short passphrase accepted")
	}
}

func TestChangePassphrase(t *testing.T) {
	p, path := fresh(t)
	k := generateAs(t, p, "a", sigalg.P256)
	old := bytes.Clone(p.file.envelope.dataKey)
	if err := p.ChangePassphrase(t.Context(), []byte("another passphrase")); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(old, p.file.envelope.dataKey) {
		t.Fatal("the data key stayed")
	}
	if p.file.envelope.header.KDF.Cost != defaultCost {
		t.Fatal("the parameters stayed")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, pass()); !errors.Is(err, ErrPassphrase) {
		t.Fatalf("old passphrase: %v", err)
	}
	p, err := Open(path, []byte("another passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	again, err := p.Open(t.Context(), "soft:a")
	if err != nil || !k.Public().(*ecdsa.PublicKey).Equal(again.Public()) {
		t.Fatalf("the key changed: %v", err)
	}
}

func TestCreateNeverReplaces(t *testing.T) {
	p, path := fresh(t)
	generateAs(t, p, "a", sigalg.Ed25519)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, pass()); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Create over a file: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the file changed: %v", err)
	}
	if _, err := Open(path+"2", pass()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open of nothing: %v", err)
	}
}

// Invariant 4: the process is killed at every stage of a write, really.
func TestKilledWhileWriting(t *testing.T) {
	for _, stage := range []string{"created", "half written", "written", "synced", "renamed"} {
		t.Run(stage, func(t *testing.T) {
			p, path := fresh(t)
			first := generateAs(t, p, "first", sigalg.P256)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0], path)
			cmd.Env = append(os.Environ(), faultEnv+"="+stage)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child was not killed: %v: %s", err, out)
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if written := stage == "renamed"; bytes.Equal(before, after) == written {
				t.Fatalf("file changed: %v, want %v", !written, written)
			}
			again, err := Open(path, pass())
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			k, err := again.Open(t.Context(), "soft:first")
			if err != nil || !first.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
				t.Fatalf("first key: %v", err)
			}
			if _, err := again.Open(t.Context(), "soft:second"); (err == nil) != (stage == "renamed") {
				t.Fatalf("second key: %v", err)
			}
			generateAs(t, again, "third", sigalg.Ed25519)
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 2 { // the file and its lock
				t.Fatalf("left over: %v", entries)
			}
		})
	}
}

// A write that fails leaves the file, the keys and the folder as they were.
func TestFolderGone(t *testing.T) {
	p, path := fresh(t)
	generateAs(t, p, "a", sigalg.Ed25519)
	moved := filepath.Dir(path) + "-moved"
	if err := os.Rename(filepath.Dir(path), moved); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Generate(t.Context(), "soft:b", sigalg.Ed25519); err == nil {
		t.Fatal("wrote into a folder that is gone")
	}
	if err := p.Destroy(t.Context(), "soft:a"); err == nil {
		t.Fatal("destroyed in a folder that is gone")
	}
	if _, err := p.Open(t.Context(), "soft:a"); err != nil {
		t.Fatalf("the key went with a failed Destroy: %v", err)
	}
	if err := os.Rename(moved, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	generateAs(t, p, "b", sigalg.Ed25519)
	if got := reopen(t, p, path).Keys(); !slices.Equal(got, []key.URI{"soft:a", "soft:b"}) {
		t.Fatalf("Keys: %q", got)
	}
}

// Invariant 5.
func TestPermissions(t *testing.T) {
	p, path := fresh(t)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".lock"} {
		i, err := os.Lstat(name)
		if err != nil || i.Mode() != 0o600 {
			t.Fatalf("%s: mode %v, %v", name, i.Mode(), err)
		}
		for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o700, 0o666} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, pass()); !errors.Is(err, ErrPermissions) {
				t.Fatalf("%s with mode %v: %v", filepath.Base(name), mode, err)
			}
		}
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link, pass()); !errors.Is(err, ErrPermissions) {
		t.Fatalf("symbolic link: %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(pipe, pass()); !errors.Is(err, ErrPermissions) {
		t.Fatalf("named pipe: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, pass()); !errors.Is(err, ErrPermissions) {
			t.Fatalf("file of another user: %v", err)
		}
	}
}

// Invariant 6.
func TestLock(t *testing.T) {
	p, path := fresh(t)
	if _, err := Open(path, pass()); !errors.Is(err, ErrLocked) || !errors.Is(err, key.ErrUnavailable) {
		t.Fatalf("second Open: %v", err)
	}
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), faultEnv+"=created")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by another process") {
		t.Fatalf("second process: %v: %s", err, out)
	}
	reopen(t, p, path)
}

// Invariant 7 is shown by the benchmark; here that signatures do not wait for a
// write that is under way.
func TestSignWhileWriting(t *testing.T) {
	p, _ := fresh(t)
	k := generateAs(t, p, "a", sigalg.P256)
	writing, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.file.fault = func(string) { once.Do(func() { close(writing); <-goOn }) }
	done := make(chan error)
	go func() {
		_, err := p.Generate(context.WithoutCancel(t.Context()), "soft:b", sigalg.Ed25519)
		done <- err
	}()
	<-writing
	for range 10 {
		if _, err := k.Sign(t.Context(), sigalg.ECDSASHA256, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestImport(t *testing.T) {
	p, path := fresh(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: apt-get install openssl")
	}
	for name, args := range map[string][]string{
		"rsa":     {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
		"p256":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"ed25519": {"-algorithm", "ED25519"},
	} {
		out, err := exec.Command("openssl", append([]string{"genpkey"}, args...)...).Output()
		if err != nil {
			t.Fatalf("openssl genpkey: %v", err)
		}
		block, _ := pem.Decode(out)
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		signer := parsed.(crypto.Signer)
		k, err := p.Import(t.Context(), key.URI("soft:"+name), signer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		scheme := k.Algorithm().Default()
		sig, err := k.Sign(t.Context(), scheme, scheme.Input([]byte("moved")))
		if err != nil {
			t.Fatal(err)
		}
		if err := sigalg.Verify(signer.Public(), scheme, []byte("moved"), sig); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := p.Import(t.Context(), key.URI("soft:"+name), signer); !errors.Is(err, key.ErrExists) {
			t.Fatalf("%s again: %v", name, err)
		}
	}
	seeded, err := mldsa.NewPrivateKey(mldsa.MLDSA87(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Import(t.Context(), "soft:mldsa", seeded); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, p, path)
	k, err := again.Open(t.Context(), "soft:mldsa")
	if err != nil || !seeded.PublicKey().Equal(k.Public()) {
		t.Fatalf("ML-DSA key: %v", err)
	}

	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []crypto.Signer{small, weak, curve, foreign{small}, nil} {
		if _, err := again.Import(t.Context(), "soft:bad", bad); err == nil {
			t.Fatalf("%T imported", bad)
		}
	}
	if _, err := again.Open(t.Context(), "soft:bad"); !errors.Is(err, key.ErrNotFound) {
		t.Fatal(err)
	}
}

type foreign struct{ crypto.Signer }

func BenchmarkSign(b *testing.B) {
	p, _ := fresh(b)
	for _, k := range sigalg.Keys() {
		made := generateAs(b, p, "bench-"+string(k), k)
		scheme := k.Default()
		input := scheme.Input([]byte("benchmark"))
		b.Run(string(k), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := made.Sign(b.Context(), scheme, input); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sign/s")
		})
	}
}
