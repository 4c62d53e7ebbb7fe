package charter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// MaxStatement is the largest statement of a charter, in bytes: the request that
// carries it to charter.replace, in base64, is a statement too.
const MaxStatement = 700 << 10

// DigestName is what the digest of a charter is called in a Subject.
const DigestName = "greatsealCharter"

// Subject is the charter by the SHA-256 of its canonical JSON.
func (c Charter) Subject() statement.Subject {
	digest := ""
	if b, err := c.json(); err == nil {
		h := sha256.Sum256(b)
		digest = hex.EncodeToString(h[:])
	}
	return statement.Subject{Name: c.Deployment + "/charter", Digest: map[string]string{DigestName: digest}}
}

func (c Charter) json() ([]byte, error) {
	return json.Marshal(c, json.Deterministic(true), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
}

// Encode writes the charter's statement: the payload that founders sign and that
// charter.replace carries. It brings c into its canonical form first (credentials
// without comments, lists that are sets sorted) and refuses what Check refuses.
func Encode(c *Charter) ([]byte, error) {
	b, err := statement.Encode(c.canonical())
	if err != nil {
		return nil, err
	}
	if len(b) > MaxStatement {
		return nil, fmt.Errorf("charter: statement of %d bytes: at most %d", len(b), MaxStatement)
	}
	return b, nil
}

// Clone is a deep copy of c in its canonical form, not checked.
func Clone(c *Charter) (*Charter, error) {
	b, err := c.canonical().json()
	if err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	var d Charter
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	return &d, nil
}

// Next is a deep copy of c, which is in force under ref, as the version that follows
// it, not checked: made at at, but not before c was.
func Next(c *Charter, ref statement.CharterRef, at time.Time) (*Charter, error) {
	next, err := Clone(c)
	if err != nil {
		return nil, err
	}
	next.Version, next.Previous, next.Created = ref.Version+1, ref.ID, statement.Seconds(at)
	if next.Created.Before(c.Created) {
		next.Created = c.Created
	}
	return next, nil
}

// ErrNotCarried is the error of a request that carries no charter.
var ErrNotCarried = errors.New("charter: the request carries no charter")

// Carried is the charter that a request carries to charter.replace. The request is in
// its envelope, of which no signature is checked; the error is ErrNotCarried, or that of
// something that cannot be read.
func Carried(envelope []byte) (*Charter, error) {
	_, r, err := statement.DecodeEnveloped[statement.Request](envelope)
	if err != nil {
		return nil, err
	}
	if r.Command.Charter == nil {
		return nil, ErrNotCarried
	}
	return Decode(r.Command.Charter.Statement)
}

// Decode reads a charter's statement strictly and checks it.
func Decode(payload []byte) (*Charter, error) {
	if len(payload) > MaxStatement {
		return nil, fmt.Errorf("charter: statement of %d bytes: at most %d", len(payload), MaxStatement)
	}
	c, err := statement.Decode[Charter](payload)
	if err != nil {
		return nil, err
	}
	// statement.Decode has compared the encoding; whether what is encoded is in
	// its canonical form only this package knows.
	is, err1 := c.json()
	want, err2 := c.canonical().json()
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	if !bytes.Equal(is, want) {
		return nil, fmt.Errorf("charter: %w", statement.ErrEncoding)
	}
	return &c, nil
}

// ID is the ID of the charter with this payload: what the next charter names as
// Previous, and what is pinned of version 1.
func ID(payload []byte) statement.ID { return statement.IDOf(payload) }

// Ref is how requests name the charter with this payload.
func (c *Charter) Ref(payload []byte) statement.CharterRef {
	return statement.CharterRef{Version: c.Version, ID: ID(payload)}
}

// canonical is a copy of c in the one form that Encode writes. What cannot be
// brought into it is left for Check to refuse.
func (c *Charter) canonical() Charter {
	d := *c
	d.People = copyMap(c.People, func(p Person) Person {
		p.Credentials = canonicalCredentials(p.Credentials)
		return p
	})
	d.Machines = copyMap(c.Machines, func(m Machine) Machine {
		m.Credentials = canonicalCredentials(m.Credentials)
		return m
	})
	d.Groups = copyMap(c.Groups, func(g Group) Group { return g })
	d.Keys = copyMap(c.Keys, func(k Key) Key { return k })
	d.Policies = copyMap(c.Policies, func(p Policy) Policy {
		p.Formats = set(p.Formats)
		p.Purposes = set(p.Purposes)
		p.Names = set(p.Names)
		if len(p.Params) == 0 {
			p.Params = nil
		}
		if len(p.Timestamp) == 0 {
			p.Timestamp = nil
		}
		if p.Window != nil {
			w := *p.Window
			w.Days = canonicalDays(w.Days)
			p.Window = &w
		}
		p.Rule = canonicalRule(p.Rule)
		return p
	})
	d.Commands = copyMap(c.Commands, canonicalRule)
	if c.Records != nil {
		r := *c.Records
		r.Configurations = copyMap(r.Configurations, canonicalConfiguration)
		if len(r.Configurations) == 0 {
			r.Configurations = nil
		}
		d.Records = &r
	}
	d.Issuers = copyMap(c.Issuers, canonicalIssuer)
	if len(d.Issuers) == 0 {
		d.Issuers = nil
	}
	d.Passkeys = canonicalPasskeys(c.Passkeys)
	if d.Machines != nil && len(d.Machines) == 0 {
		d.Machines = nil
	}
	if d.Keys != nil && len(d.Keys) == 0 {
		d.Keys = nil
	}
	if d.Policies != nil && len(d.Policies) == 0 {
		d.Policies = nil
	}
	return d
}

func copyMap[K comparable, V any](m map[K]V, f func(V) V) map[K]V {
	if m == nil {
		return nil
	}
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = f(v)
	}
	return out
}

// set is s sorted; nil when it is empty. Doubles stay: Check refuses them.
func set(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func canonicalRule(r Rule) Rule {
	r.Veto = set(r.Veto)
	if len(r.Veto) == 0 {
		r.Veto = nil
	}
	if r.Quorum != nil {
		n := canonicalNode(*r.Quorum)
		r.Quorum = &n
	}
	return r
}

func canonicalNode(n Node) Node {
	of := make([]Node, len(n.Of))
	for i, c := range n.Of {
		of[i] = canonicalNode(c)
	}
	n.Of = of
	if len(of) == 0 {
		n.Of = nil
	}
	return n
}

func canonicalDays(days []string) []string {
	if len(days) == 0 {
		return nil
	}
	days = slices.Clone(days)
	slices.SortStableFunc(days, func(a, b string) int { return slices.Index(weekdays, a) - slices.Index(weekdays, b) })
	return days
}

func canonicalCredentials(cs []Credential) []Credential {
	out := make([]Credential, len(cs))
	for i, c := range cs {
		out[i] = c
		if c.OIDC != nil {
			out[i].OIDC = canonicalOIDC(c.OIDC)
		} else if p, err := c.Parse(); err == nil {
			out[i] = CredentialOf(p)
			out[i].Attestation = c.Attestation
		}
	}
	return out
}

// CredentialOf is the charter's form of a credential, but of a workload's, which
// [OIDC] is.
func CredentialOf(c credential.Credential) Credential {
	switch c.Kind() {
	case credential.KindSSH:
		return Credential{SSH: c.Text()}
	case credential.KindX509:
		return Credential{X509: c.Text()}
	case credential.KindPasskey:
		return Credential{Passkey: c.Text()}
	}
	return Credential{}
}

// bare is c without what was said of it.
func (c Credential) bare() Credential {
	c.Attestation = ""
	return c
}

func (c Credential) kind() (credential.Kind, string, error) {
	var kind credential.Kind
	var text string
	n := 0
	for _, k := range []struct {
		kind credential.Kind
		text string
	}{{credential.KindSSH, c.SSH}, {credential.KindX509, c.X509}, {credential.KindPasskey, c.Passkey}} {
		if k.text != "" {
			kind, text = k.kind, k.text
			n++
		}
	}
	if c.OIDC != nil {
		kind = credential.KindOIDC
		n++
	}
	if n != 1 {
		return "", "", fmt.Errorf("charter: credential of %d kinds: want exactly one of ssh, x509, passkey, oidc", n)
	}
	return kind, text, nil
}
