// Package circletest makes trusted sides in memory, for tests: a deployment (package
// verifytest) whose charter signs records, with its trust statements and freshness
// statements. All signatures are real.
package circletest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// The instances of a side.
const (
	Trusted   = "dev"
	Protected = "prod"
)

// Side is one trusted side. It is not for concurrent use.
type Side struct {
	*verifytest.Deployment
	Last *trust.Statement // the newest version; nil before the first Publish
	ID   statement.ID     // of Last
}

// New founds a side. Beside what verifytest.New makes, its charter has a records
// section for the instance Trusted, and two policies:
//
//	circle  key circle (Ed25519): operator asks, 2 of officers agree
//	fresh   key fresh (Ed25519): ci, unattended
//
// edit may make something else of the charter.
func New(tb testing.TB, edit ...func(*charter.Charter)) *Side {
	tb.Helper()
	d := verifytest.New(tb, append([]func(*charter.Charter){func(c *charter.Charter) {
		c.Keys["circle"] = charter.Key{URI: "soft:circle", Algorithm: sigalg.Ed25519}
		c.Keys["fresh"] = charter.Key{URI: "soft:fresh", Algorithm: sigalg.Ed25519}
		c.Policies["circle"] = charter.Policy{Key: "circle", Formats: []string{"circle"}, Purposes: []string{record.Circle}, Rule: charter.Rule{
			Requesters: []string{"operator"}, Quorum: &charter.Node{Need: 2, Group: "officers"},
		}}
		c.Policies["fresh"] = charter.Policy{Key: "fresh", Formats: []string{"circle"}, Purposes: []string{record.Freshness}, Rule: charter.Rule{
			Requesters: []string{"ci"}, Unattended: true,
		}}
		c.Records = &charter.Records{Instance: Trusted, Configurations: Configurations()}
	}}, edit...)...)
	for _, n := range []string{"circle", "fresh"} {
		s := *formattest.Identity(tb, sigalg.Ed25519)
		s.Chain = nil
		d.Keys[n] = &s
	}
	return &Side{Deployment: d}
}

// Configurations are those of a side.
func Configurations() map[string]record.Configuration {
	return map[string]record.Configuration{
		"sources": {Version: 1, Table: "sys_data_source", Purpose: record.Queue, Condition: "type == 'JDBC'", Fields: []string{"jdbc_server", "sql_statement", "type"}},
	}
}

// Key is a key that anybody can make from its name.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("circletest " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// RuntimeKey is the public key of Key(name), as statements hold it.
func RuntimeKey(tb testing.TB, name string) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(Key(name).Public())
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// Certificate is an authority's, of Key(name): the same at every call.
func Certificate(tb testing.TB, name string) []byte {
	tb.Helper()
	k := Key(name)
	sum := sha256.Sum256([]byte(name))
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(sum[:8]), Subject: pkix.Name{CommonName: name}, NotBefore: verifytest.Start.AddDate(-1, 0, 0),
		NotAfter: verifytest.Start.AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// Statement is a first version: one trusted and one protected instance, enforcement
// on, one anchor, for an hour of freshness and for 90 days.
func Statement(tb testing.TB) *trust.Statement {
	tb.Helper()
	return &trust.Statement{
		Deployment: verifytest.Name, Version: 1, Created: verifytest.Start, Expires: verifytest.Start.AddDate(0, 0, 90), Freshness: 3600,
		Instances: map[string]trust.Instance{
			Trusted:   {Role: trust.Trusted},
			Protected: {Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{RuntimeKey(tb, "runtime")}},
		},
		Anchors:        []record.Anchor{{Name: "authors", Certificate: Certificate(tb, "authors"), Purposes: []string{record.Wildcard, record.Queue}}},
		Configurations: Configurations(),
	}
}

// Next is the version after the last one, as it is.
func (s *Side) Next() *trust.Statement {
	s.TB.Helper()
	if s.Last == nil {
		return Statement(s.TB)
	}
	b, err1 := s.Last.Encode()
	n, err2 := trust.Decode(b) // a deep copy
	if err := errors.Join(err1, err2); err != nil {
		s.TB.Fatal(err)
	}
	n.Version, n.Previous, n.Created = n.Version+1, s.ID, s.Now
	return n
}

// Publish makes the next version, agreed to by two officers.
func (s *Side) Publish(edit ...func(*trust.Statement)) circle.Update {
	s.TB.Helper()
	n := s.Next()
	for _, e := range edit {
		e(n)
	}
	payload, err := n.Encode()
	if err != nil {
		s.TB.Fatal(err)
	}
	u := s.Agree("circle", "operator", payload, "officer1", "officer2")
	s.Last, s.ID = n, trust.ID(payload)
	return u
}

// Agree has a payload signed under a policy.
func (s *Side) Agree(policy, requester string, payload []byte, endorsers ...string) circle.Update {
	s.TB.Helper()
	r := s.Sign(policy, requester, s.Item(s.FormatOf("circle"), "circle.json", payload, nil))
	s.Endorse(r, endorsers...)
	s.Execute(r)
	return s.Update(r, payload)
}

// Update is what an executed request gave.
func (s *Side) Update(r *verifytest.Request, payload []byte) circle.Update {
	s.TB.Helper()
	_, side := s.Attach(r, 0, payload)
	e, err := s.Evidence(r, 0).Encode()
	if err != nil {
		s.TB.Fatal(err)
	}
	return circle.Update{Statement: side, Evidence: e}
}

// Fresh says that the last version is still the newest, for a time.
func (s *Side) Fresh(life time.Duration, edit ...func(*trust.Freshness)) circle.Update {
	s.TB.Helper()
	f := &trust.Freshness{Deployment: verifytest.Name, Circle: s.ID, Version: s.Last.Version, At: s.Now, Expires: s.Now.Add(life)}
	for _, e := range edit {
		e(f)
	}
	payload, err := f.Encode()
	if err != nil {
		s.TB.Fatal(err)
	}
	return s.Agree("fresh", "ci", payload)
}

// Bundle is versions, and freshness of an hour of the last one.
func (s *Side) Bundle(circles ...circle.Update) *circle.Bundle {
	s.TB.Helper()
	f := s.Fresh(time.Hour)
	return &circle.Bundle{Root: s.Root, Circles: circles, Freshness: &f}
}

// Memory is a store in memory. Save fails with Err where it is set.
type Memory struct {
	Data []byte // nil: nothing was saved
	Err  error
}

// Load is that of circle.Store.
func (m *Memory) Load(context.Context) (*circle.State, error) {
	if m.Data == nil {
		return nil, circle.ErrNoState
	}
	return circle.DecodeState(bytes.Clone(m.Data))
}

// Save is that of circle.Store.
func (m *Memory) Save(_ context.Context, s *circle.State) error {
	if m.Err != nil {
		return m.Err
	}
	b, err := s.Encode()
	if err == nil {
		m.Data = slices.Clone(b)
	}
	return err
}
