package logs_test

import (
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/console/logs"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func bench(t *testing.T) *webtest.Bench {
	return webtest.New(t, webtest.Options{Web: func(c *web.Config) { c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)) }}, func(b *webtest.Bench) []web.Area { return []web.Area{logs.Area(b.Server, b.Store)} })
}

// signed has a request executed, with a comment, and waits for its place in the log.
func signed(t *testing.T, b *webtest.Bench, comment string) statement.ID {
	t.Helper()
	ctx := context.Background()
	env := b.Sign("alice", "single", b.Files("a.bin", 2), func(r *statement.Request) { r.Reason = comment })
	if _, _, err := b.Server.Submit(ctx, env, b.Files("a.bin", 2)); err != nil {
		t.Fatal(err)
	}
	say := b.Say(statement.Endorse, "bob", env, func(e *statement.Endorsement) { e.Comment = comment })
	if _, err := b.Server.Endorse(ctx, say); err != nil {
		t.Fatal(err)
	}
	id := b.ID(env)
	b.Until(b.Server, id, store.Executed)
	for range 6000 {
		refs, err := b.Store.EntriesOf(ctx, id)
		head, herr := b.Server.LogHead(ctx)
		if err == nil && herr == nil && len(refs) == 3 && refs[2].Index < head.Size() {
			return id
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the log does not hold the receipt")
	return id
}

// Every page shows what the bytes of the log say, and what people wrote stays text.
func TestPages(t *testing.T) {
	b := bench(t)
	for _, h := range webtest.Hostile() {
		if !strings.Contains(h, "\u202e") { // no statement carries one
			signed(t, b, h)
		}
	}
	id := signed(t, b, "as agreed")
	ann := b.As("ann")
	p := ann.Get("/console/log").OK().Clean().Small()
	p.Has("bob: endorse: as agreed", "alice asks for sign of 2 under single", "sign executed", "log.example.com/test")
	of := ann.Get("/console/log?request=" + id.String()[:10]).OK().Clean()
	of.Has("3", "bob: endorse: as agreed")
	of.HasNot("owned")
	refs, err := b.Store.EntriesOf(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		e := ann.Get(fmt.Sprintf("/console/log/entry/%d", ref.Index)).OK().Clean().Small()
		e.Has(string(ref.Kind), id.String()[:12], "proof of inclusion")
	}
	head, err := b.Server.LogHead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i := range head.Size() {
		ann.Get(fmt.Sprintf("/console/log/entry/%d", i)).OK().Clean()
	}
	ann.Get(fmt.Sprintf("/console/log/entry/%d", head.Size())).Want(404)
	ann.Get("/console/log/entry/-1").Want(404)
	ann.Get("/console/log?to=x").Want(400)
	b.Browser().Get("/console/log").Want(303)
}

// What somebody pastes leads to where it is.
func TestFind(t *testing.T) {
	b := bench(t)
	id := signed(t, b, "")
	ann := b.As("ann")
	// What is asked for has an ID that begins with digits alone, and first fits.
	files := b.Files("a.bin", 2)
	numbered := func(first func(string) bool) string {
		for range 100_000 {
			env := b.Sign("alice", "single", files, func(*statement.Request) {})
			if s := b.ID(env).String()[:8]; strings.Trim(s, "0123456789") == "" && first(s) {
				if _, _, err := b.Server.Submit(t.Context(), env, files); err != nil {
					t.Fatal(err)
				}
				return s
			}
		}
		t.Fatal("no such ID")
		return ""
	}
	number := numbered(func(s string) bool { return s[0] != '0' })
	zero := numbered(func(s string) bool { return s[0] == '0' })
	for q, want := range map[string]string{
		"3": "/console/log/entry/3", "0": "/console/log/entry/0", "1000000000000": "/console/log/entry/1000000000000", "12": "/console/log/entry/12",
		id.String()[:8]: "/console/log?request=" + id.String()[:8], strings.ToUpper(id.String()): "/console/log?request=" + id.String(),
		number: "/console/log?request=" + number, zero: "/console/log?request=" + zero,
	} {
		if got := ann.Get("/console/log/find?q=" + url.QueryEscape(q)).Want(303).Header.Get("Location"); got != want {
			t.Errorf("%s leads to %s, not %s", q, got, want)
		}
	}
	r, err := b.Store.LastReceipt(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	to := ann.Get("/console/log/find?q=" + url.QueryEscape(fmt.Sprintf("#%d", r.Number))).Want(303).Header.Get("Location")
	to = ann.Get(to).Want(303).Header.Get("Location")
	ann.Get(to).OK().Has(fmt.Sprintf("Receipt %d", r.Number), "executed", "P-256"[:1])
	ann.Get("/console/log/find?q=zz").Want(400)
	ann.Get("/console/log/find?q=//evil.example").Want(400)
	ann.Get("/console/log/receipt/99999").Want(404)
}

// Invariant 1: proofs are over the published checkpoint and verify with package audit.
func TestProofs(t *testing.T) {
	b := bench(t)
	signed(t, b, "one")
	ann := b.As("ann")
	first, err := b.Server.LogHead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	signed(t, b, "two")
	var in struct {
		Inclusion audit.Inclusion `json:"inclusion"`
		Entry     string          `json:"entry"`
		Note      string          `json:"note"`
	}
	if err := json.Unmarshal([]byte(ann.Get("/console/log/proof/2").OK().Body), &in); err != nil {
		t.Fatal(err)
	}
	head, err := b.Server.ParseCheckpoint([]byte(in.Note))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := base64.StdEncoding.DecodeString(in.Entry)
	if err != nil {
		t.Fatal(err)
	}
	if err := head.CheckInclusion(in.Inclusion, entry); err != nil {
		t.Error(err)
	}
	var grown struct {
		Consistency audit.Consistency `json:"consistency"`
		Note        string            `json:"note"`
	}
	if err := json.Unmarshal([]byte(ann.Get(fmt.Sprintf("/console/log/growth?old=%d", first.Size())).OK().Body), &grown); err != nil {
		t.Fatal(err)
	}
	now, err := b.Server.ParseCheckpoint([]byte(grown.Note))
	if err != nil {
		t.Fatal(err)
	}
	if err := now.CheckConsistency(first, grown.Consistency); err != nil {
		t.Error(err)
	}
	ann.Get(fmt.Sprintf("/console/log/growth?old=%d&new=%d", first.Size(), first.Size())).OK()
	ann.Get("/console/log/growth?old=99999").Want(409)
	ann.Get("/console/log/growth?old=0&new=99999").Want(409)
	ann.Get("/console/log/growth?old=5&new=2").Want(400)
	ann.Get("/console/log/growth?old=-1").Want(400)
	if raw := ann.Get("/console/log/entry/2/raw").OK(); raw.Body != string(entry) || !strings.HasPrefix(raw.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("raw: %d bytes", len(raw.Body))
	}
}
