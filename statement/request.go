package statement

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/merkle"
)

// RequestType is the predicate type of requests.
const RequestType = "https://greatseal.io/request/v1"

// CommandName is what the keeper is asked to do.
type CommandName string

// The commands.
const (
	Sign              CommandName = "sign"
	KeyGenerate       CommandName = "key.generate"
	KeyImportCert     CommandName = "key.import-certificate"
	KeySuspend        CommandName = "key.suspend"
	KeyResume         CommandName = "key.resume"
	KeyDestroy        CommandName = "key.destroy"
	CharterReplace    CommandName = "charter.replace"
	maxChain                      = 8
	maxCertificate                = 16 << 10
	maxSelfSignedDays             = 460
)

// Commands lists every command.
func Commands() []CommandName {
	return []CommandName{Sign, KeyGenerate, KeyImportCert, KeySuspend, KeyResume, KeyDestroy, CharterReplace}
}

// CharterRef names one version of the charter by its statement's ID.
type CharterRef struct {
	Version uint64 `json:"version"`
	ID      ID     `json:"id"`
}

// Request is a command waiting for its quorum. Its envelope carries exactly one
// signature: the requester's own.
//
// A field that is added is "omitzero" and stands last in its struct, so that
// requests made before keep their ID.
type Request struct {
	Deployment string     `json:"deployment"`
	Charter    CharterRef `json:"charter"`   // in force when it was made
	Requester  string     `json:"requester"` // a person or machine of that charter
	Command    Command    `json:"command"`
	Created    time.Time  `json:"created"`
	Expires    time.Time  `json:"expires"`            // executed before, or not at all
	NotBefore  time.Time  `json:"notBefore,omitzero"` // not executed earlier
	Nonce      string     `json:"nonce"`              // 32 hexadecimal digits: two requests alike are still two
	Reason     string     `json:"reason,omitzero"`
	Origin     []Claim    `json:"origin,omitzero"` // sorted by name: repository, commit, build; the requester's word
}

// Command is one command with its arguments. Exactly the argument that belongs
// to Name is set.
type Command struct {
	Name        CommandName      `json:"name"`
	Sign        *SignArgs        `json:"sign,omitzero"`
	Key         *KeyArgs         `json:"key,omitzero"`
	Generate    *GenerateArgs    `json:"generate,omitzero"`
	Certificate *CertificateArgs `json:"certificate,omitzero"`
	Charter     *CharterArgs     `json:"charter,omitzero"`
}

// SignArgs say what is to be signed: the items under Root, and nothing else.
type SignArgs struct {
	Policy  string   `json:"policy"`
	Key     string   `json:"key"`              // the policy's key; named so that endorsers see it
	Purpose string   `json:"purpose,omitzero"` // one of the policy's purposes
	Formats []string `json:"formats"`          // of the items, sorted
	Count   int      `json:"count"`            // number of items
	Items   string   `json:"items"`            // Merkle root over the encoded items, hexadecimal
}

// KeyArgs name the key of key.suspend, key.resume, key.destroy.
type KeyArgs struct {
	Key string `json:"key"`
}

// GenerateArgs ask for a key that the charter declares, and a certificate request
// (PKCS #10) for Subject signed with it. SelfSignedDays > 0 also asks for a
// self-signed certificate, for trying out.
type GenerateArgs struct {
	Key            string `json:"key"`
	Subject        string `json:"subject"` // RFC 4514: "CN=Example Ltd,O=Example Ltd,C=CH"
	SelfSignedDays int    `json:"selfSignedDays,omitzero"`
}

// CertificateArgs give a key its certificate chain, leaf first, in DER.
type CertificateArgs struct {
	Key   string   `json:"key"`
	Chain [][]byte `json:"chain"`
}

// CharterArgs carry the statement of the next charter.
type CharterArgs struct {
	Statement []byte `json:"statement"`
}

// PredicateType is RequestType.
func (Request) PredicateType() string { return RequestType }

// Subject is the command, by its digest.
func (r Request) Subject() Subject {
	return Subject{Name: r.Deployment + "/" + string(r.Command.Name), Digest: map[string]string{"greatsealCommand": r.Command.Digest()}}
}

// Digest is SHA-256 over "greatseal command v1", a zero byte and the command's
// JSON, in hexadecimal. Requests for the same command have the same digest.
func (c Command) Digest() string {
	b, err := marshal(c)
	if err != nil {
		return ""
	}
	h := sha256.New()
	h.Write([]byte("greatseal command v1\x00"))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// KeyName is the key that the command is about, or "" for charter.replace.
func (c Command) KeyName() string {
	switch {
	case c.Sign != nil:
		return c.Sign.Key
	case c.Key != nil:
		return c.Key.Key
	case c.Generate != nil:
		return c.Generate.Key
	case c.Certificate != nil:
		return c.Certificate.Key
	}
	return ""
}

// Check refuses a command whose arguments are not those of its name.
func (c Command) Check() error {
	type args struct{ sign, key, generate, certificate, charter bool }
	got := args{c.Sign != nil, c.Key != nil, c.Generate != nil, c.Certificate != nil, c.Charter != nil}
	var want args
	switch c.Name {
	case Sign:
		want.sign = true
	case KeySuspend, KeyResume, KeyDestroy:
		want.key = true
	case KeyGenerate:
		want.generate = true
	case KeyImportCert:
		want.certificate = true
	case CharterReplace:
		want.charter = true
	default:
		return fmt.Errorf("statement: unknown command %.80q", c.Name)
	}
	if got != want {
		return fmt.Errorf("statement: command %s: its own arguments and no others are wanted", c.Name)
	}
	if c.Charter == nil {
		if err := CheckName("key", c.KeyName()); err != nil {
			return err
		}
	}
	switch {
	case c.Sign != nil:
		return c.Sign.check()
	case c.Generate != nil:
		if g := c.Generate; g.Subject == "" || g.SelfSignedDays < 0 || g.SelfSignedDays > maxSelfSignedDays {
			return fmt.Errorf("statement: key.generate: want a subject, and 0 to %d days of self-signed certificate", maxSelfSignedDays)
		}
		return checkText("subject", c.Generate.Subject)
	case c.Certificate != nil:
		if n := len(c.Certificate.Chain); n == 0 || n > maxChain {
			return fmt.Errorf("statement: key.import-certificate: chain of %d: want 1 to %d certificates", n, maxChain)
		}
		for _, d := range c.Certificate.Chain {
			if len(d) == 0 || len(d) > maxCertificate {
				return fmt.Errorf("statement: key.import-certificate: certificate of %d bytes: want 1 to %d", len(d), maxCertificate)
			}
		}
	case c.Charter != nil:
		if len(c.Charter.Statement) == 0 {
			return errors.New("statement: charter.replace without a charter")
		}
	}
	return nil
}

// MaxItems is the number of items that one request carries at the most.
const MaxItems = 100_000

func (s *SignArgs) check() error {
	if err := CheckName("policy", s.Policy); err != nil {
		return err
	}
	if s.Purpose != "" && s.Purpose != "*" { // the wild card of records: a word of its own, not a pattern
		if err := CheckName("purpose", s.Purpose); err != nil {
			return err
		}
	}
	if s.Count < 1 || s.Count > MaxItems {
		return fmt.Errorf("statement: %d items: want 1 to %d", s.Count, MaxItems)
	}
	if _, err := merkle.ParseHash(s.Items); err != nil {
		return err
	}
	if len(s.Formats) == 0 || len(s.Formats) > maxFormats || !slices.IsSorted(s.Formats) {
		return errors.New("statement: formats: want a sorted list")
	}
	for i, f := range s.Formats {
		if err := CheckName("format", f); err != nil {
			return err
		}
		if i > 0 && s.Formats[i-1] == f {
			return fmt.Errorf("statement: format %s stands twice", f)
		}
	}
	return nil
}

// Check refuses a request that contradicts itself.
func (r Request) Check() error {
	if err := errors.Join(CheckName("deployment", r.Deployment), CheckName("requester", r.Requester),
		CheckTime("created", r.Created), CheckTime("expires", r.Expires),
		checkText("reason", r.Reason), checkClaims("origin", r.Origin)); err != nil {
		return err
	}
	if r.Charter.Version == 0 {
		return errors.New("statement: request without a charter")
	}
	if !r.Expires.After(r.Created) {
		return errors.New("statement: request expires before it is created")
	}
	if !r.NotBefore.IsZero() {
		if err := CheckTime("notBefore", r.NotBefore); err != nil {
			return err
		}
		if !r.NotBefore.Before(r.Expires) {
			return errors.New("statement: request expires before it may be executed")
		}
	}
	if b, err := hex.DecodeString(r.Nonce); err != nil || len(b) != 16 || hex.EncodeToString(b) != r.Nonce {
		return errors.New("statement: nonce: want 32 lower-case hexadecimal digits")
	}
	return r.Command.Check()
}
