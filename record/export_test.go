package record

import (
	"crypto/x509"
	"math"
	"slices"

	"github.com/greatseal-io/greatseal/rejection"
)

// Without is the verifier with one of its Steps taken out: what a test shows to be
// accepted then is what the step is for. Marks are the caller's to leave out.
func (v *Verifier) Without(name string) *Verifier {
	c, k := *v, every
	c.checks, c.roots = &k, NewRoots(1)
	k.root = slices.DeleteFunc(slices.Clone(k.root), func(s rootStep) bool { return s.name == name })
	for _, list := range []*[]step{&k.relevant, &k.believed, &k.matching} {
		*list = slices.DeleteFunc(slices.Clone(*list), func(s step) bool { return s.name == name })
	}
	switch name {
	case "limit":
		k.most = math.MaxInt
	case "newest":
		k.newest = func(_, _ *candidate) bool { return true }
	case "usage":
		k.usage = func(*Verifier, *signed) *rejection.Error { return nil }
	case "chain":
		k.chain = func(*Verifier, *signed) ([][]*x509.Certificate, *rejection.Error) { return nil, nil }
		k.vouches = func(*Verifier, *signed, [][]*x509.Certificate, *anchor) *rejection.Error { return nil }
	case "revocation":
		k.revocation = func(*Verifier, *signed, []*x509.Certificate) *rejection.Error { return nil }
	}
	return &c
}

// Append is the encoding of a statement that was not checked.
func (s *Statement) Append() []byte { return s.append(nil) }

// WithoutCache is the verifier with an empty cache.
func (v *Verifier) WithoutCache() *Verifier {
	c := *v
	c.roots = NewRoots(1)
	return &c
}
