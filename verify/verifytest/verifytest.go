// Package verifytest builds whole deployments in memory, for tests and
// benchmarks: a founded charter, people, requests, endorsements, the keeper's
// receipts, the log, evidence documents. All signatures are real; the keys of
// people are those of package credentialtest, which anybody can make.
//
// The keeper here judges with package quorum and signs as the real one does, but
// has no ledger: a test can make it lie ([Deployment.SignReceipt],
// [Deployment.Enter]).
package verifytest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// Start is when deployments are founded.
var Start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	// Name is the deployment's.
	Name = "example"
	// Origin is the log's.
	Origin = "log.example.com/greatseal"
	// flushAt is how many entries wait before the log takes them.
	flushAt = 4096
)

// Deployment is one deployment with its keeper and log. It is not for concurrent
// use.
type Deployment struct {
	TB       testing.TB
	Chain    *quorum.Chain
	Root     statement.ID
	Founding []byte
	Now      time.Time // the clock of everybody; a second passes at every step
	Keys     map[string]*formattest.Signer
	Store    audittest.Memory
	Bodies   map[[32]byte][]byte // beside the log

	signers  map[string]credential.Signer
	receipts ed25519.PrivateKey
	log      ed25519.PrivateKey
	waiting  [][]byte
	entries  int64
	last     statement.ID
	number   uint64
	nonce    uint64
}

// Request is a request on its way.
type Request struct {
	Envelope     []byte
	ID           statement.ID
	Request      statement.Request
	Items        [][]byte
	Endorsements [][]byte
	Receipt      []byte
	ReceiptEntry int64
	Signatures   [][][]byte
	Keys         []verify.EvidenceKey // that signed, in their order
}

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("verifytest " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
}

// New founds a deployment. Its people:
//
//	officer1 officer2 officer3   found it; any two replace the charter
//	operator                     asks for that
//	alice bob carol              group release: SSH, FIDO and passkey
//	dave                         asks for signatures, with a certificate's key
//	scanner                      a machine of group gates
//	ci                           a machine of dave's, unattended under "nightly"
//
// its policies:
//
//	apps      key app (P-256, certificate): 2 of release and 1 of gates, veto release
//	nightly   key app: ci, unattended
//	plain     key plain (Ed25519, no certificate): 1 of release
//
// edit may make something else of the charter.
func New(tb testing.TB, edit ...func(*charter.Charter)) *Deployment {
	tb.Helper()
	d := &Deployment{
		TB: tb, Now: Start, Bodies: map[[32]byte][]byte{}, signers: map[string]credential.Signer{},
		receipts: key("receipts"), log: key("log"),
		Keys: map[string]*formattest.Signer{"app": formattest.Identity(tb, sigalg.P256), "plain": formattest.Identity(tb, sigalg.Ed25519)},
	}
	d.Keys["plain"].Chain = nil
	c := d.charter()
	for _, e := range edit {
		e(c)
	}
	payload, err := charter.Encode(c)
	if err != nil {
		tb.Fatal(err)
	}
	d.Root = charter.ID(payload)
	d.Founding = d.Envelope(payload, "officer1", "officer2")
	if d.Chain, err = quorum.NewChain(&d.Root, d.Founding); err != nil {
		tb.Fatal(err)
	}
	return d
}

func (d *Deployment) charter() *charter.Charter {
	person := func(name, full string) charter.Person {
		return charter.Person{Name: full, Credentials: []charter.Credential{charter.CredentialOf(d.Signer(name).Credential())}}
	}
	creds := func(name string) []charter.Credential { return person(name, "").Credentials }
	c := &charter.Charter{
		Deployment: Name, Version: 1, Created: Start,
		Keeper: charter.Keeper{Receipts: public(d.receipts), Log: Origin, LogKey: public(d.log)},
		People: map[string]charter.Person{
			"operator": person("operator", "Olga Operator"), "dave": person("dave", "Dave Dirks"),
			"alice": person("alice", "Alice Alder"), "bob": person("bob", "Bob Birch"), "carol": person("carol", "Carol Cedar"),
		},
		Machines: map[string]charter.Machine{
			"scanner": {Credentials: creds("scanner")},
			"ci":      {Owner: "dave", Credentials: creds("ci")},
		},
		Groups: map[string]charter.Group{
			"officers": {Members: []string{"officer1", "officer2", "officer3"}},
			"release":  {Members: []string{"alice", "bob", "carol"}},
			"gates":    {Members: []string{"scanner"}},
		},
		Keys: map[string]charter.Key{
			"app":   {URI: "soft:app", Algorithm: sigalg.P256},
			"plain": {URI: "soft:plain", Algorithm: sigalg.Ed25519},
		},
		Policies: map[string]charter.Policy{
			"apps": {
				Key: "app", Formats: []string{"cms"}, Purposes: []string{"release"},
				Names: []string{"*.bin", "*.txt"}, Params: map[string]string{"digest": "sha256"},
				Rule: charter.Rule{
					Requesters: []string{"alice", "dave"}, Veto: []string{"release"},
					Quorum: &charter.Node{Need: 2, Of: []charter.Node{{Need: 2, Group: "release"}, {Need: 1, Group: "gates"}}},
				},
			},
			"nightly": {Key: "app", Formats: []string{"cms"}, Rule: charter.Rule{Requesters: []string{"ci"}, Unattended: true}},
			"plain": {Key: "plain", Formats: []string{"cms", "dsse", "two-rounds"}, Rule: charter.Rule{
				Requesters: []string{"dave"}, Quorum: &charter.Node{Need: 1, Group: "release"},
			}},
		},
		Commands: map[statement.CommandName]charter.Rule{
			statement.CharterReplace: {Requesters: []string{"operator"}, Quorum: &charter.Node{Need: 2, Group: "officers"}},
			statement.KeySuspend:     {Requesters: []string{"officers"}, Unattended: true},
		},
	}
	for _, o := range c.Groups["officers"].Members {
		c.People[o] = person(o, "")
	}
	return c
}

// Signer is the credential of that name.
func (d *Deployment) Signer(name string) credential.Signer {
	if s, ok := d.signers[name]; ok {
		return s
	}
	var s credential.Signer
	switch name {
	case "bob":
		s = credentialtest.FIDO(name)
	case "carol":
		s = credentialtest.Passkey(name, "seal.example.com", "https://seal.example.com")
	case "dave":
		s = credentialtest.X509(name)
	default:
		s = credentialtest.SSH(name)
	}
	d.signers[name] = s
	return s
}

// Envelope signs a payload by each of names.
func (d *Deployment) Envelope(payload []byte, names ...string) []byte {
	d.TB.Helper()
	e := &statement.Envelope{Payload: payload}
	for _, n := range names {
		s := d.Signer(n)
		sig, err := s.Sign(context.Background(), credential.Statement, statement.PAE(payload))
		if err != nil {
			d.TB.Fatal(err)
		}
		e.Signatures = append(e.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	return d.must(e.Encode())
}

func (d *Deployment) must(b []byte, err error) []byte {
	d.TB.Helper()
	if err != nil {
		d.TB.Fatal(err)
	}
	return b
}

func (d *Deployment) tick() time.Time {
	d.Now = d.Now.Add(time.Second)
	return d.Now
}

// Item plans a file and names it.
func (d *Deployment) Item(f format.Format, name string, data []byte, p format.Params) []byte {
	d.TB.Helper()
	plan, err := f.Plan(context.Background(), Artifact(name, data), p)
	if err != nil {
		d.TB.Fatal(err)
	}
	it := format.Item{Plan: d.must(plan.Encode()), Name: name, Claims: []format.Fact{{Name: "version", Value: "1.0"}}}
	return d.must(it.Encode())
}

// Sign asks for signatures of items under a policy, and enters the request.
func (d *Deployment) Sign(policy, requester string, items ...[]byte) *Request {
	d.TB.Helper()
	c, _ := d.Chain.Head()
	p := c.Policies[policy]
	root, err := format.ItemsRoot(items)
	if err != nil {
		d.TB.Fatal(err)
	}
	a := &statement.SignArgs{Policy: policy, Key: p.Key, Count: len(items), Items: root.String()}
	if len(p.Purposes) > 0 {
		a.Purpose = p.Purposes[0]
	}
	seen := map[string]bool{}
	for _, b := range items {
		_, plan, err := format.DecodeItem(b)
		if err != nil {
			d.TB.Fatal(err)
		}
		seen[plan.Format] = true
	}
	for _, f := range p.Formats { // sorted
		if seen[f] {
			a.Formats = append(a.Formats, f)
		}
	}
	r := d.Ask(statement.Command{Name: statement.Sign, Sign: a}, requester)
	r.Items = items
	return r
}

// Ask makes a request and enters it.
func (d *Deployment) Ask(cmd statement.Command, requester string) *Request {
	d.TB.Helper()
	_, ref := d.Chain.Head()
	var nonce [16]byte
	d.nonce++
	binary.BigEndian.PutUint64(nonce[:], d.nonce)
	q := statement.Request{Deployment: Name, Charter: ref, Requester: requester, Command: cmd, Created: d.tick(),
		Expires: d.Now.Add(100 * time.Hour), Nonce: hex.EncodeToString(nonce[:]), Reason: "a test"}
	payload, err := statement.Encode(q)
	if err != nil {
		d.TB.Fatal(err)
	}
	r := &Request{Envelope: d.Envelope(payload, requester), ID: statement.IDOf(payload), Request: q}
	d.Enter(audit.KindRequest, r.ID, r.Envelope)
	return r
}

// Word is the endorsement of name, signed by signer, which need not be his.
func (d *Deployment) Word(r *Request, name string, v statement.Verdict, signer string) []byte {
	d.TB.Helper()
	e := statement.Endorsement{Deployment: Name, Request: r.ID, Endorser: name, Verdict: v, Created: d.tick(), Expires: d.Now.Add(90 * time.Hour), Comment: "seen by " + name}
	if name == "scanner" {
		e.Findings = []statement.Claim{{Name: "malware", Value: "none"}}
	}
	payload, err := statement.Encode(e)
	if err != nil {
		d.TB.Fatal(err)
	}
	return d.Envelope(payload, signer)
}

// Endorse makes and enters endorsements.
func (d *Deployment) Endorse(r *Request, names ...string) {
	d.TB.Helper()
	for _, n := range names {
		d.Say(r, n, statement.Endorse)
	}
}

// Say makes and enters the word of one endorser.
func (d *Deployment) Say(r *Request, name string, v statement.Verdict) {
	d.TB.Helper()
	b := d.Word(r, name, v, name)
	r.Endorsements = append(r.Endorsements, b)
	d.Enter(audit.KindEndorsement, r.ID, b)
}

// Execute judges a request as the keeper does, executes it, and enters the receipt.
func (d *Deployment) Execute(r *Request) {
	d.TB.Helper()
	rc := d.Outcome(r)
	d.Keep(r, rc)
}

// Outcome judges and executes a request, and returns the receipt before it is
// numbered and signed.
func (d *Deployment) Outcome(r *Request) *statement.Receipt {
	d.TB.Helper()
	at := d.tick()
	dec, g := d.Chain.Judge(quorum.Evidence{Request: r.Envelope, Endorsements: r.Endorsements}, at, quorum.Options{})
	if g == nil {
		d.TB.Fatalf("not granted: %s %s: %s", dec.State, dec.Code, dec.Reason)
	}
	_, ref := d.Chain.Head()
	rc := d.Blank(r, ref)
	rc.Endorsements = g.Endorsements()
	switch {
	case r.Request.Command.Sign != nil:
		if err := g.Covers(r.Items); err != nil {
			d.TB.Fatal(err)
		}
		rc.Signed = d.signed(r, at)
	case g.Next() != nil:
		next := g.Next().Ref(r.Request.Command.Charter.Statement)
		rc.Next = &next
		if err := d.Chain.Extend(quorum.Evidence{Request: r.Envelope, Endorsements: r.Endorsements}, at); err != nil {
			d.TB.Fatal(err)
		}
	default:
		rc.Key = &statement.KeyResult{Key: r.Request.Command.KeyName(), State: "suspended"}
	}
	return rc
}

// Blank is a receipt of an execution now without its result.
func (d *Deployment) Blank(r *Request, ref statement.CharterRef) *statement.Receipt {
	return &statement.Receipt{Deployment: Name, Request: r.ID, Charter: ref, Command: r.Request.Command.Name,
		Outcome: statement.Executed, Time: d.Now, Endorsements: []statement.ID{}}
}

// Refuse enters the receipt of a refusal.
func (d *Deployment) Refuse(r *Request, code string) {
	d.TB.Helper()
	_, ref := d.Chain.Head()
	d.tick()
	rc := d.Blank(r, ref)
	rc.Outcome, rc.Code, rc.Detail = statement.Refused, code, "a test"
	d.Keep(r, rc)
}

// Keep numbers, signs and enters a receipt.
func (d *Deployment) Keep(r *Request, rc *statement.Receipt) {
	d.TB.Helper()
	d.Number(rc)
	r.Receipt = d.SignReceipt(rc)
	d.last = d.id(r.Receipt)
	r.ReceiptEntry = d.Enter(audit.KindReceipt, r.ID, r.Receipt)
	if rc.Next != nil {
		d.Enter(audit.KindCharter, r.ID, r.Envelope)
	}
}

// Number gives a receipt the next number and links it to the last one that was
// kept.
func (d *Deployment) Number(rc *statement.Receipt) {
	d.number++
	rc.Number, rc.Previous = d.number, d.last
}

// Chained makes the envelope of a receipt the one that the next receipt follows.
func (d *Deployment) Chained(envelope []byte) { d.last = d.id(envelope) }

// SignReceipt signs a receipt as it is, true or not.
func (d *Deployment) SignReceipt(rc *statement.Receipt) []byte {
	d.TB.Helper()
	return d.SignReceiptWith(d.receipts, rc)
}

// SignReceiptWith signs a receipt with another keeper's key.
func (d *Deployment) SignReceiptWith(k ed25519.PrivateKey, rc *statement.Receipt) []byte {
	d.TB.Helper()
	payload, err := statement.Encode(*rc)
	if err != nil {
		d.TB.Fatal(err)
	}
	return d.must(receipt.Sign(k.Public().(ed25519.PublicKey), payload, func(m []byte) ([]byte, error) { return ed25519.Sign(k, m), nil }))
}

func (d *Deployment) id(envelope []byte) statement.ID {
	d.TB.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		d.TB.Fatal(err)
	}
	return e.ID()
}

// Replace brings a changed charter into force.
func (d *Deployment) Replace(edit func(*charter.Charter)) *Request {
	d.TB.Helper()
	r := d.Propose(edit)
	d.Endorse(r, "officer1", "officer2")
	d.Execute(r)
	return r
}

// Propose asks for a changed charter.
func (d *Deployment) Propose(edit func(*charter.Charter)) *Request {
	d.TB.Helper()
	head, ref := d.Chain.Head()
	next, err := charter.Next(head, ref, head.Created)
	if err != nil {
		d.TB.Fatal(err)
	}
	edit(next)
	return d.Ask(statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: d.must(charter.Encode(next))}}, "operator")
}

// Withdraw enters that a request was cancelled by its requester.
func (d *Deployment) Withdraw(r *Request) {
	d.tick()
	d.Enter(audit.KindCancel, r.ID, []byte(r.Request.Requester))
}

// Enter appends an entry to the log, and returns its index.
func (d *Deployment) Enter(kind audit.Kind, request statement.ID, body []byte) int64 {
	d.TB.Helper()
	e := audit.NewEntry(kind, d.Now, request, body)
	if sum, _, ok := e.Detached(); ok {
		d.Bodies[sum] = bytes.Clone(body)
	}
	return d.EnterRaw(d.must(e.Encode()))
}

// EnterRaw appends bytes to the log.
func (d *Deployment) EnterRaw(entry []byte) int64 {
	d.TB.Helper()
	if d.waiting = append(d.waiting, entry); len(d.waiting) >= flushAt {
		d.flush()
	}
	d.entries++
	return d.entries - 1
}

func (d *Deployment) flush() {
	d.TB.Helper()
	if len(d.waiting) == 0 {
		return
	}
	if _, err := audittest.Append(context.Background(), &d.Store, d.waiting...); err != nil {
		d.TB.Fatal(err)
	}
	d.waiting = nil
}

// Checkpoint signs the head of the log as it is now.
func (d *Deployment) Checkpoint() []byte {
	d.TB.Helper()
	d.flush()
	tree, err := d.Store.Tree(context.Background())
	if err != nil {
		d.TB.Fatal(err)
	}
	return d.SignTree(tree)
}

// SignTree signs a head, true or not.
func (d *Deployment) SignTree(t audit.Tree) []byte {
	d.TB.Helper()
	s, err := audit.NewSigner(Origin, d.log)
	if err != nil {
		d.TB.Fatal(err)
	}
	return d.must(audit.SignCheckpoint(Origin, t, s))
}

// Source is the log as a verifier reads it, at the head of now.
func (d *Deployment) Source() verify.LogSource {
	d.TB.Helper()
	cp := d.Checkpoint()
	return verify.LogSource{
		Founding: d.Founding,
		Fetch:    audittest.Serve(&d.Store, func() []byte { return cp }),
		Body: func(_ context.Context, sum [32]byte, _ int64) ([]byte, error) {
			b, ok := d.Bodies[sum]
			if !ok {
				return nil, fmt.Errorf("verifytest: body %x: %w", sum, fs.ErrNotExist)
			}
			return b, nil
		},
	}
}
