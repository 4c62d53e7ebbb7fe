// Package credentialtest makes credentials for tests, in memory and from names:
// the same name is the same key in every run. Anybody can make them: they belong
// in no charter.
//
// The functions panic when they are misused, for they have no way to go on.
package credentialtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/x509key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// seed is 32 bytes that depend on what and name alone.
func seed(what, name string) []byte {
	h := sha256.Sum256([]byte("greatseal credentialtest " + what + "\x00" + name))
	return h[:]
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("credentialtest: %v", err))
	}
	return v
}

type signer struct {
	cred credential.Credential
	sign func(p credential.Purpose, message []byte) ([]byte, error)
}

func (s signer) Credential() credential.Credential { return s.cred }

func (s signer) Sign(ctx context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.sign(p, message)
}

func parseSSH(algorithm string, blob []byte) *credential.SSH {
	text := algorithm + " " + base64.StdEncoding.EncodeToString(blob)
	return must(credential.Parse(credential.KindSSH, text)).(*credential.SSH)
}

// SSH is an ssh-ed25519 key. Its signatures are deterministic.
func SSH(name string) credential.Signer {
	key := must(ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed("ssh", name))))
	cred := parseSSH(key.PublicKey().Type(), key.PublicKey().Marshal())
	return signer{cred, func(p credential.Purpose, message []byte) ([]byte, error) {
		data, err := credential.SSHSignedData(p, message)
		if err != nil {
			return nil, err
		}
		sig, err := key.Sign(rand.Reader, data)
		if err != nil {
			return nil, err
		}
		return credential.EncodeSSHSig(cred, p, sig), nil
	}}
}

// FIDO is an sk-ssh-ed25519@openssh.com key whose authenticator is this process.
// It always asserts user presence.
func FIDO(name string) credential.Signer {
	key := ed25519.NewKeyFromSeed(seed("fido", name))
	const application = "ssh:"
	blob := ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(key[32:]), application})
	cred := parseSSH(ssh.KeyAlgoSKED25519, blob)
	return signer{cred, func(p credential.Purpose, message []byte) ([]byte, error) {
		data, err := credential.SSHSignedData(p, message)
		if err != nil {
			return nil, err
		}
		rest := []byte{0x01, 0, 0, 0, 1} // user present, counter
		app, digest := sha256.Sum256([]byte(application)), sha256.Sum256(data)
		signed := append(append(app[:], rest...), digest[:]...)
		sig := &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(key, signed), Rest: rest}
		return credential.EncodeSSHSig(cred, p, sig), nil
	}}
}

// X509 is an Ed25519 key of a certificate. Its signatures are deterministic.
func X509(name string) credential.Signer {
	return must(x509key.New(ed25519.NewKeyFromSeed(seed("x509", name))))
}

// Passkey is a device-bound ES256 passkey of the relying party rpID that is used
// from origin ("https://seal.example.com"), with the user verified. Its
// signatures are deterministic.
func Passkey(name, rpID, origin string) credential.Signer {
	key := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seed("passkey", name)))
	point := must(key.PublicKey.Bytes())
	mode := must(cbor.CoreDetEncOptions().EncMode())
	cose := must(mode.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}))
	cred := must(credential.NewPasskey(seed("passkey id", name), cose, rpID, []string{origin}, false))
	return signer{cred, func(p credential.Purpose, message []byte) ([]byte, error) {
		challenge, err := credential.Challenge(p, message)
		if err != nil {
			return nil, err
		}
		client, err := json.Marshal(struct {
			Type        string `json:"type"`
			Challenge   string `json:"challenge"`
			Origin      string `json:"origin"`
			CrossOrigin bool   `json:"crossOrigin"`
		}{"webauthn.get", base64.RawURLEncoding.EncodeToString(challenge), origin, false})
		if err != nil {
			return nil, err
		}
		rp, ch := sha256.Sum256([]byte(rpID)), sha256.Sum256(client)
		auth := append(rp[:], 0x05) // user present, user verified
		auth = binary.BigEndian.AppendUint32(auth, 1)
		s := sigalg.ECDSASHA256
		digest := s.Input(append(append([]byte{}, auth...), ch[:]...))
		sig, err := key.Sign(nil, digest, s.SignerOpts())
		if err != nil {
			return nil, err
		}
		return credential.Assertion{AuthenticatorData: auth, ClientDataJSON: client, Signature: sig}.Encode()
	}}
}
