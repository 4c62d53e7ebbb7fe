package registration

import (
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Draft is the charter that follows head, in which the person of a registration has
// its passkey: in addition, or in the place of the credential that replaces names.
// The registration is checked again. Whoever proposes makes the draft himself, from
// a chain that he has checked.
func Draft(head *charter.Charter, ref statement.CharterRef, r *store.Registration, replaces string, now time.Time) (*charter.Charter, error) {
	reg, err := Look(head, r)
	if err != nil {
		return nil, refused(err)
	}
	if err := head.Passkeys.Admits(reg); err != nil {
		return nil, refused(err)
	}
	person, ok := head.People[r.Person]
	if !ok {
		return nil, problem(403, "principal-unknown", "", "%s is no person of the charter in force", r.Person)
	}
	cred := charter.CredentialOf(reg.Credential())
	if p := head.Passkeys; p != nil && p.Attestation != nil && reg.Result() != attestation.None {
		cred.Attestation = r.Attestation
	}
	list := slices.Clone(person.Credentials)
	if replaces == "" {
		list = append(list, cred)
	} else {
		i := slices.IndexFunc(list, func(c charter.Credential) bool { return idOf(c) == replaces })
		if i < 0 {
			return nil, problem(403, "credential-unknown", "greatseal charter show "+r.Person+" lists them", "%s has no credential %.100s", r.Person, replaces)
		}
		list[i] = cred
	}
	next, err := charter.Next(head, ref, now)
	if err != nil {
		return nil, err
	}
	person.Credentials = list
	next.People[r.Person] = person
	if err := next.Check(); err != nil {
		return nil, problem(403, "passkey-refused", "", "a charter with this passkey is refused: %s", strings.TrimPrefix(err.Error(), "charter: "))
	}
	return next, nil
}

func idOf(c charter.Credential) string {
	if c.OIDC != nil {
		return ""
	}
	p, err := c.Parse()
	if err != nil {
		return ""
	}
	return string(p.ID())
}

// Command is the command by which a draft comes into force.
func Command(next *charter.Charter) (statement.Command, error) {
	payload, err := charter.Encode(next)
	if err != nil {
		return statement.Command{}, err
	}
	return statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}, nil
}

// Has reports whether person has this very passkey in a charter.
func Has(c *charter.Charter, person, text string) bool {
	return slices.ContainsFunc(c.People[person].Credentials, func(x charter.Credential) bool { return x.Passkey == text && text != "" })
}
