package issuer

import (
	"context"
	"encoding/json/v2"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Every is how often issuers are looked at; Retry, how soon again one that did not
// answer.
const (
	Every = 24 * time.Hour
	Retry = time.Hour
	pause = time.Minute // between two looks at what is due: replicas share the notes
)

// Watch looks at the issuers of the charter in force. It is safe for concurrent use.
type Watch struct {
	Charter func() *charter.Charter
	Store   store.Issuers
	HTTP    *http.Client
	Clock   func() time.Time
	Logger  *slog.Logger
}

// State is what is known of one issuer.
type State struct {
	Report
	Seen    time.Time `json:"seen,omitzero"`    // when it answered last
	Tried   time.Time `json:"tried,omitzero"`   // when it was asked last
	Problem string    `json:"problem,omitzero"` // why the last try came to nothing
}

// notedKeys is what is kept of an answer.
type notedKeys struct {
	Keys    []string `json:"keys"`
	Skipped []string `json:"skipped,omitzero"`
}

// Run looks at what is due until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		if err := w.Look(ctx); err != nil && ctx.Err() == nil {
			w.Logger.Warn("issuers were not looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Look asks every issuer that is due, and warns of what it finds.
func (w *Watch) Look(ctx context.Context) error {
	issuers := w.Charter().Issuers
	if len(issuers) == 0 {
		return nil
	}
	seen, err := w.Store.IssuersSeen(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(issuers)) {
		i := issuers[name]
		at := slices.IndexFunc(seen, func(s store.IssuerSeen) bool { return s.URL == i.URL })
		if at >= 0 && !due(seen[at], w.Clock()) {
			continue
		}
		errs = append(errs, w.ask(ctx, name, i))
	}
	return errors.Join(errs...)
}

func due(s store.IssuerSeen, now time.Time) bool {
	wait := Every
	if s.Problem != "" {
		wait = Retry
	}
	// A clock that was ahead must not keep everybody from asking until it is then.
	return !now.Before(s.Tried.Add(wait)) || s.Tried.After(now.Add(Retry))
}

func (w *Watch) ask(ctx context.Context, name string, i charter.Issuer) error {
	note := store.IssuerSeen{URL: i.URL, Tried: w.Clock()}
	f, err := Fetch(ctx, w.HTTP, i.URL)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		note.Problem = err.Error()
		w.Logger.Warn("an issuer of ID tokens does not answer", "issuer", name, "error", err)
		return w.Store.PutIssuer(ctx, note)
	}
	k := notedKeys{Skipped: f.Skipped}
	for _, x := range f.Keys {
		k.Keys = append(k.Keys, x.Text())
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	note.Keys, note.Seen = string(b), note.Tried
	switch r := Compare(name, i, f); {
	case len(r.Changed) > 0:
		w.Logger.Error("an issuer of ID tokens publishes another key under an ID that the charter pins: ask its operator before anything else", "issuer", name, "url", i.URL, "keys", r.Changed)
	case len(r.New) > 0:
		w.Logger.Warn("an issuer of ID tokens publishes a key that the charter does not pin: its tokens will be refused; greatseal charter issuers draft", "issuer", name, "url", i.URL, "keys", r.New)
	}
	return w.Store.PutIssuer(ctx, note)
}

// States says what is known of the issuers of the charter in force, by name.
func (w *Watch) States(ctx context.Context) ([]State, error) {
	issuers := w.Charter().Issuers
	seen, err := w.Store.IssuersSeen(ctx)
	if err != nil {
		return nil, err
	}
	out := []State{}
	for _, name := range slices.Sorted(maps.Keys(issuers)) {
		i := issuers[name]
		s := State{Report: Report{Name: name, URL: i.URL, Pinned: []string{}}}
		if at := slices.IndexFunc(seen, func(s store.IssuerSeen) bool { return s.URL == i.URL }); at >= 0 {
			n := seen[at]
			s.Seen, s.Tried, s.Problem = n.Seen, n.Tried, n.Problem
			if f := found(n); f != nil {
				s.Report = *Compare(name, i, f)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// found is the last answer; nil when there was none.
func found(n store.IssuerSeen) *Found {
	var k notedKeys
	if n.Keys == "" || json.Unmarshal([]byte(n.Keys), &k) != nil {
		return nil
	}
	f := &Found{URL: n.URL, Skipped: k.Skipped}
	for _, text := range k.Keys {
		if x, err := credential.ParseIssuerKey(text); err == nil {
			f.Keys = append(f.Keys, x)
		}
	}
	return f
}
