package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Submit takes a signed request with its items. The same command as an open
// request's attaches to that one: attached is true and the returned request is
// the open one. A request that needs nobody is executed before Submit returns.
func (s *Server) Submit(ctx context.Context, envelope []byte, items [][]byte) (r *store.Request, attached bool, err error) {
	env, req, err := statement.DecodeEnveloped[statement.Request](envelope)
	if err != nil {
		return nil, false, malformed("request", err)
	}
	now := s.now()
	d, grant := s.Chain().Judge(quorum.Evidence{Request: envelope}, now, quorum.Options{Cache: s.cache})
	if d.Code == quorum.CharterUnknown && req.Charter.Version > s.Charter().Version {
		if err := s.followCharter(ctx); err != nil { // another replica brought it in
			return nil, false, problem(503, "keeper-away", "try again; nothing was lost", "the keeper does not answer: %v", err)
		}
		d, grant = s.Chain().Judge(quorum.Evidence{Request: envelope}, now, quorum.Options{Cache: s.cache})
	}
	if d.State == quorum.Refused {
		return nil, false, refusal(d)
	}
	if err := s.sameKeeper(&req); err != nil {
		return nil, false, err
	}
	if err := freshToken(env, now); err != nil {
		return nil, false, err
	}
	files, upload, err := s.checkItems(ctx, env.ID(), &req, items, now)
	if err != nil {
		return nil, false, err
	}
	c := &store.Change{
		New: &store.Request{
			ID: env.ID(), Envelope: envelope, Command: req.Command.Name, Digest: req.Command.Digest(), Key: req.Command.KeyName(),
			Requester: req.Requester, Count: len(items), Upload: upload, State: store.Pending,
			Created: req.Created, Expires: req.Expires,
		},
		Items: items, Files: files, At: now,
	}
	if req.Command.Sign != nil {
		c.New.Policy = req.Command.Sign.Policy
	}
	waits := d.Code == quorum.NotYet || d.Code == quorum.OutsideWindow // all have agreed: only the time has not come
	if grant != nil || waits {
		c.New.State, c.New.Code, c.New.Detail, c.New.Sent = store.Endorsed, string(d.Code), d.Reason, grant != nil
	}
	if err := s.enter(c, audit.KindRequest, env.ID(), envelope, now); err != nil {
		return nil, false, err
	}
	if c.New.State == store.Pending {
		s.tell(c, notify.Pending, c.New, "")
	}
	s.cfg.Hook("submit")
	var open *store.OpenError
	for range maxSteps {
		if err = s.cfg.Store.Apply(ctx, c); errors.Is(err, store.ErrConflict) {
			continue // the open request has just been closed
		}
		if !errors.As(err, &open) {
			break
		}
		r, err := s.cfg.Store.Request(ctx, open.Request)
		if err != nil {
			return nil, false, err
		}
		if r.State.Open() && (r.Sent || s.now().Before(r.Expires)) {
			s.Metrics.Attached.Add(1)
			return r, true, nil
		}
		if r.State.Open() { // nobody has looked yet
			if err := s.expireOne(ctx, r); err != nil {
				return nil, false, err
			}
		}
	}
	switch {
	case errors.Is(err, store.ErrExists): // the same bytes again
		s.Metrics.Attached.Add(1)
		r, err := s.cfg.Store.Request(ctx, env.ID())
		return r, true, err
	case err != nil:
		return nil, false, err
	}
	s.cfg.Hook("submitted")
	s.Metrics.Submitted.Add(1)
	s.changed(c)
	s.showAhead(c.New)
	if grant != nil {
		own := *c.New
		own.Revision, own.Updated = 1, now
		if err := s.executeOnce(ctx, env.ID(), &own); err != nil {
			s.log.Warn("execution is left to a later try", "request", env.ID(), "error", err)
		}
	}
	if r, err = s.cfg.Store.Request(ctx, env.ID()); err == nil {
		s.recent.keep(r, items)
	}
	return r, false, err
}

// refusal is the problem that a decision of refusal is to a caller.
func refusal(d *quorum.Decision) *Problem {
	return problem(403, string(d.Code), "greatseal charter show says who may ask for what", "%s", d.Reason)
}

// freshToken refuses a request that is signed with a token which is over: whoever
// found it in evidence made the request then for now. The keeper has no such rule, for
// requests wait; what it has is the quorum, which a token that names no request needs.
func freshToken(env *statement.Envelope, now time.Time) error {
	if credential.ID(env.Signatures[0].KeyID).Kind() != credential.KindOIDC {
		return nil
	}
	t, err := credential.ParseIDToken(env.Signatures[0].Sig)
	if err != nil {
		return malformed("request", err)
	}
	if over := time.Unix(t.Expires, 0); now.Add(-quorum.Skew).After(over) {
		return problem(403, "token-over", "sign again with a token of now", "the token that signs the request was valid until %s", over.UTC().Format(time.RFC3339))
	}
	return nil
}

// sameKeeper refuses a charter that the keeper would refuse after everybody has
// endorsed it: what signs receipts and checkpoints, and the log's name, stay.
func (s *Server) sameKeeper(req *statement.Request) error {
	if req.Command.Charter == nil {
		return nil
	}
	next, err := charter.Decode(req.Command.Charter.Statement)
	if err != nil {
		return malformed("charter", err)
	}
	if next.Keeper != s.Charter().Keeper {
		return problem(403, string(keeper.KeeperMismatch), "copy \"keeper\" from greatseal charter show", "the charter names another keeper or log: those stay as long as the deployment")
	}
	return nil
}

// maxItemBytes is how large the items of a request may be: an order to the keeper
// has at most 256 MiB, with a request of up to 4 MiB and 256 endorsements, most of
// them a kilobyte. What is larger would be endorsed and never executed.
const maxItemBytes = 224 << 20

// checkItems refuses at once what the keeper would refuse after everybody has
// endorsed: items that are not those of the root, plans that cannot be assembled.
func (s *Server) checkItems(ctx context.Context, id statement.ID, req *statement.Request, items [][]byte, now time.Time) ([]store.File, bool, error) {
	a := req.Command.Sign
	if a == nil {
		if len(items) > 0 {
			return nil, false, problem(400, "malformed", "", "command %s takes no items", req.Command.Name)
		}
		return nil, false, nil
	}
	if len(items) != a.Count {
		return nil, false, problem(400, "items-mismatch", "sign again", "%d items: the request is about %d", len(items), a.Count)
	}
	size := int64(0)
	for _, b := range items {
		size += int64(len(b))
	}
	if size > maxItemBytes {
		return nil, false, problem(413, "too-large", "sign fewer files at a time", "the items have %d bytes: the keeper takes %d in one order", size, maxItemBytes)
	}
	root, err := format.ItemsRoot(items)
	if err != nil || root.String() != a.Items {
		return nil, false, problem(400, "items-mismatch", "sign again", "the items are not those of the request")
	}
	policy, ok := s.Charter().Policies[a.Policy]
	if !ok {
		return nil, false, problem(403, "policy-unknown", "greatseal charter show lists the policies", "policy %s is not in the charter", a.Policy)
	}
	ident, err := s.identity(ctx, &policy)
	if err != nil {
		return nil, false, err
	}
	files := make([]store.File, len(items))
	var formats []string
	for i, b := range items {
		it, p, err := format.DecodeItem(b)
		if err != nil {
			return nil, false, malformed(fmt.Sprintf("item %d", i), err)
		}
		f := s.format(p.Format)
		if f == nil {
			return nil, false, problem(400, "format-unknown", "greatseal formats lists what this server signs", "item %d (%s): format %q is not known here", i, it.Name, p.Format)
		}
		if !slices.Contains(formats, p.Format) {
			formats = append(formats, p.Format)
		}
		if err := format.CheckKeys(f, 1+len(ident.Also)); err != nil {
			return nil, false, problem(400, "plan-refused", "sign under a policy of one key", "item %d (%s): %v", i, it.Name, err)
		}
		if _, err := f.Assemble(p, *ident, statement.Seconds(now), nil); err != nil {
			return nil, false, problem(400, "plan-refused", "", "item %d (%s): %v", i, it.Name, err)
		}
		files[i] = store.FileOf(id, i, it, p)
	}
	slices.Sort(formats)
	if !slices.Equal(formats, a.Formats) {
		return nil, false, problem(400, "items-mismatch", "sign again", "the items are of formats %v: the request says %v", formats, a.Formats)
	}
	if policy.Upload && s.cfg.Blobs == nil {
		return nil, false, problem(503, "uploads-off", "the administrator configures a blob folder", "policy %s wants uploads, which this server does not take", a.Policy)
	}
	return files, policy.Upload, nil
}

// identity is what is public of the keys that sign under p, as the keeper has them.
func (s *Server) identity(ctx context.Context, p *charter.Policy) (*format.Identity, error) {
	st, err := s.cfg.Keeper.Status(ctx)
	if err != nil {
		return nil, problem(503, "keeper-away", "try again; nothing was lost", "the keeper does not answer: %v", err)
	}
	var ids []format.Identity
	for _, name := range p.Keys() {
		k, ok := s.Charter().Keys[name]
		if !ok {
			return nil, problem(403, "key-unknown", "greatseal charter show lists the keys", "key %s is not in the charter", name)
		}
		at := slices.IndexFunc(st.Keys, func(ks keeper.KeyStatus) bool { return ks.Name == name })
		if at < 0 {
			return nil, problem(409, "key-not-generated", "greatseal key generate "+name, "key %s has not been generated", name)
		}
		id, err := Identity(k.SignatureScheme(), st.Keys[at])
		if err != nil {
			return nil, err
		}
		ids = append(ids, *id)
	}
	id := ids[0]
	if len(ids) > 1 {
		id.Also = ids[1:]
	}
	return &id, nil
}

// Key returns the keeper's word on one key.
func (s *Server) Key(ctx context.Context, name string) (*keeper.KeyStatus, error) {
	st, err := s.cfg.Keeper.Status(ctx)
	if err != nil {
		return nil, problem(503, "keeper-away", "try again; nothing was lost", "the keeper does not answer: %v", err)
	}
	for _, k := range st.Keys {
		if k.Name == name {
			return &k, nil
		}
	}
	return nil, problem(404, "key-unknown", "greatseal key list shows the keys", "key %s is not in the charter", name)
}

// enter adds the log entry of a change.
func (s *Server) enter(c *store.Change, kind audit.Kind, id statement.ID, body []byte, now time.Time) error {
	e := audit.NewEntry(kind, now, id, body)
	data, err := e.Encode()
	if err != nil {
		return fmt.Errorf("server: log entry: %w", err)
	}
	le := store.LogEntry{Kind: kind, Request: id, Time: now, Data: data}
	if sum, _, detached := e.Detached(); detached {
		le.Body, le.BodySum = body, sum
	}
	c.Entries = append(c.Entries, le)
	return nil
}

// changed remembers what c, which was applied, has left, and wakes whoever waits
// for news of it.
func (s *Server) changed(c *store.Change) {
	s.recent.follow(c)
	s.watch.news()
	kick(s.sequence)
	for _, j := range c.Jobs {
		if !j.RunAt.After(c.At) {
			kick(s.messages)
			kick(s.stamps)
			if s.cfg.Notices != nil {
				s.cfg.Notices.Kick()
			}
			break
		}
	}
}

// parseChain reads certificates, leaf first.
func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, d := range ders {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}
