package verify

import (
	"fmt"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// credentials of a person or machine of the charter.
func credentials(c *charter.Charter, name string) []charter.Credential {
	if p, ok := c.People[name]; ok {
		return p.Credentials
	}
	return c.Machines[name].Credentials
}

// find is the credential of name with this ID in the charter, or nil.
func find(c *charter.Charter, name string, id credential.ID) credential.Credential {
	for _, x := range credentials(c, name) {
		if k, err := c.Credential(x); err == nil && k.ID() == id {
			return k
		}
	}
	return nil
}

// party describes name, who signed with the credential id.
func party(c *charter.Charter, name string, id credential.ID) Party {
	p := Party{Name: name, CredentialID: id, CredentialKind: string(id.Kind())}
	if person, ok := c.People[name]; ok {
		p.Person = person.Name
	} else if m, ok := c.Machines[name]; ok {
		p.Machine, p.Person = true, m.Owner
	}
	if k := find(c, name, id); k != nil {
		p.Credential, p.Hardware = k.Describe(), k.Hardware()
	}
	return p
}

// places gives, for each name, the groups or places of the tree that it fills.
func places(n *charter.Node, b *quorum.Branch, into map[string][]string) {
	if n == nil || b == nil {
		return
	}
	if len(n.Of) == 0 {
		for _, name := range b.By {
			into[name] = append(into[name], n.Name())
		}
	}
	for i := range min(len(n.Of), len(b.Of)) {
		places(&n.Of[i], b.Of[i], into)
	}
}

// single reads an envelope that carries its author's signature and no other.
func single[P statement.Predicate](envelope []byte) (P, *statement.Envelope, error) {
	var zero P
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return zero, nil, err
	}
	if len(e.Signatures) != 1 {
		return zero, nil, fmt.Errorf("%d signatures: want the author's own", len(e.Signatures))
	}
	p, err := statement.Decode[P](e.Payload)
	return p, e, err
}

// authentic checks that name signed e with a credential that he had in some
// charter of the chain up to version. It says nothing about whether it counts:
// the word of somebody who has left does not, and is still his word.
func authentic(ch *quorum.Chain, version uint64, e *statement.Envelope, name string) error {
	s := e.Signatures[0]
	for v := version; v >= 1; v-- {
		c, _, err := ch.Version(v)
		if err != nil {
			return err
		}
		k := find(c, name, credential.ID(s.KeyID))
		if k != nil && k.Verify(credential.Statement, statement.PAE(e.Payload), s.Sig) == nil {
			return nil
		}
	}
	return fmt.Errorf("signature by %.100q is not one of %s's in the charters up to %d, or does not verify", s.KeyID, name, version)
}
