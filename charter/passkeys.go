package charter

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/statement"
)

// Passkeys are what a charter demands of every passkey in it.
type Passkeys struct {
	RelyingParty string       `json:"relyingParty" yaml:"relyingParty"`                  // that all of them are for: "seal.example.com"
	Origins      []string     `json:"origins" yaml:"origins"`                            // that they may be used from, of which each names its own
	Backup       Backup       `json:"backup" yaml:"backup"`                              // no default: it decides whether a key may leave its device
	Attestation  *Attestation `json:"attestation,omitzero" yaml:"attestation,omitempty"` // of their makers
}

// Backup says whether a passkey may be one that is copied to other devices.
type Backup string

// What is said of it.
const (
	BackupAllow  Backup = "allow"
	BackupRefuse Backup = "refuse"
)

// Attestation says whose word on passkeys counts.
type Attestation struct {
	Required bool     `json:"required,omitzero" yaml:"required,omitempty"` // a passkey without one is refused
	Models   []string `json:"models,omitzero" yaml:"models,omitempty"`     // AAGUIDs; none: whatever the roots' makers make
	Roots    []string `json:"roots" yaml:"roots"`                          // their certificates, in PEM
}

// Trusted are the makers' certificates, nil where there are none.
func (p *Passkeys) Trusted() ([]*x509.Certificate, error) {
	if p == nil || p.Attestation == nil {
		return nil, nil
	}
	var out []*x509.Certificate
	for i, text := range p.Attestation.Roots {
		c, err := attestation.ParseRoot(text)
		if err != nil {
			return nil, fmt.Errorf("charter: roots[%d]: %w", i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// Demand is what the attestation of a passkey has to be, where one is required.
func (p *Passkeys) Demand() (d attestation.Demand, required bool, err error) {
	if p == nil || p.Attestation == nil {
		return d, false, nil
	}
	for i, s := range p.Attestation.Models {
		a, err := attestation.ParseAAGUID(s)
		if err != nil {
			return d, false, fmt.Errorf("charter: models[%d]: %w", i, err)
		}
		d.Models = append(d.Models, a)
	}
	return d, p.Attestation.Required, nil
}

// Admits says why a registration is not one that the charter takes; nil: it is.
func (p *Passkeys) Admits(r *attestation.Registration) error {
	if p == nil {
		return nil
	}
	if err := p.fits(r.Credential()); err != nil {
		return err
	}
	d, required, err := p.Demand()
	if err != nil || !required {
		return err
	}
	return r.Meets(d)
}

// fits holds a passkey to what can be seen of it without its registration.
func (p *Passkeys) fits(c *credential.Passkey) error {
	if c.RPID() != p.RelyingParty {
		return fmt.Errorf("is for %s: want a passkey for %s", c.RPID(), p.RelyingParty)
	}
	for _, o := range c.Origins() {
		if !slices.Contains(p.Origins, o) {
			return fmt.Errorf("may be used from %s, which is not one of passkeys.origins", o)
		}
	}
	if p.Backup == BackupRefuse && c.BackupEligible() {
		return fmt.Errorf("may be copied to other devices, and passkeys.backup is %s", BackupRefuse)
	}
	return nil
}

// passkeys checks the section on passkeys, then every passkey of the charter against
// it. An attestation is checked where it stands, also where none is required. It is
// judged as of the time that its registration was begun, which its challenge commits
// to: the certificates of some makers last for days, and a charter for years.
func (k *checker) passkeys() {
	p := k.c.Passkeys
	roots, demand, required := k.passkeySection(p)
	each := func(at, name string, list []Credential) {
		for i, c := range list {
			at := fmt.Sprintf("%s.credentials[%d]", at, i)
			if c.Passkey == "" {
				if c.Attestation != "" {
					k.add(at+".attestation", "is for passkeys alone: remove it")
				}
				continue
			}
			parsed, err := c.Parse()
			if err != nil {
				continue // said already
			}
			pk, ok := parsed.(*credential.Passkey)
			if !ok {
				continue
			}
			if p != nil {
				if err := p.fits(pk); err != nil {
					k.add(at, "%v", err)
					continue
				}
			}
			switch {
			case c.Attestation != "":
				if !k.afford(at, 100) {
					return
				}
				if err := k.attested(name, pk, c.Attestation, roots, demand, required); err != nil {
					k.add(at+".attestation", "%s", strings.ReplaceAll(err.Error(), attestation.ErrRegistration.Error()+": ", ""))
				}
			case required:
				k.add(at, "has no attestation, and passkeys.attestation requires one: register it again")
			}
		}
	}
	for _, n := range sorted(k.c.People) {
		each("people."+n, n, k.c.People[n].Credentials)
	}
	for _, n := range sorted(k.c.Machines) {
		each("machines."+n, n, k.c.Machines[n].Credentials)
	}
}

func (k *checker) attested(name string, pk *credential.Passkey, text string, roots []*x509.Certificate, d attestation.Demand, required bool) error {
	r, err := attestation.ParseRecord(text)
	if err != nil {
		return err
	}
	if r.Begun.After(k.c.Created) {
		return errors.New("was begun after this charter was made")
	}
	reg, err := r.Check(k.c.Deployment, name, pk, roots)
	if err != nil || !required {
		return err
	}
	return reg.Meets(d)
}

func (k *checker) passkeySection(p *Passkeys) (roots []*x509.Certificate, d attestation.Demand, required bool) {
	if p == nil {
		return nil, d, false
	}
	k.set("passkeys.origins", p.Origins, func(at, o string) {
		k.adopt(at, credential.CheckOrigin(p.RelyingParty, o))
	})
	if len(p.Origins) == 0 {
		k.add("passkeys.origins", "there are none: say where passkeys are used, like [https://seal.example.com]")
	}
	if p.Backup != BackupAllow && p.Backup != BackupRefuse {
		k.add("passkeys.backup", "%.20q: want allow, or refuse for keys that stay in one piece of hardware", p.Backup)
	}
	a := p.Attestation
	if a == nil {
		return nil, d, false
	}
	if len(a.Roots) == 0 {
		k.add("passkeys.attestation.roots", "there are none: add the certificates of the makers")
	}
	if k.limit("passkeys.attestation.roots", len(a.Roots), attestation.MaxRoots) {
		k.set("passkeys.attestation.roots", a.Roots, func(at, text string) {
			c, err := attestation.ParseRoot(text)
			if err != nil {
				k.add(at, "want one certificate in PEM: %v", err)
			} else if attestation.RootText(c) != text {
				k.add(at, "is not in its canonical form")
			}
		})
		roots, _ = p.Trusted() // what is wrong was said
	}
	if a.Models != nil && len(a.Models) == 0 {
		k.add("passkeys.attestation.models", "is empty: leave it out")
	}
	if len(a.Models) > 0 && !a.Required {
		k.add("passkeys.attestation.models", "says nothing while no attestation is required: say required: true")
	}
	k.set("passkeys.attestation.models", a.Models, func(at, s string) {
		if m, err := attestation.ParseAAGUID(s); err != nil {
			k.add(at, "%.60q: want an AAGUID like 2fc0579f-8113-47ea-b116-bb5a8db9202a", s)
		} else if m.IsZero() {
			k.add(at, "names no model")
		}
	})
	d, required, _ = p.Demand()
	return roots, d, required
}

func canonicalPasskeys(p *Passkeys) *Passkeys {
	if p == nil {
		return nil
	}
	q := *p
	q.Origins = set(p.Origins)
	if p.Attestation != nil {
		a := *p.Attestation
		a.Models = set(a.Models)
		roots := slices.Clone(a.Roots)
		for i, text := range roots {
			if c, err := attestation.ParseRoot(text); err == nil {
				roots[i] = attestation.RootText(c)
			}
		}
		a.Roots = set(roots)
		q.Attestation = &a
	}
	return &q
}

// passkeys compares the sections on passkeys.
func (d *differ) passkeys() {
	a, b := d.a.Passkeys, d.b.Passkeys
	switch {
	case a == nil && b == nil:
		return
	case a == nil:
		d.add(Change{"passkeys", "", b.summary(), Stronger, "added: " + b.summary()})
		return
	case b == nil:
		d.add(Change{"passkeys", a.summary(), "", Weaker, "removed: " + a.summary()})
		return
	}
	d.value("passkeys.relyingParty", a.RelyingParty, b.RelyingParty, Trust)
	d.set("passkeys.origins", a.Origins, b.Origins, Weaker, Stronger)
	if a.Backup != b.Backup {
		e := Stronger
		if b.Backup == BackupAllow {
			e = Weaker
		}
		d.value("passkeys.backup", string(a.Backup), string(b.Backup), e)
	}
	x, y := cmp.Or(a.Attestation, &Attestation{}), cmp.Or(b.Attestation, &Attestation{})
	switch {
	case !x.Required && y.Required:
		d.add(Change{"passkeys.attestation.required", "false", "true", Stronger, "passkeys must now be attested by their makers"})
	case x.Required && !y.Required:
		d.add(Change{"passkeys.attestation.required", "true", "false", Weaker, "passkeys need no longer be attested by their makers"})
	}
	d.open("passkeys.attestation.models", x.Models, y.Models)
	d.set("passkeys.attestation.roots", rootNames(x.Roots), rootNames(y.Roots), Weaker, Stronger)
}

func (p *Passkeys) summary() string {
	s := fmt.Sprintf("for %s from %s, backup: %s", p.RelyingParty, strings.Join(p.Origins, ", "), p.Backup)
	if a := p.Attestation; a != nil && a.Required {
		s += ", attested by " + strings.Join(rootNames(a.Roots), ", ")
		if len(a.Models) > 0 {
			s += " for " + strings.Join(a.Models, ", ")
		}
	}
	return s
}

// rootNames tell certificates apart for people.
func rootNames(list []string) []string {
	var out []string
	for _, text := range list {
		c, err := attestation.ParseRoot(text)
		if err != nil {
			continue
		}
		h := sha256.Sum256(c.Raw)
		out = append(out, fmt.Sprintf("%s (SHA-256 %x)", cmp.Or(c.Subject.String(), "a root without a name"), h))
	}
	return out
}

// passkeys warns of quorums that synchronised passkeys alone can reach: whoever
// takes over the accounts that those are copied through is that quorum.
func (l *linter) passkeys() {
	synced := map[string]bool{}
	for n, p := range l.c.People {
		synced[n] = hasSynced(p.Credentials)
	}
	for n, m := range l.c.Machines {
		synced[n] = hasSynced(m.Credentials)
	}
	roll := NewRoll(l.c)
	for _, n := range sorted(l.c.Commands) {
		r := l.c.Commands[n]
		if r.Quorum == nil || n == statement.Sign {
			continue
		}
		tree, err := roll.Compile(r.Quorum, func(name string) bool { return !synced[name] })
		if err == nil && tree.Possible(-1) {
			l.add("commands."+string(n)+".quorum", "synced-officers", fmt.Sprintf("%s can be reached with passkeys that are copied between devices alone: whoever takes over their accounts is that quorum; backup: refuse under passkeys prevents that", r.Quorum))
		}
	}
}

func hasSynced(list []Credential) bool {
	return slices.ContainsFunc(list, func(c Credential) bool {
		if c.Passkey == "" {
			return false
		}
		p, err := c.Parse()
		if err != nil {
			return false
		}
		pk, ok := p.(*credential.Passkey)
		return ok && pk.BackupEligible()
	})
}
