package client

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// long is c for calls that take as long as reading whole tables takes: it waits for
// the answer to begin until ctx ends.
func (c *Client) long() *Client {
	h := *c.http
	if t, ok := h.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.ResponseHeaderTimeout, t.DisableKeepAlives = 0, true
		h.Transport = t
	}
	return &Client{origin: c.origin, host: c.host, http: &h, agent: c.agent, attempts: 1, document: c.document, sleep: c.sleep, session: c.session}
}

// Instance is what the server is in a circle of trust.
func (c *Client) Instance(ctx context.Context) (*agents.Standing, error) {
	return get[agents.Standing](ctx, c, "/instance", nil, 0)
}

// Circle is the newest circle of a side, as circle.ReadBundle reads it; root "": the
// server's first.
func (c *Client) Circle(ctx context.Context, root string) ([]byte, error) {
	q := url.Values{}
	if root != "" {
		q.Set("root", root)
	}
	return c.bytes(ctx, call{method: http.MethodGet, path: "/circle", query: q, accept: wire.Octets, limit: circle.MaxBundle})
}

// PublishCircle brings a bundle. The same bundle again changes nothing.
func (c *Client) PublishCircle(ctx context.Context, bundle []byte) (*agents.Standing, error) {
	return decode[agents.Standing](ctx, c, call{method: http.MethodPost, path: "/circle", body: bundle, content: wire.Octets})
}

// CreateJob makes a security job.
func (c *Client) CreateJob(ctx context.Context, s *records.Spec) (*records.View, error) {
	return post[records.View](ctx, c, "/security-jobs", s, true)
}

// JobFilter selects security jobs.
type JobFilter struct {
	State, Kind, Platform, Before string
	Limit                         int
}

// SecurityJobs lists jobs, newest first.
func (c *Client) SecurityJobs(ctx context.Context, f JobFilter) ([]*records.View, error) {
	q := values("state", f.State, "kind", f.Kind, "platform", f.Platform, "before", f.Before)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	r, err := get[struct {
		Jobs []*records.View `json:"jobs"`
	}](ctx, c, "/security-jobs", q, 0)
	if err != nil {
		return nil, err
	}
	return r.Jobs, nil
}

// values are those that are not empty, of name and value in turn.
func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// SecurityJob is one job.
func (c *Client) SecurityJob(ctx context.Context, id string) (*records.View, error) {
	return get[records.View](ctx, c, "/security-jobs/"+url.PathEscape(id), nil, 0)
}

// ChangeJob does one of pause, resume, cancel and again.
func (c *Client) ChangeJob(ctx context.Context, id, verb string) (*records.View, error) {
	return post[records.View](ctx, c, "/security-jobs/"+url.PathEscape(id)+"/"+verb, struct{}{}, true)
}

// JobEntries lists what a job signed (list "log") or did not ("skipped").
func (c *Client) JobEntries(ctx context.Context, id, list string, from int64, limit int) ([]records.Entry, error) {
	r, err := get[struct {
		Entries []records.Entry `json:"entries"`
	}](ctx, c, "/security-jobs/"+url.PathEscape(id)+"/"+list, url.Values{"from": {strconv.FormatInt(from, 10)}, "limit": {strconv.Itoa(limit)}}, large)
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// SignedSet writes the update set of a job that is done.
func (c *Client) SignedSet(ctx context.Context, id string, to io.Writer) (int64, error) {
	return c.download(ctx, call{method: http.MethodGet, path: "/security-jobs/" + url.PathEscape(id) + "/set", accept: wire.Octets, limit: large}, to)
}

// maxDownload is the largest export, in bytes.
const maxDownload = 1 << 40

func (c *Client) download(ctx context.Context, r call, to io.Writer) (int64, error) {
	resp, err := c.long().do(ctx, r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(to, resp.Body)
	switch {
	case err != nil && ctx.Err() == nil && !errors.Is(err, ErrTooLarge):
		return n, &AwayError{err}
	case err != nil:
		return n, err
	case resp.ContentLength >= 0 && n != resp.ContentLength:
		return n, &AwayError{io.ErrUnexpectedEOF}
	}
	return n, nil
}

// RecordTables lists the tables of a platform.
func (c *Client) RecordTables(ctx context.Context, on string) ([]platform.Table, error) {
	r, err := get[struct {
		Tables []platform.Table `json:"tables"`
	}](ctx, c, "/records/tables", url.Values{"platform": {on}}, 0)
	if err != nil {
		return nil, err
	}
	return r.Tables, nil
}

func recordQuery(on string, ref record.Ref, purpose string) url.Values {
	q := values("platform", on, "purpose", purpose)
	q.Set("table", ref.Table)
	q["key"] = ref.Key
	return q
}

// ExplainRecord says of each signature of a record what it is worth.
func (c *Client) ExplainRecord(ctx context.Context, on string, ref record.Ref, purpose string) (*record.Report, error) {
	return get[record.Report](ctx, c, "/records/explain", recordQuery(on, ref, purpose), 0)
}

// TrustedRecord reports whether a record may be used for a purpose, and why not.
func (c *Client) TrustedRecord(ctx context.Context, on string, ref record.Ref, purpose string) (bool, *rejection.Error, error) {
	r, err := get[struct {
		Trusted bool             `json:"trusted"`
		Reason  *rejection.Error `json:"reason"`
	}](ctx, c, "/records/trusted", recordQuery(on, ref, purpose), 0)
	if err != nil {
		return false, nil, err
	}
	return r.Trusted, r.Reason, nil
}

func scanQuery(o records.ScanOptions) url.Values {
	return url.Values{"configuration": o.Configurations, "platform": o.Platforms}
}

// ScanRecords judges the records that configurations ask for, and counts.
func (c *Client) ScanRecords(ctx context.Context, o records.ScanOptions) (*records.ScanReport, error) {
	return get[records.ScanReport](ctx, c.long(), "/records/scan", scanQuery(o), 0)
}

// ScanCSV is the same with a line for each record.
func (c *Client) ScanCSV(ctx context.Context, o records.ScanOptions, to io.Writer) (int64, error) {
	return c.download(ctx, call{method: http.MethodGet, path: "/records/scan.csv", query: scanQuery(o), accept: "text/csv", limit: maxDownload}, to)
}

// MayEnforce scans everything; it is refused unless every record would pass.
func (c *Client) MayEnforce(ctx context.Context) (*records.ScanReport, error) {
	return post[records.ScanReport](ctx, c.long(), "/records/may-enforce", struct{}{}, false)
}

// Findings lists records that did not verify where somebody looked, newest first.
func (c *Client) Findings(ctx context.Context, before int64, limit int) ([]records.Found, error) {
	r, err := get[struct {
		Findings []records.Found `json:"findings"`
	}](ctx, c, "/records/findings", url.Values{"before": {strconv.FormatInt(before, 10)}, "limit": {strconv.Itoa(limit)}}, 0)
	if err != nil {
		return nil, err
	}
	return r.Findings, nil
}

// ExportRecords writes records with their signatures.
func (c *Client) ExportRecords(ctx context.Context, on string, qs []records.ExportQuery, to io.Writer) (int64, error) {
	b, err := json.Marshal(struct {
		Platform string                `json:"platform"`
		Records  []records.ExportQuery `json:"records"`
	}{on, qs}, json.FormatNilSliceAsNull(true)) // no keys at all mean every record
	if err != nil {
		return 0, fmt.Errorf("client: %w", err)
	}
	return c.download(ctx, call{method: http.MethodPost, path: "/records/export", body: b, content: wire.JSON, accept: wire.Octets, limit: maxDownload}, to)
}

// Receive implements records.Receiver: it brings an export to a protected instance.
func (c *Client) Receive(ctx context.Context, on string, size int64, export io.Reader) (*records.Imported, error) {
	l := c.long()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.origin+"/v1/records/import?"+url.Values{"platform": {on}}.Encode(), export)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	req.ContentLength = size
	resp, err := l.roundTrip(req, wire.Octets, wire.JSON, 0)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var v records.Imported
	if err := json.UnmarshalRead(resp.Body, &v); err != nil {
		return nil, fmt.Errorf("client: the answer to an import: %w", err)
	}
	return &v, nil
}

// LoadSet brings an update set to a protected instance.
func (c *Client) LoadSet(ctx context.Context, on string, set []byte) (*records.SetView, error) {
	return decode[records.SetView](ctx, c.long(), call{method: http.MethodPost, path: "/update-sets", query: url.Values{"platform": {on}}, body: set, content: wire.Octets, once: true})
}

// Sets lists update sets that were brought.
func (c *Client) Sets(ctx context.Context, limit int) ([]*records.SetView, error) {
	r, err := get[struct {
		Sets []*records.SetView `json:"sets"`
	}](ctx, c, "/update-sets", url.Values{"limit": {strconv.Itoa(limit)}}, 0)
	if err != nil {
		return nil, err
	}
	return r.Sets, nil
}

// Set is one update set, with its preview.
func (c *Client) Set(ctx context.Context, id string) (*records.SetView, error) {
	return get[records.SetView](ctx, c, "/update-sets/"+url.PathEscape(id), nil, large)
}

// PreviewSet judges what an import would do.
func (c *Client) PreviewSet(ctx context.Context, id string) (*records.SetView, error) {
	return decode[records.SetView](ctx, c.long(), call{method: http.MethodPost, path: "/update-sets/" + url.PathEscape(id) + "/preview", limit: large})
}

// DecideSet accepts or skips updates, by their places in the set.
func (c *Client) DecideSet(ctx context.Context, id string, d map[int]records.Decision) (*records.SetView, error) {
	return post[records.SetView](ctx, c, "/update-sets/"+url.PathEscape(id)+"/decide", map[string]any{"decisions": d}, false)
}

// CompareSet shows an update beside the record that is there.
func (c *Client) CompareSet(ctx context.Context, id string, index int) ([]records.Difference, error) {
	r, err := get[struct {
		Differences []records.Difference `json:"differences"`
	}](ctx, c, "/update-sets/"+url.PathEscape(id)+"/compare", url.Values{"index": {strconv.Itoa(index)}}, large)
	if err != nil {
		return nil, err
	}
	return r.Differences, nil
}

// CommitSet commits an update set.
func (c *Client) CommitSet(ctx context.Context, id string) (*records.SetView, error) {
	return decode[records.SetView](ctx, c.long(), call{method: http.MethodPost, path: "/update-sets/" + url.PathEscape(id) + "/commit", once: true, limit: large})
}
