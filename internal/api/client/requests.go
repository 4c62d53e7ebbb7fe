package client

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/release"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// maxWait is the longest that one call waits for news.
const maxWait = 50 * time.Second

// Submit hands in a signed request with its encoded items. View.Attached says
// that the same command was open already; the view is that request's.
func (c *Client) Submit(ctx context.Context, envelope []byte, items [][]byte) (*server.View, error) {
	return post[server.View](ctx, c, "/requests", wire.Submission{Envelope: envelope, Items: items}, false)
}

// Endorse hands in a signed endorsement or disapproval.
func (c *Client) Endorse(ctx context.Context, envelope []byte) (*server.View, error) {
	return post[server.View](ctx, c, "/endorsements", wire.Endorsing{Envelope: envelope}, false)
}

// Cancel withdraws a request; sig is the requester's, for credential.Login, over
// server.CancelMessage.
func (c *Client) Cancel(ctx context.Context, id statement.ID, requester string, sig statement.Signature) (*server.View, error) {
	body := wire.Cancelling{Requester: requester, Signature: wire.Signature{KeyID: sig.KeyID, Sig: sig.Sig}}
	return post[server.View](ctx, c, "/requests/"+id.String()+"/cancel", body, false)
}

// Filter selects requests; zero members select everything.
type Filter struct {
	State     []store.State
	Command   string
	Policy    string
	Key       string
	Requester string
	Endorser  string
	Name      string // of a file; '*' matches anything
	Content   []byte // a file's digest
	Since     time.Time
	Until     time.Time
	Before    string // Page.Next
	Limit     int    // default 100, at most 1000
}

func (f Filter) values() url.Values {
	q := url.Values{}
	set(q, "command", f.Command)
	set(q, "policy", f.Policy)
	set(q, "key", f.Key)
	set(q, "requester", f.Requester)
	set(q, "endorser", f.Endorser)
	set(q, "name", f.Name)
	set(q, "content", hex.EncodeToString(f.Content))
	set(q, "before", f.Before)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	states := ""
	for i, s := range f.State {
		if i > 0 {
			states += ","
		}
		states += string(s)
	}
	set(q, "state", states)
	return q
}

func set(q url.Values, k, v string) {
	if v != "" {
		q.Set(k, v)
	}
}

func setTime(q url.Values, k string, t time.Time) {
	if !t.IsZero() {
		q.Set(k, t.UTC().Format(time.RFC3339))
	}
}

// Requests lists requests, newest first, without their decisions.
func (c *Client) Requests(ctx context.Context, f Filter) (*wire.Page, error) {
	return get[wire.Page](ctx, c, "/requests", f.values(), large)
}

// Request describes one request. id is its ID or the beginning of it. explain
// adds the decision.
func (c *Client) Request(ctx context.Context, id string, explain bool) (*server.View, error) {
	q := url.Values{}
	if explain {
		q.Set("explain", "true")
	}
	return c.view(ctx, id, q)
}

// view gets a request. One that is called otherwise than it was asked for is an
// error: a server must not answer for one request with another.
func (c *Client) view(ctx context.Context, id string, q url.Values) (*server.View, error) {
	v, err := get[server.View](ctx, c, "/requests/"+url.PathEscape(id), q, 0)
	if err != nil {
		return nil, err
	}
	if _, err := statement.ParseID(v.ID); err != nil || !strings.HasPrefix(v.ID, id) {
		return nil, fmt.Errorf("%w: %.80q for %s", ErrAnother, v.ID, id)
	}
	return v, nil
}

// ErrAnother is returned when the server shows another request than was asked for.
var ErrAnother = errors.New("client: the server shows another request")

// Await returns the request as soon as its revision is another one than
// revision, at the latest after wait (at most 50 s).
func (c *Client) Await(ctx context.Context, id string, revision int64, wait time.Duration) (*server.View, error) {
	wait = max(time.Second, min(wait, maxWait))
	q := url.Values{"wait": {strconv.Itoa(int(wait/time.Second)) + "s"}, "revision": {strconv.FormatInt(revision, 10)}}
	return c.view(ctx, id, q)
}

// Wait returns the request as soon as it is no longer open. seen, which may be
// nil, is called with every state of it on the way, the last one included. A
// server that is away for a while is waited for, too, until ctx ends.
func (c *Client) Wait(ctx context.Context, id string, seen func(*server.View)) (*server.View, error) {
	if seen == nil {
		seen = func(*server.View) {}
	}
	v, err := c.Request(ctx, id, false)
	if err != nil {
		return nil, err
	}
	seen(v)
	for v.State.Open() {
		n, err := c.Await(ctx, v.ID, v.Revision, maxWait)
		var away *AwayError
		switch {
		case err != nil && errors.As(err, &away):
			if c.sleep(ctx, 2*time.Second) != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		if n.Revision != v.Revision {
			seen(n)
		}
		v = n
	}
	return v, nil
}

// Files describes up to limit files of a request, beginning with from.
func (c *Client) Files(ctx context.Context, id string, from, limit int) (*wire.FilePage, error) {
	q := url.Values{"from": {strconv.Itoa(from)}, "limit": {strconv.Itoa(limit)}}
	return get[wire.FilePage](ctx, c, "/requests/"+url.PathEscape(id)+"/files", q, large)
}

// Difference compares a request with a release: the one whose ID is against, or the
// likeliest where that is empty.
func (c *Client) Difference(ctx context.Context, id, against string, from, limit int) (*release.Difference, error) {
	q := url.Values{"from": {strconv.Itoa(from)}, "limit": {strconv.Itoa(limit)}}
	if against != "" {
		q.Set("against", against)
	}
	return get[release.Difference](ctx, c, "/requests/"+url.PathEscape(id)+"/difference", q, large)
}

// Items returns the encoded items of a request; compare their root
// (format.ItemsRoot) with the request's.
func (c *Client) Items(ctx context.Context, id string) ([][]byte, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/requests/" + url.PathEscape(id) + "/items", accept: wire.CBORSequence, limit: large})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	d, err := sequence(resp.Body)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for {
		var b []byte
		switch err := d.Decode(&b); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("client: items: %w", err)
		case len(b) > format.MaxItem || len(out) >= statement.MaxItems:
			return nil, ErrTooLarge
		}
		out = append(out, b)
	}
}

func sequence(r io.Reader) (*cbor.Decoder, error) {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return m.NewDecoder(r), nil
}

// Envelopes returns the signed statements of a request.
func (c *Client) Envelopes(ctx context.Context, id string) (*wire.Envelopes, error) {
	return get[wire.Envelopes](ctx, c, "/requests/"+url.PathEscape(id)+"/envelopes", nil, large)
}

// Result returns what is needed to finish the files of an executed request.
func (c *Client) Result(ctx context.Context, id string) (*server.Result, error) {
	return get[server.Result](ctx, c, "/requests/"+url.PathEscape(id)+"/result", nil, large)
}

// Evidence returns the evidence of one file.
func (c *Client) Evidence(ctx context.Context, id string, index int) (*verify.Evidence, error) {
	q := url.Values{"index": {strconv.Itoa(index)}}
	return get[verify.Evidence](ctx, c, "/requests/"+url.PathEscape(id)+"/evidence", q, large)
}

// EvidenceOf gives the evidence of the files from to to (exclusive), one after
// the other. After an error it ends.
func (c *Client) EvidenceOf(ctx context.Context, id string, from, to int) iter.Seq2[*verify.Evidence, error] {
	return func(yield func(*verify.Evidence, error) bool) {
		for from < to {
			n, err := c.evidence(ctx, id, from, to, yield)
			if err != nil {
				yield(nil, err)
				return
			}
			if n == 0 {
				return
			}
			from += n
		}
	}
}

// evidence reads one answer: the server gives as many as it likes. It returns 0
// when yield wants no more.
func (c *Client) evidence(ctx context.Context, id string, from, to int, yield func(*verify.Evidence, error) bool) (int, error) {
	q := url.Values{"from": {strconv.Itoa(from)}, "to": {strconv.Itoa(to)}}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/requests/" + url.PathEscape(id) + "/evidence", query: q, accept: wire.JSONLines, limit: c.document})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body := resp.Body.(*bounded) // do bounds every answer
	d := jsontext.NewDecoder(body)
	n := 0
	for {
		var e verify.Evidence
		switch err := json.UnmarshalDecode(d, &e); {
		case errors.Is(err, io.EOF) && n > 0:
			return n, nil
		case err != nil:
			return 0, fmt.Errorf("client: evidence of file %d: %w", from+n, err)
		}
		n++
		body.left = c.document // each document has its own bound: thousands may come
		if !yield(&e, nil) {
			return 0, nil
		}
		if from+n > to {
			return 0, fmt.Errorf("client: evidence: the server sends more than was asked for")
		}
	}
}

// Inbox lists the open requests that wait for the caller's endorsement. With
// wait > 0 and nothing there it waits for the first one.
func (c *Client) Inbox(ctx context.Context, wait time.Duration) ([]server.View, error) {
	q := url.Values{}
	if wait > 0 {
		q.Set("wait", strconv.Itoa(int(min(wait, maxWait)/time.Second))+"s")
	}
	var out []server.View
	for range maxInbox {
		p, err := get[wire.Page](ctx, c, "/inbox", q, large)
		if err != nil {
			return nil, err
		}
		if out = append(out, p.Requests...); p.Next == "" {
			return out, nil
		}
		if len(out) > maxInbox {
			break
		}
		q.Set("before", p.Next)
	}
	return nil, errors.New("client: inbox: the server does not come to an end")
}

// maxInbox bounds the requests, and the pages, that a server which lies can make a
// client take.
const maxInbox = 100_000

// Search selects executed files.
type Search struct {
	Digest    []byte // any of the file's digests in its plan
	Prefix    string // or the beginning of one: 8 hexadecimal digits or more
	Name      string // '*' matches anything
	Product   string
	Publisher string
	Person    string // requester or endorser
	Requester string
	Endorser  string
	Key       string
	Policy    string
	Format    string
	Since     time.Time
	Until     time.Time
	After     string // FoundPage.Next of the page before
	Limit     int    // 0: as many as a page can have
}

// Search finds executed files, the latest signed first: one page of them.
func (c *Client) Search(ctx context.Context, s Search) (*wire.FoundPage, error) {
	q := url.Values{}
	set(q, "digest", cmp.Or(hex.EncodeToString(s.Digest), s.Prefix))
	set(q, "name", s.Name)
	set(q, "product", s.Product)
	set(q, "publisher", s.Publisher)
	set(q, "person", s.Person)
	set(q, "requester", s.Requester)
	set(q, "endorser", s.Endorser)
	set(q, "key", s.Key)
	set(q, "policy", s.Policy)
	set(q, "format", s.Format)
	setTime(q, "since", s.Since)
	setTime(q, "until", s.Until)
	set(q, "after", s.After)
	if s.Limit > 0 {
		set(q, "limit", strconv.Itoa(s.Limit))
	}
	return get[wire.FoundPage](ctx, c, "/search", q, large)
}

// Stats are what the log tells of the last days, counted.
func (c *Client) Stats(ctx context.Context, days int) (*analysis.Summary, error) {
	return get[analysis.Summary](ctx, c, "/stats", url.Values{"days": {strconv.Itoa(days)}}, large)
}
