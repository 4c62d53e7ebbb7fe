// Package logs is the log explorer of the console: entries, what they say, receipts and
// proofs, and a script that checks in the browser what the server says of them.
//
// Invariants:
//
//  1. What the pages show of an entry is decoded from the bytes of the log; they show no
//     entry beyond the published checkpoint.
//  2. The browser's check (static/verify.js) believes nothing of the pages but the log's
//     key, and that only the first time: it computes the leaf from the entry's bytes, the
//     root from the proof, and verifies the checkpoint's signature; and it remembers key
//     and head, so that a log that is replaced or taken back is noticed.
//
// What a reader may not conclude: that a script which this server serves would tell him
// of this server's own fraud. "greatseal log verify" is a program of the reader's own.
package logs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

//go:embed templates/* static/*
var files embed.FS

const (
	perPage  = 50
	maxShown = 24 << 10 // bytes of a body that a page shows
	maxOf    = 500      // entries of one request that a page shows
)

type area struct {
	server *server.Server
	store  store.Store
}

// Area is the log explorer over a server's log.
func Area(s *server.Server, st store.Store) web.Area {
	a := &area{s, st}
	return web.Area{Name: "logs", Files: files,
		Nav: []web.Nav{{Title: "Log", Path: "/console/log", Order: 50}},
		Routes: []web.Route{
			{Method: http.MethodGet, Path: "/console/log", Serve: a.list},
			{Method: http.MethodGet, Path: "/console/log/find", Serve: a.find},
			{Method: http.MethodGet, Path: "/console/log/entry/{index}", Serve: a.entry},
			{Method: http.MethodGet, Path: "/console/log/entry/{index}/raw", Serve: a.raw},
			{Method: http.MethodGet, Path: "/console/log/receipt/{number}", Serve: a.receipt},
			{Method: http.MethodGet, Path: "/console/log/proof/{index}", Serve: a.proof},
			{Method: http.MethodGet, Path: "/console/log/growth", Serve: a.growth},
		}}
}

// headView is the checkpoint that a page stands on.
type headView struct {
	Origin string
	Size   int64
	Root   string
	Note   string
	Key    string // of the log, base64: as the charter in force has it
}

func (a *area) head(ctx context.Context) (audit.Head, headView, error) {
	h, err := a.server.LogHead(ctx)
	if err != nil {
		return h, headView{}, err
	}
	root := h.Root()
	return h, headView{h.Origin(), h.Size(), hex.EncodeToString(root[:]), string(h.Note()), a.server.Charter().Keeper.LogKey}, nil
}

// row is one entry in a list.
type row struct {
	Index   int64
	Kind    audit.Kind
	Time    time.Time
	Request string // "" without one
	Says    string
}

type listPage struct {
	Head         headView
	Rows         []row
	Request      string // the entries of one request
	Newer, Older string // addresses
	First, Last  int64
}

func (a *area) list(v *web.Visit) error {
	ctx := v.Request.Context()
	head, hv, err := a.head(ctx)
	if err != nil {
		return err
	}
	p := listPage{Head: hv}
	if q := v.Query().Get("request"); q != "" {
		return a.ofRequest(v, head, p, q)
	}
	last := head.Size()
	if q := v.Query().Get("to"); q != "" {
		n, err := strconv.ParseInt(q, 10, 64)
		if err != nil || n < 1 {
			return web.Problemf(400, "malformed", "the newest entries are at /console/log", "to: want an entry's index")
		}
		last = min(n, head.Size())
	}
	first := max(0, last-perPage)
	entries, err := a.server.Entries(ctx, head, first, last)
	if err != nil {
		return err
	}
	for i := len(entries) - 1; i >= 0; i-- {
		r, err := rowOf(first+int64(i), entries[i])
		if err != nil {
			return err
		}
		p.Rows = append(p.Rows, r)
	}
	p.First, p.Last = first, last-1
	if last < head.Size() {
		p.Newer = "/console/log?to=" + strconv.FormatInt(min(head.Size(), last+perPage), 10)
	}
	if first > 0 {
		p.Older = "/console/log?to=" + strconv.FormatInt(first, 10)
	}
	return v.Page("log.html", "Log", p)
}

// ofRequest lists the entries of one request.
func (a *area) ofRequest(v *web.Visit, head audit.Head, p listPage, prefix string) error {
	ctx := v.Request.Context()
	r, err := a.server.Find(ctx, prefix)
	if err != nil {
		return err
	}
	p.Request = r.ID.String()
	refs, err := a.store.EntriesOf(ctx, r.ID)
	if err != nil {
		return err
	}
	refs = refs[:min(len(refs), maxOf)]
	for len(refs) > 0 && refs[0].Index < head.Size() { // what comes after is not published yet
		// Entries of one bundle are read at once.
		first, n := refs[0].Index, 1
		for n < len(refs) && refs[n].Index < head.Size() && refs[n].Index/audit.TileWidth == first/audit.TileWidth {
			n++
		}
		entries, err := a.server.Entries(ctx, head, first, refs[n-1].Index+1)
		if err != nil {
			return err
		}
		for _, ref := range refs[:n] {
			x, err := rowOf(ref.Index, entries[ref.Index-first])
			if err != nil {
				return err
			}
			p.Rows = append(p.Rows, x)
		}
		refs = refs[n:]
	}
	return v.Page("log.html", "Log", p)
}

// find leads from what somebody pastes to where it is: an index, a receipt's number as
// "#12", or the beginning of a request's ID. Digits alone may be an index or the
// beginning of an ID: they are an index where the log has it, or where no request's ID
// begins so.
func (a *area) find(v *web.Visit) error {
	q := strings.ToLower(strings.TrimSpace(v.Query().Get("q")))
	if n, ok := strings.CutPrefix(q, "#"); ok {
		if _, err := strconv.ParseUint(n, 10, 64); err == nil {
			return v.Redirect("/console/log/receipt/" + n)
		}
	}
	id := len(q) >= 4 && len(q) <= 64 && strings.Trim(q, "0123456789abcdef") == ""
	if n, err := strconv.ParseInt(q, 10, 64); err == nil && n >= 0 && q == strconv.FormatInt(n, 10) {
		if id {
			if id, err = a.beginsID(v.Request.Context(), n); err != nil {
				return err
			}
		}
		if !id {
			return v.Redirect("/console/log/entry/" + q)
		}
	}
	if id {
		return v.Redirect("/console/log?request=" + q)
	}
	return web.Problemf(400, "malformed", "an entry's index (4711), a receipt's number (#12) or the first digits of a request's ID (at least 4)", "%.80q is none of these", q)
}

// beginsID tells whether a number is no index of the log, and a request's ID begins so.
func (a *area) beginsID(ctx context.Context, n int64) (bool, error) {
	head, err := a.server.LogHead(ctx)
	if err != nil || n < head.Size() {
		return false, err
	}
	list, err := a.store.Requests(ctx, store.Filter{Prefix: strconv.FormatInt(n, 10), Limit: 1})
	return len(list) > 0, err
}

func rowOf(index int64, data []byte) (row, error) {
	e, err := audit.DecodeEntry(data)
	if err != nil {
		return row{}, fmt.Errorf("logs: entry %d: %w", index, err)
	}
	r := row{Index: index, Kind: e.Kind, Time: e.Time}
	if e.Request != [32]byte{} {
		r.Request = hex.EncodeToString(e.Request[:])
	}
	body, err := e.Body(nil)
	if err != nil {
		r.Says = "kept beside the log"
		return r, nil
	}
	r.Says = says(e.Kind, body)
	return r, nil
}

// says is what an entry says, in a line: the word of whoever signed it.
func says(kind audit.Kind, body []byte) string {
	if kind == audit.KindCancel {
		return "by " + line(string(body))
	}
	env, err := statement.DecodeEnvelope(body)
	if err != nil {
		return ""
	}
	switch kind {
	case audit.KindRequest:
		if r, err := statement.Decode[statement.Request](env.Payload); err == nil {
			text := r.Requester + " asks for " + string(r.Command.Name)
			if s := r.Command.Sign; s != nil {
				text += fmt.Sprintf(" of %d under %s", s.Count, s.Policy)
			}
			return line(text)
		}
	case audit.KindEndorsement:
		if e, err := statement.Decode[statement.Endorsement](env.Payload); err == nil {
			text := fmt.Sprintf("%s: %s", e.Endorser, e.Verdict)
			if e.Comment != "" {
				text += ": " + e.Comment
			}
			return line(text)
		}
	case audit.KindReceipt:
		if r, err := statement.Decode[statement.Receipt](env.Payload); err == nil {
			text := fmt.Sprintf("receipt %d: %s %s", r.Number, r.Command, r.Outcome)
			if r.Code != "" {
				text += " (" + r.Code + ")"
			}
			return line(text)
		}
	}
	return ""
}

// line is text on one line, bounded, without what would move or hide other text.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < 0x20, r >= 0x7f && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r == 0x061c:
			return '·'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return s
}

type entryPage struct {
	Head     headView
	Row      row
	Leaf     string
	Bytes    int
	Detached string // SHA-256 of a body that is kept beside the log
	Size     int64  // of the body
	Signers  []string
	Payload  string // pretty
	Cut      bool
	Receipt  *statement.Receipt
	Proof    audit.Inclusion
	Hashes   []string
	Previous string // addresses
	Next     string
}

// at reads the entry that the address names, and the head over it.
func (a *area) at(v *web.Visit) (audit.Head, headView, int64, []byte, error) {
	ctx := v.Request.Context()
	head, hv, err := a.head(ctx)
	if err != nil {
		return head, hv, 0, nil, err
	}
	index, err := strconv.ParseInt(v.Path("index"), 10, 64)
	if err != nil || index < 0 || index >= head.Size() {
		return head, hv, 0, nil, web.Problemf(404, "not-found", "the newest entries are at /console/log", "the log has %d entries, and none with the index %.30q", head.Size(), v.Path("index"))
	}
	e, err := a.server.Entries(ctx, head, index, index+1)
	if err != nil {
		return head, hv, 0, nil, err
	}
	return head, hv, index, e[0], nil
}

func (a *area) entry(v *web.Visit) error {
	ctx := v.Request.Context()
	head, hv, index, data, err := a.at(v)
	if err != nil {
		return err
	}
	p := entryPage{Head: hv, Bytes: len(data)}
	if p.Row, err = rowOf(index, data); err != nil {
		return err
	}
	leaf := audit.LeafHash(data)
	p.Leaf = hex.EncodeToString(leaf[:])
	if p.Proof, err = a.server.ProveEntry(ctx, head, index); err != nil {
		return err
	}
	for _, h := range p.Proof.Hashes {
		p.Hashes = append(p.Hashes, hex.EncodeToString(h[:]))
	}
	e, err := audit.DecodeEntry(data)
	if err != nil {
		return err
	}
	if sum, size, ok := e.Detached(); ok {
		p.Detached, p.Size = hex.EncodeToString(sum[:]), size
	}
	body, err := e.Body(func(sum [32]byte, _ int64) ([]byte, error) { return a.server.Body(ctx, sum) })
	if err != nil {
		return err
	}
	p.Size = cmp.Or(p.Size, int64(len(body)))
	p.show(e.Kind, body)
	if index > 0 {
		p.Previous = fmt.Sprintf("/console/log/entry/%d", index-1)
	}
	if index+1 < head.Size() {
		p.Next = fmt.Sprintf("/console/log/entry/%d", index+1)
	}
	return v.Page("entry.html", fmt.Sprintf("Log entry %d", index), p)
}

// show decodes a body for reading.
func (p *entryPage) show(kind audit.Kind, body []byte) {
	text := body
	if env, err := statement.DecodeEnvelope(body); err == nil {
		text = env.Payload
		for _, s := range env.Signatures {
			p.Signers = append(p.Signers, s.KeyID)
		}
		if kind == audit.KindReceipt {
			if r, err := statement.Decode[statement.Receipt](env.Payload); err == nil {
				p.Receipt = &r
			}
		}
	}
	if j := jsontext.Value(text).Clone(); j.Indent(jsontext.WithIndent("  ")) == nil {
		text = j
	}
	if len(text) > maxShown {
		text, p.Cut = text[:maxShown], true
	}
	p.Payload = strings.ToValidUTF8(string(text), "·")
}

// raw is an entry as the log has it, for programs of the reader's own.
func (a *area) raw(v *web.Visit) error {
	_, _, index, data, err := a.at(v)
	if err != nil {
		return err
	}
	return v.Download(fmt.Sprintf("entry-%d.cbor", index), "application/cbor", data)
}

// receipt leads from a receipt's number to its entry.
func (a *area) receipt(v *web.Visit) error {
	ctx := v.Request.Context()
	n, err := strconv.ParseUint(v.Path("number"), 10, 64)
	if err != nil {
		return web.Problemf(404, "not-found", "", "a receipt has a number")
	}
	r, err := a.store.Receipt(ctx, n)
	if err != nil {
		return err
	}
	refs, err := a.store.EntriesOf(ctx, r.Request)
	if err != nil {
		return err
	}
	head, _, err := a.head(ctx)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if ref.Kind != audit.KindReceipt || ref.Index >= head.Size() {
			continue
		}
		data, err := a.server.Entries(ctx, head, ref.Index, ref.Index+1)
		if err != nil {
			return err
		}
		e, err := audit.DecodeEntry(data[0])
		if err != nil {
			return err
		}
		// A request may have receipts of refusals before that of its execution.
		if body, err := e.Body(nil); err == nil && sha256.Sum256(body) == sha256.Sum256(r.Envelope) {
			return v.Redirect(fmt.Sprintf("/console/log/entry/%d", ref.Index))
		}
	}
	return web.Problemf(404, "log-behind", "try again in a moment", "the log does not hold receipt %d yet", n)
}

// proof is what the browser needs to check an entry by itself.
func (a *area) proof(v *web.Visit) error {
	head, hv, index, data, err := a.at(v)
	if err != nil {
		return err
	}
	p, err := a.server.ProveEntry(v.Request.Context(), head, index)
	if err != nil {
		return err
	}
	return v.JSON(http.StatusOK, struct {
		Inclusion audit.Inclusion `json:"inclusion"`
		Entry     string          `json:"entry"`
		Note      string          `json:"note"`
	}{p, base64.StdEncoding.EncodeToString(data), hv.Note})
}

// growth proves that the log of "new" entries, or of now, begins with that of "old".
func (a *area) growth(v *web.Visit) error {
	head, hv, err := a.head(v.Request.Context())
	if err != nil {
		return err
	}
	q := v.Query()
	old, err := strconv.ParseInt(q.Get("old"), 10, 64)
	if err != nil || old < 0 {
		return web.Problemf(400, "malformed", "", "old: want the size of an earlier log")
	}
	size := head.Size()
	if q.Has("new") {
		if size, err = strconv.ParseInt(q.Get("new"), 10, 64); err != nil || size < old {
			return web.Problemf(400, "malformed", "", "new: want the size of a later log")
		}
	}
	if max(old, size) > head.Size() {
		return web.Problemf(409, "log-shrunk", "the log that this browser has seen is not this one, or this server is behind another", "the log has %d entries, less than %d", head.Size(), max(old, size))
	}
	p, err := a.server.ProveGrowth(v.Request.Context(), head, old, size)
	if err != nil {
		return err
	}
	return v.JSON(http.StatusOK, struct {
		Consistency audit.Consistency `json:"consistency"`
		Note        string            `json:"note"`
	}{p, hv.Note})
}
