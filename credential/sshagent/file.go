package sshagent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/internal/keyfile"
)

// File returns a signer for the key file at path.
//
// A private key file (OpenSSH, PKCS #8, PKCS #1, SEC 1) is loaded into a keyring
// in this process; it must belong to its owner alone (mode 0600). When it is
// encrypted, passphrase is asked once, with a prompt for the person; what it
// returns is wiped. A path that ends in ".pub" selects the key in the agent of
// $SSH_AUTH_SOCK; that is the way to use FIDO keys.
func File(path string, passphrase func(prompt string) ([]byte, error)) (credential.Signer, error) {
	if isPublicFile(path) {
		a, err := Connect(os.Getenv("SSH_AUTH_SOCK"))
		if err != nil {
			return nil, err
		}
		return a.PublicFile(context.Background(), path)
	}
	key, err := load(path, passphrase)
	if err != nil {
		return nil, err
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return nil, fmt.Errorf("sshagent: %s: %w", path, err)
	}
	list, err := ring.List()
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("sshagent: %s: no usable key", path)
	}
	cred, err := parseBlob(list[0].Blob)
	if err != nil {
		return nil, fmt.Errorf("sshagent: %s: %w", path, err)
	}
	a := &Agent{dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			// It returns when our end closes; what went wrong shows there.
			_ = agent.ServeAgent(ring, theirs)
		}()
		return ours, nil
	}}
	return signer{agent: a, cred: cred}, nil
}

// PublicFile returns a signer for the agent's key whose public half is in the
// file at path.
func (a *Agent) PublicFile(ctx context.Context, path string) (credential.Signer, error) {
	text, err := keyfile.ReadPublic(path)
	if err != nil {
		return nil, fmt.Errorf("sshagent: %w", err)
	}
	c, err := credential.Parse(credential.KindSSH, string(text))
	if err != nil {
		return nil, fmt.Errorf("sshagent: %s: %w", path, err)
	}
	return a.Find(ctx, string(c.ID()))
}

func load(path string, passphrase func(prompt string) ([]byte, error)) (any, error) {
	text, err := keyfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("sshagent: %w", err)
	}
	defer clear(text)
	key, err := ssh.ParseRawPrivateKey(text)
	var missing *ssh.PassphraseMissingError
	if !errors.As(err, &missing) {
		return key, explain(path, err)
	}
	if passphrase == nil {
		return nil, fmt.Errorf("%w: %s is encrypted: add it to an ssh-agent with ssh-add", ErrPassphrase, path)
	}
	secret, err := passphrase("passphrase for " + path + ": ")
	if err != nil {
		return nil, fmt.Errorf("sshagent: passphrase for %s: %w", path, err)
	}
	defer clear(secret)
	key, err = ssh.ParseRawPrivateKeyWithPassphrase(text, secret)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, fmt.Errorf("%w for %s", ErrPassphrase, path)
	}
	return key, explain(path, err)
}

// explain adds what to do next to an error about a private key file.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sshagent: %s is not a private key that can be used here: %w (a FIDO key: run ssh-add %s, and give %s.pub)", path, err, path, path)
}
