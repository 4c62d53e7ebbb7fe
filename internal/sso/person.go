package sso

import (
	"fmt"
	"slices"
	"sort"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
)

// UnknownError is that of somebody who signed in and is nobody of the charter.
type UnknownError struct {
	Provider string
	Claim    string
	Value    string // empty: the provider said nothing
	Several  int    // people of the charter have it; 0: none has
}

func (e *UnknownError) Error() string {
	switch {
	case e.Value == "":
		return fmt.Sprintf("sso: %s says no %s", e.Provider, e.Claim)
	case e.Several > 1:
		return fmt.Sprintf("sso: %d people of the charter have the %s %q that %s says", e.Several, e.Claim, e.Value, e.Provider)
	}
	return fmt.Sprintf("sso: nobody of the charter has the %s %q that %s says", e.Claim, e.Value, e.Provider)
}

// Person is the name in the charter of who signed in, or an *UnknownError.
func (l *Login) Person(c *charter.Charter) (string, error) {
	x := l.provider
	unknown := &UnknownError{Provider: x.Name, Claim: x.Claim, Value: l.value}
	if l.value == "" {
		return "", unknown
	}
	if x.Claim != config.ClaimEmail {
		name := x.People[l.value]
		if _, ok := c.People[name]; name == "" || !ok {
			return "", unknown
		}
		return name, nil
	}
	var found []string
	for name, p := range c.People {
		if p.Email != "" && sameAddress(p.Email, l.value) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		unknown.Several = len(found)
		return "", unknown
	}
	return found[0], nil
}

// Outside is what somebody is called who is nobody of the charter: the provider, a
// colon, which no name of a charter has, and the claim's value or the subject.
func (l *Login) Outside() string {
	who := l.value
	if who == "" {
		who = l.subject
	}
	return l.provider.Name + ":" + who
}

// sameAddress compares addresses byte for byte, but for the case of a to z: other
// letters that some call alike are not.
func sameAddress(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// given are those of groups that the configuration has the provider give.
func (x *provider) given(groups []string) []string {
	if x.Groups == "" {
		return nil
	}
	if x.Gives == nil {
		return groups
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return !slices.Contains(x.Gives, g) })
}

// Given are those of the groups of a session of an issuer's that count now: a session is
// older than the configuration where a server has begun anew. Of an issuer that is not
// configured any more none does.
func (p *Providers) Given(issuer string, groups []string) []string {
	var out []string
	for _, x := range p.list {
		if x.Issuer == issuer {
			out = append(out, x.given(groups)...)
		}
	}
	return out
}

// Strangers are the names in the people: sections that the charter does not have, for
// the log: typing errors keep somebody out.
func (p *Providers) Strangers(c *charter.Charter) []string {
	var out []string
	for _, x := range p.list {
		for _, name := range x.People {
			if _, ok := c.People[name]; !ok {
				out = append(out, x.Name+": "+name)
			}
		}
	}
	sort.Strings(out)
	return out
}
