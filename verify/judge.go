package verify

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// judging is one run of Judge.
type judging struct {
	e       *Evidence
	formats []format.Format
	chain   *quorum.Chain
	c       *charter.Charter // that the receipt names
	ref     statement.CharterRef
	a       *Approval
}

// Judge checks a document by itself, against the ID of the first charter, which
// the caller has pinned. formats are those that may have been signed: formats
// that are not among them are refused. The error wraps ErrEvidence.
func Judge(e *Evidence, root statement.ID, formats []format.Format) (*Approval, error) {
	if e == nil {
		return nil, fmt.Errorf("%w: there is none", ErrEvidence)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	j := &judging{e: e, formats: formats, a: &Approval{root: root, index: e.File.ItemProof.Index}}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"charters", j.charters},
		{"receipt", j.receipt},
		{"request", j.quorum},
		{"endorsements", j.endorsements},
		{"key", j.key},
		{"item", j.item},
		{"signatures", j.signatures},
		{"log", j.log},
	} {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrEvidence, step.what, err)
		}
	}
	return j.a, nil
}

// charters follows the chain from the root.
func (j *judging) charters() (err error) {
	root := j.a.root
	j.chain, err = quorum.DecodeChain(&root, j.e.Chain)
	return err
}

// receipt finds the charter that the receipt names, and holds the receipt to its
// keeper's key.
func (j *judging) receipt() error {
	env, err := statement.DecodeEnvelope(j.e.Receipt)
	if err != nil {
		return err
	}
	claim, err := statement.Decode[statement.Receipt](env.Payload)
	if err != nil {
		return err
	}
	if j.c, j.ref, err = j.chain.Version(claim.Charter.Version); err != nil {
		return err
	}
	if j.ref != claim.Charter {
		return fmt.Errorf("names charter %d as %s: the chain has %s", claim.Charter.Version, claim.Charter.ID, j.ref.ID)
	}
	rc, id, err := checkReceipt(j.c, j.e.Receipt)
	if err != nil {
		return err
	}
	if rc.Outcome != statement.Executed || rc.Signed == nil {
		return fmt.Errorf("says %s %s: want one of signing that was executed", rc.Command, rc.Outcome)
	}
	if err := inForce(j.chain, j.ref.Version, rc.Time); err != nil {
		return err
	}
	j.a.receipt, j.a.receiptID, j.a.charter, j.a.ref = rc, id, j.c, j.ref
	return nil
}

// checkReceipt holds a receipt to the keeper of a charter.
func checkReceipt(c *charter.Charter, envelope []byte) (*statement.Receipt, statement.ID, error) {
	pub, err := receipt.ParseKey(c.Keeper.Receipts)
	if err != nil {
		return nil, statement.ID{}, err
	}
	rc, id, err := receipt.Verify(pub, envelope)
	if err != nil {
		return nil, statement.ID{}, err
	}
	if rc.Deployment != c.Deployment {
		return nil, statement.ID{}, fmt.Errorf("of deployment %s: the charter is of %s", rc.Deployment, c.Deployment)
	}
	return rc, id, nil
}

// inForce checks that a version of the chain was in force at that time, as far as
// the chain goes.
func inForce(ch *quorum.Chain, version uint64, at time.Time) error {
	links := ch.Links() // links[i] brought version i+2
	if version >= 2 {
		if since := links[version-2].At; at.Before(since) {
			return fmt.Errorf("of %s: charter %d is in force since %s", at.Format(time.RFC3339), version, since.Format(time.RFC3339))
		}
	}
	if version-1 < uint64(len(links)) {
		if until := links[version-1].At; at.After(until) {
			return fmt.Errorf("of %s: charter %d was in force until %s", at.Format(time.RFC3339), version, until.Format(time.RFC3339))
		}
	}
	return nil
}

// quorum judges request and endorsements as the keeper did.
func (j *judging) quorum() error {
	rc := j.a.receipt
	ev := quorum.Evidence{Request: j.e.Request}
	for _, b := range j.e.Endorsements {
		ev.Endorsements = append(ev.Endorsements, b)
	}
	d, past, err := j.chain.JudgeUnder(j.ref.Version, ev, rc.Time, quorum.Options{})
	if err != nil {
		return err
	}
	if err := granted(d, past, rc); err != nil {
		return err
	}
	j.a.past, j.a.decision = past, d
	return nil
}

// granted holds a judgement against the receipt of an executed command.
func granted(d *quorum.Decision, past *quorum.Past, rc *statement.Receipt) error {
	if past == nil {
		return fmt.Errorf("%s, %s: %s", d.State, d.Code, d.Reason)
	}
	if past.RequestID() != rc.Request {
		return fmt.Errorf("is %s: the receipt is for %s", past.RequestID(), rc.Request)
	}
	cmd := past.Request().Command
	if cmd.Name != rc.Command {
		return fmt.Errorf("asks for %s: the receipt is for %s", cmd.Name, rc.Command)
	}
	if !slices.Equal(past.Endorsements(), rc.Endorsements) {
		return fmt.Errorf("the endorsements that count are not those that the receipt counts")
	}
	switch {
	case rc.Signed != nil:
		s, r := cmd.Sign, rc.Signed
		if r.Policy != s.Policy || r.Key != s.Key || r.Count != s.Count || r.Items != s.Items {
			return fmt.Errorf("policy, key or items are not those of the receipt")
		}
	case rc.Key != nil:
		if rc.Key.Key != cmd.KeyName() {
			return fmt.Errorf("is about key %s: the receipt is about %s", cmd.KeyName(), rc.Key.Key)
		}
	case rc.Next != nil:
		if next := past.Next(); *rc.Next != next.Ref(cmd.Charter.Statement) {
			return fmt.Errorf("carries another charter than the receipt names")
		}
	}
	return nil
}

// endorsements wants every endorsement of the document to be its endorser's own
// word on this request, and none twice, also those that did not count: there is
// no place in a document for what nobody signed.
func (j *judging) endorsements() error {
	req := j.a.past.Request()
	env, err := statement.DecodeEnvelope(j.e.Request)
	if err != nil {
		return err
	}
	j.a.requester = party(j.c, req.Requester, credential.ID(env.Signatures[0].KeyID))
	seen := map[statement.ID]bool{}
	byID := map[statement.ID]*statement.Endorsement{}
	for i, b := range j.e.Endorsements {
		e, env, err := single[statement.Endorsement](b)
		if err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
		if e.Request != j.a.past.RequestID() || e.Deployment != req.Deployment {
			return fmt.Errorf("%d: for request %s of %s", i, e.Request, e.Deployment)
		}
		if seen[env.ID()] {
			return fmt.Errorf("%d stands twice", i)
		}
		seen[env.ID()] = true
		if err := authentic(j.chain, j.ref.Version, env, e.Endorser); err != nil {
			return fmt.Errorf("%d, of %s: %w", i, e.Endorser, err)
		}
		byID[env.ID()] = &e
	}
	filled := map[string][]string{}
	places(j.a.past.Policy().Rule.Quorum, j.a.decision.Tree, filled)
	for _, v := range j.a.decision.Votes {
		if !v.Counted {
			continue
		}
		e := byID[v.Endorsement]
		j.a.endorsers = append(j.a.endorsers, Endorser{
			Party: party(j.c, v.Endorser, v.Credential), For: filled[v.Endorser], At: v.Created,
			Comment: e.Comment, Findings: e.Findings, Endorsement: v.Endorsement,
		})
	}
	return nil
}

// log checks that the log of the charter holds the receipt, byte by byte.
func (j *judging) log() error {
	l := &j.e.Log
	head, err := checkpoint(j.c, []byte(l.Checkpoint))
	if err != nil {
		return err
	}
	entry, err := audit.DecodeEntry(l.Entry)
	if err != nil {
		return err
	}
	if entry.Kind != audit.KindReceipt || statement.ID(entry.Request) != j.a.receipt.Request {
		return fmt.Errorf("entry is a %s of request %x", entry.Kind, entry.Request)
	}
	body, err := entry.Body(func([32]byte, int64) ([]byte, error) { return j.e.Receipt, nil })
	if err != nil {
		return err
	}
	if !bytes.Equal(body, j.e.Receipt) {
		return fmt.Errorf("entry holds another receipt")
	}
	if err := head.CheckInclusion(l.Inclusion, l.Entry); err != nil {
		return err
	}
	j.a.logIndex, j.a.logSize, j.a.origin = l.Inclusion.Index, head.Size(), head.Origin()
	return nil
}

// checkpoint checks a signed head of the log that a charter names.
func checkpoint(c *charter.Charter, note []byte) (audit.Head, error) {
	pub, err := receipt.ParseKey(c.Keeper.LogKey)
	if err != nil {
		return audit.Head{}, err
	}
	v, err := audit.NewVerifier(c.Keeper.Log, pub)
	if err != nil {
		return audit.Head{}, err
	}
	return audit.ParseCheckpoint(note, c.Keeper.Log, v)
}
