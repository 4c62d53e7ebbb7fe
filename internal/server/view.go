package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// View is a request as people and programs see it.
type View struct {
	ID         string            `json:"id"`
	Revision   int64             `json:"revision"`
	State      store.State       `json:"state"`
	Code       string            `json:"code,omitzero"`
	Detail     string            `json:"detail,omitzero"`
	Deployment string            `json:"deployment"`
	Command    statement.Command `json:"command"`
	Requester  string            `json:"requester"`
	Reason     string            `json:"reason,omitzero"`
	Origin     []statement.Claim `json:"origin,omitzero"` // the requester's word
	Token      *TokenView        `json:"token,omitzero"`  // with Decision, of a workload's request: the issuer's word
	Created    time.Time         `json:"created"`
	Updated    time.Time         `json:"updated"`
	Expires    time.Time         `json:"expires"`
	NotBefore  time.Time         `json:"notBefore,omitzero"`
	Count      int               `json:"count,omitzero"`      // files
	Recomputed []string          `json:"recomputed,omitzero"` // endorsers who made the plans anew from their own bytes
	Awaits     []string          `json:"awaits,omitzero"`     // whose endorsement could still count
	// Unreachable says that the quorum cannot be reached as things stand, whoever
	// endorses, and why: "bob has disapproved"; empty while it can.
	Unreachable string           `json:"unreachable,omitzero"`
	Decision    *quorum.Decision `json:"decision,omitzero"`
	Said        []Said           `json:"said,omitzero"` // with Decision: what endorsers wrote, by index in the evidence
	// Executing says that the request is with the keeper, or may be: nothing but the
	// keeper's answer changes it.
	Executing  bool           `json:"executing,omitzero"`
	Receipt    uint64         `json:"receipt,omitzero"`
	Timestamps *TimestampView `json:"timestamps,omitzero"`
	Upload     *UploadView    `json:"upload,omitzero"`
	Attached   bool           `json:"attached,omitzero"` // answer to a submission: the request was there already
}

// Said is what came with an endorsement or a disapproval: the word of whoever signed it.
type Said struct {
	Endorser string            `json:"endorser"`
	Verdict  statement.Verdict `json:"verdict"`
	Comment  string            `json:"comment,omitzero"`
	Findings []statement.Claim `json:"findings,omitzero"`
}

// saidOf reads what was said of a request. What cannot be read says nothing.
func saidOf(r *store.Request) []Said {
	var out []Said
	for _, x := range r.Endorsements {
		said := Said{Endorser: x.Endorser, Verdict: x.Verdict}
		if _, e, err := statement.DecodeEnveloped[statement.Endorsement](x.Envelope); err == nil {
			said.Comment, said.Findings = e.Comment, e.Findings
		}
		out = append(out, said)
	}
	return out
}

// TimestampView says how far timestamping is.
type TimestampView struct {
	Wanted int `json:"wanted"`
	Done   int `json:"done"`
}

// UploadView says how far uploads are.
type UploadView struct {
	Wanted int `json:"wanted"`
	Done   int `json:"done"`
}

// FileView is one file of a request. Name and Claims are the requester's word.
// Facts were read from bytes by whoever made the plan: the requester, and those
// in View.Recomputed.
type FileView struct {
	Index   int           `json:"index"`
	Name    string        `json:"name"`
	Claims  []format.Fact `json:"claims,omitzero"`
	Format  string        `json:"format"`
	Digest  string        `json:"digest"`
	Content string        `json:"content"` // hexadecimal
	Size    int64         `json:"size"`
	Params  []format.Fact `json:"params,omitzero"`
	Facts   []format.Fact `json:"facts,omitzero"`
}

// FindingRecomputed is the finding of an endorser who made every plan anew from
// bytes of his own and found it equal: "12 of 12".
const FindingRecomputed = "plans-recomputed"

// View describes a request. explain adds the decision as it is now, or as it was
// executed.
func (s *Server) View(ctx context.Context, r *store.Request, explain bool) (*View, error) {
	env, req, err := statement.DecodeEnveloped[statement.Request](r.Envelope)
	if err != nil {
		return nil, fmt.Errorf("server: request %s was altered in the database: %w", r.ID, err)
	}
	if env.ID() != r.ID {
		return nil, fmt.Errorf("server: request %s was altered in the database", r.ID)
	}
	v := &View{
		ID: r.ID.String(), Revision: r.Revision, State: r.State, Code: r.Code, Detail: r.Detail, Deployment: req.Deployment, Command: req.Command,
		Requester: req.Requester, Reason: req.Reason, Origin: req.Origin, Created: req.Created, Updated: r.Updated, Expires: req.Expires,
		NotBefore: req.NotBefore, Count: r.Count, Receipt: r.Receipt, Executing: r.Sent,
	}
	all := fmt.Sprintf("%d of %d", r.Count, r.Count)
	for _, e := range r.Endorsements {
		if w, f := findings(e.Envelope); w != "" && slices.Contains(f, statement.Claim{Name: FindingRecomputed, Value: all}) {
			v.Recomputed = append(v.Recomputed, w)
		}
	}
	if explain {
		v.Decision = s.decision(ctx, r)
		v.Said = saidOf(r)
		v.Token = s.tokenOf(ctx, r, env)
	}
	if r.State == store.Pending {
		v.Awaits = s.awaits(r)
		v.Unreachable = s.unreachable(r)
	}
	if r.Upload {
		ups, err := s.cfg.Store.Uploads(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		v.Upload = &UploadView{Wanted: r.Count}
		for _, u := range ups {
			if u.Done {
				v.Upload.Done++
			}
		}
	}
	if r.State == store.Executed && r.Policy != "" {
		if p, ok := s.Charter().Policies[r.Policy]; ok && len(p.Timestamp) > 0 && s.cfg.Stamper != nil {
			ts, err := s.cfg.Store.Timestamps(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			v.Timestamps = &TimestampView{Wanted: r.Count, Done: len(ts)}
		}
	}
	return v, nil
}

func findings(envelope []byte) (string, []statement.Claim) {
	_, e, err := statement.DecodeEnveloped[statement.Endorsement](envelope)
	if err != nil || e.Verdict != statement.Endorse {
		return "", nil
	}
	return e.Endorser, e.Findings
}

// decision judges a request: an open one now, an executed one as the receipt
// says it was.
func (s *Server) decision(ctx context.Context, r *store.Request) *quorum.Decision {
	if r.State != store.Executed {
		d, _ := s.Chain().Judge(evidenceOf(r), s.now(), quorum.Options{Cache: s.cache})
		return d
	}
	_, rc, err := s.Outcome(ctx, r.ID)
	if err != nil {
		return nil
	}
	d, _, _ := s.Chain().JudgeUnder(rc.Charter.Version, evidenceOf(r), rc.Time, quorum.Options{Cache: s.cache})
	return d
}

// awaits lists whose endorsement of r could still count.
func (s *Server) awaits(r *store.Request) []string {
	head := s.Charter()
	rule, ok := ruleOf(head, r)
	if !ok || rule.Quorum == nil {
		return nil
	}
	voted := map[string]bool{owner(head, r.Requester): true}
	for _, e := range r.Endorsements {
		voted[owner(head, e.Endorser)] = true
	}
	d, _ := s.Chain().Judge(evidenceOf(r), s.now(), quorum.Options{Cache: s.cache})
	var out []string
	// What is filled already waits for nobody.
	var walk func(n *charter.Node, b *quorum.Branch)
	walk = func(n *charter.Node, b *quorum.Branch) {
		if b != nil && b.Satisfied {
			return
		}
		for i := range n.Of {
			var c *quorum.Branch
			if b != nil {
				c = b.Of[i]
			}
			walk(&n.Of[i], c)
		}
		names := head.Members(n.Group)
		if n.Member != "" {
			names = []string{n.Member}
		}
		for _, m := range names {
			if !voted[owner(head, m)] && !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	walk(rule.Quorum, d.Tree)
	slices.Sort(out)
	return out
}

// unreachable says why nobody can bring a pending request to its quorum, or is
// empty. Whoever disapproved may still think better of it.
func (s *Server) unreachable(r *store.Request) string {
	d, _ := s.Chain().Judge(evidenceOf(r), s.now(), quorum.Options{Cache: s.cache})
	if d.Code != quorum.QuorumPending {
		return ""
	}
	head := s.Charter()
	rule, ok := ruleOf(head, r)
	if !ok || rule.Quorum == nil {
		return ""
	}
	against, said := []string{}, []string{}
	for i, v := range d.Votes {
		if v.Standing && v.Verdict == statement.Disapprove {
			against = append(against, v.Endorser)
			said = append(said, v.Endorser+comment(r, i))
		}
	}
	roll := charter.NewRoll(head)
	asks, _ := roll.Actor(r.Requester)
	tree, err := roll.Compile(rule.Quorum, func(name string) bool {
		n, _ := roll.Actor(name)
		return n == asks || slices.Contains(against, name)
	})
	if err != nil || tree.Possible(-1) {
		return ""
	}
	why := "nobody is left to ask"
	if len(against) > 0 {
		why = strings.Join(said, " and ") + " disapproved"
	}
	return "the quorum " + rule.Quorum.String() + " cannot be reached: " + why
}

// comment is what came with endorsement i of r, in brackets and on one line, or "".
func comment(r *store.Request, i int) string {
	if i >= len(r.Endorsements) {
		return ""
	}
	_, e, err := statement.DecodeEnveloped[statement.Endorsement](r.Endorsements[i].Envelope)
	if err != nil || e.Comment == "" {
		return ""
	}
	return " (" + strings.Join(strings.Fields(e.Comment), " ") + ")"
}

func ruleOf(c *charter.Charter, r *store.Request) (charter.Rule, bool) {
	if r.Command == statement.Sign {
		p, ok := c.Policies[r.Policy]
		return p.Rule, ok
	}
	rule, ok := c.Commands[r.Command]
	return rule, ok
}

// owner is the person whom a name counts as.
func owner(c *charter.Charter, name string) string {
	if m, ok := c.Machines[name]; ok && m.Owner != "" {
		return m.Owner
	}
	return name
}

// Inbox lists the open requests that wait for name's endorsement, newest first:
// all of them.
func (s *Server) Inbox(ctx context.Context, name string) ([]*store.Request, error) {
	var out []*store.Request
	var after *store.Request
	for {
		list, next, err := s.InboxPage(ctx, name, after, inboxPage)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if next == nil {
			return out, nil
		}
		after = next
	}
}

const (
	inboxPage = 1000
	inboxRead = 100 // of one look at the database, more than a page
	// inboxLooks is how many requests one page judges that turn out to wait for
	// others: a branch of the quorum is filled already.
	inboxLooks = 200
)

// InboxPage is a part of Inbox: up to limit requests that were created before
// after, which may be nil. next is where the following page begins, or nil at the
// end. A page may be empty and have a next one: many requests wait for others.
//
// Only requests are looked at in whose quorum name stands and which neither he nor
// whoever counts as him has requested or endorsed: the database knows which.
func (s *Server) InboxPage(ctx context.Context, name string, after *store.Request, limit int) (out []*store.Request, next *store.Request, err error) {
	head := s.Charter()
	f := store.Filter{States: []store.State{store.Pending}, Limit: min(inboxRead, limit+1), Awaiting: standing(head, name)}
	for passed := 0; ; {
		if after != nil {
			f.Before, f.BeforeID = after.Created, after.ID
		}
		list, err := s.cfg.Store.Requests(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		for _, r := range list {
			if len(out) == limit || passed == inboxLooks {
				return out, after, nil
			}
			after = r
			full, err := s.cfg.Store.Request(ctx, r.ID)
			if err != nil {
				return nil, nil, err
			}
			if full.State == store.Pending && slices.Contains(s.awaits(full), name) {
				out = append(out, full)
			} else {
				passed++
			}
		}
		if len(list) < f.Limit {
			return out, nil, nil
		}
	}
}

// standing is where name stands in a quorum, which is all that can be said without
// reading endorsements.
func standing(c *charter.Charter, name string) *store.Awaiting {
	in := func(r charter.Rule) bool {
		return r.Quorum != nil && slices.ContainsFunc(r.Quorum.Leaves(), func(n *charter.Node) bool { return slices.Contains(c.Members(n.Name()), name) })
	}
	a := &store.Awaiting{Actors: []string{owner(c, name)}}
	for n, p := range c.Policies {
		if in(p.Rule) {
			a.Policies = append(a.Policies, n)
		}
	}
	for n, r := range c.Commands {
		if in(r) {
			a.Commands = append(a.Commands, n)
		}
	}
	for n, m := range c.Machines {
		if n == name || m.Owner == a.Actors[0] {
			a.Actors = append(a.Actors, n)
		}
	}
	slices.Sort(a.Policies)
	slices.Sort(a.Commands)
	slices.Sort(a.Actors)
	return a
}

// Get returns a request.
func (s *Server) Get(ctx context.Context, id statement.ID) (*store.Request, error) {
	return s.cfg.Store.Request(ctx, id)
}

// Find returns the request whose ID begins with prefix, which must be the only one.
func (s *Server) Find(ctx context.Context, prefix string) (*store.Request, error) {
	if len(prefix) == 2*sha256.Size {
		id, err := statement.ParseID(prefix)
		if err != nil {
			return nil, malformed("request", err)
		}
		return s.cfg.Store.Request(ctx, id)
	}
	if len(prefix) < 4 {
		return nil, problem(400, "malformed", "greatseal request list shows the IDs", "%q: give at least 4 digits of a request's ID", prefix)
	}
	list, err := s.cfg.Store.Requests(ctx, store.Filter{Prefix: prefix, Limit: 2})
	switch {
	case err != nil:
		return nil, malformed("request", err)
	case len(list) == 0:
		return nil, store.ErrNotFound
	case len(list) > 1:
		return nil, problem(409, "ambiguous", "give more digits", "several requests begin with %s", prefix)
	}
	return s.cfg.Store.Request(ctx, list[0].ID)
}

// List lists requests.
func (s *Server) List(ctx context.Context, f store.Filter) ([]*store.Request, error) {
	out, err := s.cfg.Store.Requests(ctx, f)
	if err != nil && f.Prefix != "" {
		return nil, malformed("prefix", err)
	}
	return out, err
}

// Items returns the encoded items of a request; endorsers' tools check them
// against its root.
func (s *Server) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	return s.cfg.Store.Items(ctx, id)
}

// Files describes files from to to of a request.
func Files(items [][]byte, from, to int) ([]FileView, error) {
	out := []FileView{}
	for i := max(0, from); i < min(to, len(items)); i++ {
		it, p, err := format.DecodeItem(items[i])
		if err != nil {
			return nil, fmt.Errorf("server: item %d: %w", i, err)
		}
		out = append(out, FileView{Index: i, Name: it.Name, Claims: it.Claims, Format: p.Format, Digest: p.Digest,
			Content: fmt.Sprintf("%x", p.Content), Size: p.Size, Params: p.Params, Facts: p.Facts})
	}
	return out, nil
}

// Result is what a requester needs to finish his files.
type Result struct {
	Receipt    []byte         `json:"receipt"`
	Scheme     string         `json:"scheme"`
	Time       time.Time      `json:"time"` // of the receipt; what plans were assembled with
	Chain      [][]byte       `json:"chain"`
	Also       [][][]byte     `json:"also,omitzero"` // certificates of each further key
	Signatures [][][]byte     `json:"signatures"`    // per item, per round
	Timestamps map[int][]byte `json:"timestamps,omitzero"`
}

// Collect returns the result of an executed request, as often as it is asked.
func (s *Server) Collect(ctx context.Context, id statement.ID) (*Result, error) {
	out, rc, err := s.Outcome(ctx, id)
	if err != nil {
		return nil, err
	}
	if rc.Signed == nil {
		return &Result{Receipt: out.Receipt, Time: rc.Time}, nil
	}
	ts, err := s.cfg.Store.Timestamps(ctx, id)
	if err != nil {
		return nil, err
	}
	return &Result{Receipt: out.Receipt, Scheme: string(rc.Signed.Scheme), Time: rc.Time, Chain: out.Chain, Also: out.Also, Signatures: out.Signatures, Timestamps: ts}, nil
}
