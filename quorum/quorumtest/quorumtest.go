// Package quorumtest founds deployments in memory, for tests: charters, chains,
// requests and endorsements with signatures that verify, made by the keys of
// package credentialtest. The same calls give the same bytes in every run.
package quorumtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Start is when deployments are founded, a Saturday.
var Start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Name is the deployment's.
const Name = "example"

// Officers found deployments and replace their charters: any two of the three.
func Officers() []string { return []string{"officer1", "officer2", "officer3"} }

// Person is a charter's person with the SSH key of that name.
func Person(name string) charter.Person {
	return charter.Person{Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH(name).Credential())}}
}

// Machine is a machine with the SSH key of that name.
func Machine(name, owner string) charter.Machine {
	return charter.Machine{Owner: owner, Credentials: Person(name).Credentials}
}

// PublicKey is the base64 of the Ed25519 public key of that name.
func PublicKey(name string) string {
	seed := sha256.Sum256([]byte("quorumtest " + name))
	return base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
}

// Charter is version 1 of a deployment with officers, and one key: "release".
func Charter() *charter.Charter {
	c := &charter.Charter{
		Deployment: Name, Version: 1, Created: Start,
		Keeper: charter.Keeper{Receipts: PublicKey("receipts"), Log: "log.example.com/greatseal", LogKey: PublicKey("log")},
		People: map[string]charter.Person{},
		Groups: map[string]charter.Group{"officers": {Members: Officers()}},
		Keys:   map[string]charter.Key{"release": {URI: "soft:release", Algorithm: sigalg.P256}},
	}
	for _, o := range Officers() {
		c.People[o] = Person(o)
	}
	// An operator asks, so that any two officers can agree.
	c.People["operator"] = Person("operator")
	c.Commands = map[statement.CommandName]charter.Rule{
		statement.CharterReplace: {Requesters: []string{"operator"}, Quorum: &charter.Node{Need: 2, Group: "officers"}},
		statement.KeySuspend:     {Requesters: []string{"officers"}, Unattended: true},
	}
	return c
}

// Policy adds a policy "p" with this rule for the format "cms" to c.
func Policy(c *charter.Charter, r charter.Rule) *charter.Charter {
	if c.Policies == nil {
		c.Policies = map[string]charter.Policy{}
	}
	c.Policies["p"] = charter.Policy{Key: "release", Formats: []string{"cms"}, Rule: r}
	return c
}

// Envelope signs payload with each of the signers.
func Envelope(t testing.TB, payload []byte, signers ...credential.Signer) []byte {
	t.Helper()
	e := &statement.Envelope{Payload: payload}
	for _, s := range signers {
		sig, err := s.Sign(context.Background(), credential.Statement, statement.PAE(payload))
		if err != nil {
			t.Fatal(err)
		}
		e.Signatures = append(e.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Found founds a chain with c, signed by the first two officers.
func Found(t testing.TB, c *charter.Charter) *quorum.Chain {
	t.Helper()
	ch, err := TryFound(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// TryFound is Found for charters that may be refused.
func TryFound(t testing.TB, c *charter.Charter) (*quorum.Chain, error) {
	t.Helper()
	payload, err := charter.Encode(c)
	if err != nil {
		return nil, err
	}
	id := charter.ID(payload)
	return quorum.NewChain(&id, Envelope(t, payload, credentialtest.SSH("officer1"), credentialtest.SSH("officer2")))
}

// Items are n encoded items of format cms, and their root.
func Items(t testing.TB, n int) (items [][]byte, root string) {
	t.Helper()
	for i := range n {
		digest := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		p, err := (&format.Plan{Format: "cms", Version: 1, Digest: "sha256", Size: int64(i), Content: digest[:]}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := (&format.Item{Plan: p, Name: fmt.Sprintf("setup-%d.exe", i)}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, b)
	}
	h, err := format.ItemsRoot(items)
	if err != nil {
		t.Fatal(err)
	}
	return items, h.String()
}

// Sign is a request of that requester to sign one item under policy "p".
func Sign(t testing.TB, ch *quorum.Chain, requester string) statement.Request {
	t.Helper()
	_, root := Items(t, 1)
	return Request(ch, requester, statement.Command{Name: statement.Sign,
		Sign: &statement.SignArgs{Policy: "p", Key: "release", Formats: []string{"cms"}, Count: 1, Items: root}})
}

// Request is a request made at Start for a week.
func Request(ch *quorum.Chain, requester string, cmd statement.Command) statement.Request {
	_, ref := ch.Head()
	nonce := sha256.Sum256([]byte(requester + cmd.Digest()))
	return statement.Request{Deployment: Name, Charter: ref, Requester: requester, Command: cmd,
		Created: Start, Expires: Start.Add(168 * time.Hour), Nonce: hex.EncodeToString(nonce[:16])}
}

// Endorsement is e's verdict on the request, made at that time, for as long as the
// request of Request lives.
func Endorsement(request statement.ID, e string, v statement.Verdict, at time.Time) statement.Endorsement {
	expires := Start.Add(168 * time.Hour)
	if !expires.After(at) {
		expires = at.Add(time.Hour)
	}
	return statement.Endorsement{Deployment: Name, Request: request, Endorser: e, Verdict: v, Created: at, Expires: expires}
}

// Statement signs p with the SSH key of that name.
func Statement[P statement.Predicate](t testing.TB, p P, signer string) []byte {
	t.Helper()
	payload, err := statement.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return Envelope(t, payload, credentialtest.SSH(signer))
}

// ID is the ID of the statement in an envelope.
func ID(t testing.TB, envelope []byte) statement.ID {
	t.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return e.ID()
}

// Replacement is the evidence for replacing the head of ch by a charter that edit
// has changed: asked by the operator, endorsed by officers 1 and 2, an hour after
// Start. It fails when the new charter is refused.
func Replacement(t testing.TB, ch *quorum.Chain, edit func(*charter.Charter)) (quorum.Evidence, error) {
	t.Helper()
	head, ref := ch.Head()
	next, err := charter.Next(head, ref, head.Created)
	if err != nil {
		return quorum.Evidence{}, err
	}
	edit(next)
	payload, err := charter.Encode(next)
	if err != nil {
		return quorum.Evidence{}, err
	}
	req := Statement(t, Request(ch, "operator", statement.Command{Name: statement.CharterReplace,
		Charter: &statement.CharterArgs{Statement: payload}}), "operator")
	ev := quorum.Evidence{Request: req}
	for _, o := range Officers()[:2] {
		ev.Endorsements = append(ev.Endorsements, Statement(t, Endorsement(ID(t, req), o, statement.Endorse, Start.Add(time.Minute)), o))
	}
	return ev, nil
}

// Replace brings the changed charter into force.
func Replace(t testing.TB, ch *quorum.Chain, edit func(*charter.Charter)) error {
	t.Helper()
	ev, err := Replacement(t, ch, edit)
	if err != nil {
		return err
	}
	return ch.Extend(ev, Start.Add(time.Hour))
}
