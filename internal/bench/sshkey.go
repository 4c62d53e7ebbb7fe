package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/credential"
)

// sshKey is an SSH key in memory, made at random: ssh-ed25519, or one whose
// authenticator is this process (PROTOCOL.u2f of OpenSSH).
type sshKey struct {
	key  ed25519.PrivateKey
	fido bool
	cred *credential.SSH
}

const fidoApplication = "ssh:"

func newSSH(fido bool) (credential.Signer, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	algorithm := ssh.KeyAlgoED25519
	blob := ssh.Marshal(struct{ Type, Key string }{algorithm, string(pub)})
	if fido {
		algorithm = ssh.KeyAlgoSKED25519
		blob = ssh.Marshal(struct{ Type, Key, Application string }{algorithm, string(pub), fidoApplication})
	}
	c, err := credential.Parse(credential.KindSSH, algorithm+" "+base64.StdEncoding.EncodeToString(blob))
	if err != nil {
		return nil, err
	}
	return &sshKey{key, fido, c.(*credential.SSH)}, nil
}

func (k *sshKey) Credential() credential.Credential { return k.cred }

func (k *sshKey) Sign(_ context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	data, err := credential.SSHSignedData(p, message)
	if err != nil {
		return nil, err
	}
	sig := &ssh.Signature{Format: ssh.KeyAlgoED25519}
	if k.fido {
		rest := []byte{1, 0, 0, 0, 1} // somebody is present; counter
		app, digest := sha256.Sum256([]byte(fidoApplication)), sha256.Sum256(data)
		data = append(append(app[:], rest...), digest[:]...)
		sig.Format, sig.Rest = ssh.KeyAlgoSKED25519, rest
	}
	sig.Blob = ed25519.Sign(k.key, data)
	return credential.EncodeSSHSig(k.cred, p, sig), nil
}
