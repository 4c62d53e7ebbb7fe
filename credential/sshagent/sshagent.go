// Package sshagent signs with SSH keys: those of a running ssh-agent, FIDO keys
// among them, and those in private key files. Both go through the agent protocol
// (draft-ietf-sshm-ssh-agent), the second to a keyring inside this process.
//
// Invariants:
//
//  1. Every signature is verified with its credential before it is returned: an
//     agent that answers with another algorithm, another key's signature or one
//     without user presence yields an error.
//  2. RSA keys sign with rsa-sha2-512.
//  3. No error contains key material or a passphrase. Passphrases are wiped after
//     use.
//  4. Every operation ends when its context does.
//
// A caller may not conclude that a key stays in the agent: its owner may remove
// it between Find and Sign.
package sshagent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/greatseal-io/greatseal/credential"
)

// What callers branch on.
var (
	ErrNoAgent    = errors.New("sshagent: no ssh-agent: start one with eval $(ssh-agent) or pass a key file")
	ErrNotFound   = errors.New("sshagent: no such key")
	ErrPassphrase = errors.New("sshagent: wrong or missing passphrase")
)

// Agent is an ssh-agent. It is safe for concurrent use: every operation has a
// connection of its own, so that one that waits for a touch delays no other.
type Agent struct {
	dial func(context.Context) (net.Conn, error)
}

// Key is a key that an agent holds.
type Key struct {
	Credential *credential.SSH
	Comment    string // as the agent says; not verified, may hold any character
}

// Connect finds the agent behind a Unix socket, usually $SSH_AUTH_SOCK.
// ErrNoAgent when there is none.
func Connect(socket string) (*Agent, error) {
	if socket == "" {
		return nil, ErrNoAgent
	}
	a := &Agent{dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", socket)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, fmt.Errorf("%w (%w)", ErrNoAgent, err)
		}
		return c, nil
	}}
	c, err := a.dial(context.Background())
	if err != nil {
		return nil, err
	}
	return a, c.Close()
}

// do runs f with a connection that closes when ctx ends.
func (a *Agent) do(ctx context.Context, f func(agent.ExtendedAgent) error) error {
	conn, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = f(agent.NewClient(conn))
	if ctx.Err() != nil {
		return fmt.Errorf("sshagent: %w", context.Cause(ctx))
	}
	return err
}

// List returns the agent's keys that are acceptable as credentials, in the
// agent's order. Others (DSA, short RSA, certificates) are left out.
func (a *Agent) List(ctx context.Context) ([]Key, error) {
	var list []*agent.Key
	err := a.do(ctx, func(c agent.ExtendedAgent) (err error) {
		if list, err = c.List(); err != nil {
			return fmt.Errorf("sshagent: list: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, k := range list {
		c, err := parseBlob(k.Blob)
		if err != nil {
			continue
		}
		keys = append(keys, Key{Credential: c, Comment: k.Comment})
	}
	return keys, nil
}

func parseBlob(blob []byte) (*credential.SSH, error) {
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("sshagent: key: %w", err)
	}
	c, err := credential.Parse(credential.KindSSH, pub.Type()+" "+base64.StdEncoding.EncodeToString(blob))
	if err != nil {
		return nil, err
	}
	return c.(*credential.SSH), nil
}

// Find returns a signer for the key that want names: its [credential.ID] or its
// text form ("ssh-ed25519 AAAA…", a comment may follow). ErrNotFound when the
// agent does not hold it.
func (a *Agent) Find(ctx context.Context, want string) (credential.Signer, error) {
	id, err := credential.ParseID(want)
	if err != nil {
		c, perr := credential.Parse(credential.KindSSH, want)
		if perr != nil {
			return nil, fmt.Errorf("sshagent: find: %w", perr)
		}
		id = c.ID()
	}
	if id.Kind() != credential.KindSSH {
		return nil, fmt.Errorf("sshagent: find: %s is not an SSH key", id)
	}
	keys, err := a.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.Credential.ID() == id {
			return signer{agent: a, cred: k.Credential}, nil
		}
	}
	return nil, fmt.Errorf("%w: the agent does not hold %s: add it with ssh-add, ssh-add -l lists what is there", ErrNotFound, id)
}

// signer is safe for concurrent use, as its agent is.
type signer struct {
	agent *Agent
	cred  *credential.SSH
}

// Credential implements [credential.Signer].
func (s signer) Credential() credential.Credential { return s.cred }

// Sign implements [credential.Signer].
func (s signer) Sign(ctx context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	data, err := credential.SSHSignedData(p, message)
	if err != nil {
		return nil, fmt.Errorf("sshagent: %w", err)
	}
	pub, err := ssh.ParsePublicKey(s.cred.Blob())
	if err != nil {
		return nil, fmt.Errorf("sshagent: %w", err)
	}
	var flags agent.SignatureFlags
	if s.cred.Algorithm() == ssh.KeyAlgoRSA {
		flags = agent.SignatureFlagRsaSha512
	}
	var sig *ssh.Signature
	err = s.agent.do(ctx, func(c agent.ExtendedAgent) (err error) {
		sig, err = c.SignWithFlags(pub, data, flags)
		return err
	})
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrNoAgent) {
			return nil, err
		}
		return nil, fmt.Errorf("sshagent: the agent did not sign with %s%s: %w", s.cred.ID(), hint(s.cred), err)
	}
	blob := credential.EncodeSSHSig(s.cred, p, sig)
	if err := s.cred.Verify(p, message, blob); err != nil {
		return nil, fmt.Errorf("sshagent: the agent's signature is not usable: %w", err)
	}
	return blob, nil
}

func hint(c *credential.SSH) string {
	if c.Hardware() {
		return " (is the security key plugged in, and was it touched?)"
	}
	return " (was it removed, or is the agent locked?)"
}

// isPublicFile reports whether path is a public key file by its name.
func isPublicFile(path string) bool { return strings.HasSuffix(path, ".pub") }
