package sshagent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/credential/internal/keyfile"
	"github.com/greatseal-io/greatseal/credential/sshagent"
)

var message = []byte("DSSEv1 28 application/vnd.in-toto+json 2 {}")

func tool(t testing.TB, env string, stdin []byte, name string, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install openssh-client", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, errors.New(name + ": " + err.Error() + ": " + string(out))
	}
	return out, nil
}

func mustTool(t testing.TB, env string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	out, err := tool(t, env, stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// startAgent runs a real ssh-agent until the test ends and returns its socket.
func startAgent(t testing.TB) string {
	t.Helper()
	// Not t.TempDir: the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	path, err := exec.LookPath("ssh-agent")
	if err != nil {
		t.Fatalf("%v: install openssh-client", err)
	}
	cmd := exec.Command(path, "-D", "-a", socket)
	// It says where it listens once it does.
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it says that it was killed
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("ssh-agent: %v", err)
	}
	return socket
}

func keygen(t testing.TB, passphrase string, args ...string) (path, public string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	mustTool(t, "", nil, "ssh-keygen", append(args, "-q", "-N", passphrase, "-C", "a comment", "-f", path)...)
	b, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return path, string(b)
}

// judge checks a signer's signatures with its credential and with ssh-keygen.
func judge(t *testing.T, s credential.Signer) {
	t.Helper()
	for _, p := range []credential.Purpose{credential.Statement, credential.Login} {
		sig, err := s.Sign(t.Context(), p, message)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Credential().Verify(p, message, sig); err != nil {
			t.Error(err)
		}
		dir := t.TempDir()
		allowed, armored := filepath.Join(dir, "allowed"), filepath.Join(dir, "sig")
		for path, b := range map[string][]byte{
			allowed: []byte("alice " + s.Credential().Text() + "\n"),
			armored: pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: sig}),
		} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		verify := func(m []byte, namespace string) error {
			_, err := tool(t, "", m, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", armored)
			return err
		}
		if err := verify(message, string(p)+"@greatseal.io"); err != nil {
			t.Error(err)
		}
		if verify(message, "file") == nil || verify(message[1:], string(p)+"@greatseal.io") == nil {
			t.Error("ssh-keygen accepts anything: the test proves nothing")
		}
	}
	if _, err := s.Sign(t.Context(), "other", message); err == nil {
		t.Error("signed for an unknown purpose")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sign(ctx, credential.Statement, message); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

var kinds = [][]string{
	{"-t", "ed25519"},
	{"-t", "ecdsa", "-b", "256"},
	{"-t", "ecdsa", "-b", "384"},
	{"-t", "ecdsa", "-b", "521"},
	{"-t", "rsa", "-b", "3072"},
}

// A real agent holds keys of every type; each signs what ssh-keygen verifies. The
// same keys sign from their files.
func TestRealAgent(t *testing.T) {
	socket := startAgent(t)
	env := "SSH_AUTH_SOCK=" + socket
	t.Setenv("SSH_AUTH_SOCK", socket)
	a, err := sshagent.Connect(socket)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := a.List(t.Context()); err != nil || len(keys) != 0 {
		t.Fatalf("fresh agent: %v, %v", keys, err)
	}
	for _, args := range kinds {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			path, public := keygen(t, "", args...)
			if _, err := a.Find(t.Context(), public); !errors.Is(err, sshagent.ErrNotFound) {
				t.Errorf("not yet added: %v", err)
			}
			mustTool(t, env, nil, "ssh-add", "-q", path)
			s, err := a.Find(t.Context(), public)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, s)
			byID, err := a.Find(t.Context(), string(s.Credential().ID()))
			if err != nil || byID.Credential().Text() != s.Credential().Text() {
				t.Errorf("by id: %v", err)
			}
			byFile, err := sshagent.File(path+".pub", nil)
			if err != nil || byFile.Credential().Text() != s.Credential().Text() {
				t.Errorf("by public file: %v", err)
			}
			file, err := sshagent.File(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if file.Credential().Text() != s.Credential().Text() {
				t.Error("the file's key is another one")
			}
			judge(t, file)
		})
	}
	keys, err := a.List(t.Context())
	if err != nil || len(keys) != len(kinds) {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if keys[0].Comment != "a comment" || keys[0].Credential.Algorithm() != "ssh-ed25519" {
		t.Errorf("first key: %+v", keys[0])
	}

	// Many signers at once, over one agent.
	s, err := a.Find(t.Context(), keys[0].Credential.Text())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := s.Sign(t.Context(), credential.Login, message); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	// A short RSA key in the agent is not offered.
	weak, public := keygen(t, "", "-t", "rsa", "-b", "2048")
	mustTool(t, env, nil, "ssh-add", "-q", weak)
	if again, err := a.List(t.Context()); err != nil || len(again) != len(kinds) {
		t.Errorf("with RSA-2048: %d keys, %v", len(again), err)
	}
	if _, err := a.Find(t.Context(), public); !errors.Is(err, credential.ErrCredential) {
		t.Errorf("find RSA-2048: %v", err)
	}
	if _, err := sshagent.File(weak, nil); !errors.Is(err, credential.ErrCredential) {
		t.Errorf("file of RSA-2048: %v", err)
	}

	// The key is taken away between Find and Sign.
	mustTool(t, env, nil, "ssh-add", "-q", "-D")
	if _, err := s.Sign(t.Context(), credential.Login, message); err == nil || !strings.Contains(err.Error(), "was it removed") {
		t.Errorf("removed key: %v", err)
	}
}

func TestNoAgent(t *testing.T) {
	for _, socket := range []string{"", filepath.Join(t.TempDir(), "none")} {
		if _, err := sshagent.Connect(socket); !errors.Is(err, sshagent.ErrNoAgent) || !strings.Contains(err.Error(), "eval $(ssh-agent)") {
			t.Errorf("%q: %v", socket, err)
		}
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	if _, err := sshagent.File("key.pub", nil); !errors.Is(err, sshagent.ErrNoAgent) {
		t.Errorf("public file: %v", err)
	}
}

func TestEncryptedFile(t *testing.T) {
	path, public := keygen(t, "correct horse", "-t", "ed25519", "-a", "1")
	var handed []byte
	asked := 0
	s, err := sshagent.File(path, func(prompt string) ([]byte, error) {
		asked++
		if !strings.Contains(prompt, path) {
			t.Errorf("prompt %q", prompt)
		}
		handed = []byte("correct horse")
		return handed, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(public, s.Credential().Text()) || asked != 1 {
		t.Errorf("key %s, asked %d times", s.Credential().Text(), asked)
	}
	if !bytes.Equal(handed, make([]byte, len(handed))) {
		t.Error("the passphrase was not wiped")
	}
	judge(t, s)

	stop := errors.New("stop")
	for name, tc := range map[string]struct {
		ask  func(string) ([]byte, error)
		want error
	}{
		"nobody to ask": {nil, sshagent.ErrPassphrase},
		"wrong":         {func(string) ([]byte, error) { return []byte("battery staple"), nil }, sshagent.ErrPassphrase},
		"cancelled":     {func(string) ([]byte, error) { return nil, stop }, stop},
	} {
		_, err := sshagent.File(path, tc.ask)
		if !errors.Is(err, tc.want) || strings.Contains(err.Error(), "battery") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileRefuses(t *testing.T) {
	path, _ := keygen(t, "", "-t", "ed25519")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := sshagent.File(path, nil); !errors.Is(err, keyfile.ErrPermissions) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to all: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	for _, text := range []string{"", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"} {
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sshagent.File(bad, nil); err == nil || !strings.Contains(err.Error(), "ssh-add") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := sshagent.File(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// hostile is an agent that answers as it likes.
type hostile struct {
	agent.ExtendedAgent
	key  *agent.Key
	sign func(data []byte) (*ssh.Signature, error)
}

func (h hostile) List() ([]*agent.Key, error) { return []*agent.Key{h.key}, nil }

func (h hostile) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return h.sign(data)
}

func (h hostile) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) { return h.sign(data) }

// serve runs an agent on a socket until the test ends.
func serve(t *testing.T, h hostile) *sshagent.Agent {
	t.Helper()
	h.ExtendedAgent = agent.NewKeyring().(agent.ExtendedAgent)
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); os.RemoveAll(dir) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _ = agent.ServeAgent(h, c) }()
		}
	}()
	a, err := sshagent.Connect(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Invariant 1: what a lying agent answers is not handed on.
func TestHostileAgent(t *testing.T) {
	rsaPriv, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner, err := ssh.NewSignerFromKey(rsaPriv)
	if err != nil {
		t.Fatal(err)
	}
	edPriv := ed25519.NewKeyFromSeed(make([]byte, 32))
	edSigner, err := ssh.NewSignerFromKey(edPriv)
	if err != nil {
		t.Fatal(err)
	}
	fido := credentialtest.FIDO("alice").Credential().(*credential.SSH)
	for name, tc := range map[string]struct {
		format string
		blob   []byte
		sign   func(data []byte) (*ssh.Signature, error)
	}{
		"SHA-1": {"ssh-rsa", rsaSigner.PublicKey().Marshal(), func(d []byte) (*ssh.Signature, error) {
			return rsaSigner.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, d, ssh.KeyAlgoRSA)
		}},
		"another key": {"ssh-ed25519", edSigner.PublicKey().Marshal(), func(d []byte) (*ssh.Signature, error) {
			return rsaSigner.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, d, ssh.KeyAlgoRSASHA512)
		}},
		"other data": {"ssh-ed25519", edSigner.PublicKey().Marshal(), func(d []byte) (*ssh.Signature, error) {
			return edSigner.Sign(rand.Reader, d[1:])
		}},
		"bytes after": {"ssh-ed25519", edSigner.PublicKey().Marshal(), func(d []byte) (*ssh.Signature, error) {
			s, err := edSigner.Sign(rand.Reader, d)
			if err == nil {
				s.Rest = []byte{0}
			}
			return s, err
		}},
		"no presence": {fido.Algorithm(), fido.Blob(), func([]byte) (*ssh.Signature, error) {
			return &ssh.Signature{Format: fido.Algorithm(), Blob: make([]byte, 64), Rest: make([]byte, 5)}, nil
		}},
		"no flags": {fido.Algorithm(), fido.Blob(), func([]byte) (*ssh.Signature, error) {
			return &ssh.Signature{Format: fido.Algorithm(), Blob: make([]byte, 64)}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := serve(t, hostile{key: &agent.Key{Format: tc.format, Blob: tc.blob}, sign: tc.sign})
			keys, err := a.List(t.Context())
			if err != nil || len(keys) != 1 {
				t.Fatalf("%v, %v", keys, err)
			}
			s, err := a.Find(t.Context(), string(keys[0].Credential.ID()))
			if err != nil {
				t.Fatal(err)
			}
			if sig, err := s.Sign(t.Context(), credential.Statement, message); !errors.Is(err, credential.ErrSignature) || sig != nil {
				t.Errorf("%x, %v", sig, err)
			}
		})
	}
	t.Run("unknown key", func(t *testing.T) {
		for _, format := range []string{"ssh-ed25519", "ssh-unknown"} {
			a := serve(t, hostile{key: &agent.Key{Format: format, Blob: ssh.Marshal(struct{ A, B string }{format, "x"})}})
			if keys, err := a.List(t.Context()); err != nil || len(keys) != 0 {
				t.Errorf("%v, %v", keys, err)
			}
		}
	})
	t.Run("garbage", func(t *testing.T) {
		a := serve(t, hostile{key: &agent.Key{Format: "ssh-ed25519", Blob: []byte("garbage")}})
		if keys, err := a.List(t.Context()); err == nil {
			t.Errorf("%v", keys)
		}
	})
	t.Run("refuses", func(t *testing.T) {
		a := serve(t, hostile{
			key:  &agent.Key{Format: fido.Algorithm(), Blob: fido.Blob()},
			sign: func([]byte) (*ssh.Signature, error) { return nil, errors.New("no") },
		})
		s, err := a.Find(t.Context(), fido.Text())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(t.Context(), credential.Login, message); err == nil || !strings.Contains(err.Error(), "touched") {
			t.Errorf("%v", err)
		}
	})
	// Invariant 4: an agent that waits for ever ends with the context.
	t.Run("never answers", func(t *testing.T) {
		asked, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		a := serve(t, hostile{
			key: &agent.Key{Format: fido.Algorithm(), Blob: fido.Blob()},
			sign: func([]byte) (*ssh.Signature, error) {
				close(asked)
				<-release
				return nil, errors.New("late")
			},
		})
		s, err := a.Find(t.Context(), fido.Text())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		if _, err := s.Sign(ctx, credential.Login, message); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestFindRefuses(t *testing.T) {
	bob := credentialtest.SSH("bob").Credential().(*credential.SSH)
	a := serve(t, hostile{key: &agent.Key{Format: bob.Algorithm(), Blob: bob.Blob()}})
	for _, want := range []string{"", "alice", string(credentialtest.X509("a").Credential().ID()), "ssh-dss AAAA"} {
		if s, err := a.Find(t.Context(), want); err == nil {
			t.Errorf("%q: %s", want, s.Credential().ID())
		}
	}
	if _, err := a.Find(t.Context(), credentialtest.SSH("a").Credential().Text()); !errors.Is(err, sshagent.ErrNotFound) || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("%v", err)
	}
}
