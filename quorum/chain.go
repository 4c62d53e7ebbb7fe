package quorum

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// Chain is the charters of a deployment, from the first to the one in force, each
// brought in by evidence that was judged under the one before. It is safe for
// concurrent use.
type Chain struct {
	mu       sync.RWMutex
	founding []byte
	links    []Link
	versions []*index // by version - 1
}

// Link is how one charter after the first came into force.
type Link struct {
	Evidence
	At time.Time // of the receipt
}

// NewChain begins a chain with version 1 in its envelope. Where pin is not nil, the
// charter's ID is compared with it; without a pin the caller trusts whoever gave
// him the bytes, and should show the ID.
//
// The founders' signatures verify, every one of them, each by another person or
// machine of the charter, and together they satisfy the quorum of charter.replace.
// Nobody is left out as requester: founders have no one to ask.
func NewChain(pin *statement.ID, founding []byte) (*Chain, error) {
	e, err := statement.DecodeEnvelope(founding)
	if err != nil {
		return nil, fmt.Errorf("%w: founding: %w", ErrChain, err)
	}
	id := e.ID()
	if pin != nil && *pin != id {
		return nil, fmt.Errorf("%w: founding charter is %s: %s is pinned", ErrChain, id, *pin)
	}
	c, err := charter.Decode(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("%w: founding: %w", ErrChain, err)
	}
	if c.Version != 1 {
		return nil, fmt.Errorf("%w: founding charter has version %d: want 1", ErrChain, c.Version)
	}
	ix, err := newIndex(c, statement.CharterRef{Version: 1, ID: id})
	if err != nil {
		return nil, fmt.Errorf("%w: founding: %w", ErrChain, err)
	}
	if err := founded(ix, e); err != nil {
		return nil, fmt.Errorf("%w: founding: %w", ErrChain, err)
	}
	return &Chain{founding: bytes.Clone(founding), versions: []*index{ix}}, nil
}

func founded(ix *index, e *statement.Envelope) error {
	owner := map[credential.ID]string{}
	for name, p := range ix.who {
		for id := range p.creds {
			owner[id] = name
		}
	}
	r := ix.commands[statement.CharterReplace]
	if r == nil || r.tree == nil {
		return fmt.Errorf("no quorum for %s", statement.CharterReplace)
	}
	message := statement.PAE(e.Payload)
	seen := map[int]bool{}
	var stands [][]int
	for _, s := range e.Signatures {
		id := credential.ID(s.KeyID)
		name, ok := owner[id]
		if !ok {
			return fmt.Errorf("signature by %.100q: not a credential of the charter", s.KeyID)
		}
		p := ix.who[name]
		if err := p.creds[id].Verify(credential.Statement, message, s.Sig); err != nil {
			return fmt.Errorf("signature of %s: %w", name, err)
		}
		if seen[p.actor] {
			return fmt.Errorf("%s signs twice, or with a machine of his: every founder signs once", name)
		}
		seen[p.actor] = true
		stands = append(stands, r.stands[name])
	}
	if f := r.tree.Fill(stands); !f.Satisfied {
		return fmt.Errorf("its %d signatures do not satisfy %s, its own quorum for %s", len(stands), r.Quorum, statement.CharterReplace)
	}
	return nil
}

// Extend brings the charter into force that ev's request carries, if the charter in
// force grants it at that time. at is the time of the receipt, and not before that
// of the link before.
func (c *Chain) Extend(ev Evidence, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at = statement.Seconds(at)
	if err := statement.CheckTime("at", at); err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	if n := len(c.links); n > 0 && at.Before(c.links[n-1].At) {
		return fmt.Errorf("%w: %s is before the link before, %s", ErrChain, clockTime(at), clockTime(c.links[n-1].At))
	}
	head := c.versions[len(c.versions)-1]
	j := judge(head, c.knownTo(head), ev, at, Options{})
	if j.d.State != Granted {
		return fmt.Errorf("%w: version %d: %w", ErrChain, head.ref.Version+1, refuse(j.d.Code, "%s", j.d.Reason))
	}
	if j.next == nil {
		return fmt.Errorf("%w: a request to %s is no link", ErrChain, j.req.Command.Name)
	}
	payload := j.req.Command.Charter.Statement
	ix, err := newIndex(j.next, j.next.Ref(payload))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	l := Link{Evidence: Evidence{Request: bytes.Clone(ev.Request)}, At: at}
	for _, e := range ev.Endorsements {
		// What is no envelope counted for nothing, and has no place in a file
		// that everybody can read.
		if _, err := statement.DecodeEnvelope(e); err == nil {
			l.Endorsements = append(l.Endorsements, bytes.Clone(e))
		}
	}
	c.links = append(c.links, l)
	c.versions = append(c.versions, ix)
	return nil
}

// knownTo finds charters of the chain up to ix. The caller holds mu.
func (c *Chain) knownTo(ix *index) func(statement.CharterRef) *index {
	versions := c.versions
	return func(ref statement.CharterRef) *index {
		if ref.Version < 1 || ref.Version > ix.ref.Version || ref.Version > uint64(len(versions)) {
			return nil
		}
		if v := versions[ref.Version-1]; v.ref == ref {
			return v
		}
		return nil
	}
}

func (c *Chain) at(version uint64) (*index, func(statement.CharterRef) *index, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if version < 1 || version > uint64(len(c.versions)) {
		return nil, nil, fmt.Errorf("%w: there is no version %d: the head is %d", ErrChain, version, len(c.versions))
	}
	ix := c.versions[version-1]
	return ix, c.knownTo(ix), nil
}

// Root is version 1's ID: what is pinned.
func (c *Chain) Root() statement.ID { return c.versions[0].ref.ID }

// Head is the charter in force. The caller does not change it.
func (c *Chain) Head() (*charter.Charter, statement.CharterRef) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ix := c.versions[len(c.versions)-1]
	return ix.c, ix.ref
}

// Version is one charter of the chain. The caller does not change it.
func (c *Chain) Version(n uint64) (*charter.Charter, statement.CharterRef, error) {
	ix, _, err := c.at(n)
	if err != nil {
		return nil, statement.CharterRef{}, err
	}
	return ix.c, ix.ref, nil
}

// Knows reports whether ref is a charter of the chain.
func (c *Chain) Knows(ref statement.CharterRef) bool {
	ix, _, err := c.at(ref.Version)
	return err == nil && ix.ref == ref
}

// Judge judges evidence under the charter in force at that time. The grant is nil
// when the state is not Granted.
func (c *Chain) Judge(ev Evidence, at time.Time, o Options) (*Decision, *Grant) {
	c.mu.RLock()
	head := c.versions[len(c.versions)-1]
	known := c.knownTo(head)
	c.mu.RUnlock()
	j := judge(head, known, ev, at, o)
	if j.d.State != Granted {
		return j.d, nil
	}
	return j.d, &Grant{authority: j.authority()}
}

// JudgeUnder judges evidence under an earlier charter, for those who check
// afterwards what was authorised then. It gives no grant. The error says that the
// chain has no such version.
func (c *Chain) JudgeUnder(version uint64, ev Evidence, at time.Time, o Options) (*Decision, *Past, error) {
	ix, known, err := c.at(version)
	if err != nil {
		return nil, nil, err
	}
	j := judge(ix, known, ev, at, o)
	if j.d.State != Granted {
		return j.d, nil, nil
	}
	return j.d, &Past{authority: j.authority()}, nil
}

// Replay judges past evidence under a charter that is only proposed, to see what it
// would change. Requests may name any charter of the chain. The error is that of
// the proposal's Check.
func (c *Chain) Replay(proposed *charter.Charter, ev Evidence, at time.Time, o Options) (*Decision, error) {
	p, err := c.Propose(proposed)
	if err != nil {
		return nil, err
	}
	return p.Judge(ev, at, o), nil
}

// ChainType is the type of chain files.
const ChainType = "https://greatseal.io/chain/v1"

// Limits of a chain file.
const (
	MaxChain = 256 << 20
	MaxLinks = 100_000
)

type chainFile struct {
	Type     string         `json:"type"`
	Founding jsontext.Value `json:"founding"`
	Links    []chainLink    `json:"links"`
}

type chainLink struct {
	Request      jsontext.Value   `json:"request"`
	Endorsements []jsontext.Value `json:"endorsements"`
	At           time.Time        `json:"at"`
}

// Encode writes the chain as one JSON object: the founding envelope, and the
// evidence and time of every link.
func (c *Chain) Encode() ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f := chainFile{Type: ChainType, Founding: c.founding, Links: make([]chainLink, len(c.links))}
	for i, l := range c.links {
		f.Links[i] = chainLink{Request: l.Request, At: l.At, Endorsements: make([]jsontext.Value, len(l.Endorsements))}
		for k, e := range l.Endorsements {
			f.Links[i].Endorsements[k] = e
		}
	}
	return encodeChain(f)
}

func encodeChain(f chainFile) ([]byte, error) {
	b, err := json.Marshal(f, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	return b, nil
}

// DecodeChain reads what Encode wrote, strictly, and verifies all of it as NewChain
// and Extend do.
func DecodeChain(pin *statement.ID, b []byte) (*Chain, error) {
	if len(b) > MaxChain {
		return nil, fmt.Errorf("%w: %d bytes: at most %d", ErrChain, len(b), MaxChain)
	}
	var f chainFile
	if err := json.Unmarshal(b, &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	if f.Type != ChainType || len(f.Links) > MaxLinks {
		return nil, fmt.Errorf("%w: type %.80q, %d links: want %q and at most %d", ErrChain, f.Type, len(f.Links), ChainType, MaxLinks)
	}
	again, err := encodeChain(f)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %w", ErrChain, statement.ErrEncoding)
	}
	c, err := NewChain(pin, f.Founding)
	if err != nil {
		return nil, err
	}
	for _, l := range f.Links {
		if err := statement.CheckTime("at", l.At); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrChain, err)
		}
		ev := Evidence{Request: l.Request}
		for _, e := range l.Endorsements {
			ev.Endorsements = append(ev.Endorsements, e)
		}
		if err := c.Extend(ev, l.At); err != nil {
			return nil, err
		}
	}
	// Extend leaves out what is no envelope: a file has none.
	if again, err = c.Encode(); err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %w", ErrChain, statement.ErrEncoding)
	}
	return c, nil
}

// Links are the links after the founding, for those who carry the chain elsewhere.
func (c *Chain) Links() []Link {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.links)
}

// Founding is the founding envelope, as kept.
func (c *Chain) Founding() []byte { return bytes.Clone(c.founding) }
