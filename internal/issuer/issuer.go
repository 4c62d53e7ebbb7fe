// Package issuer looks at what issuers of ID tokens publish, so that people learn in
// time when a key is there that their charter does not pin.
//
// Invariants:
//
//  1. Nothing that is fetched counts: a key verifies tokens when it stands in the
//     charter. What is fetched becomes a warning, or a draft that officers read and
//     a quorum endorses.
//  2. Issuers are asked over HTTPS alone, without following redirects, for bounded
//     answers in bounded time. What they send is strict JSON about themselves.
//  3. An issuer that does not answer changes nothing but the note that it did not.
//
// What a caller may not conclude: that a key is the issuer's for ever, or that an
// issuer which is away has the keys that it was last seen with.
package issuer

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
)

const (
	maxAnswer = 1 << 20
	maxKeys   = 256
	maxWait   = 30 * time.Second
)

// Found is what an issuer publishes.
type Found struct {
	URL     string
	Keys    []*credential.IssuerKey // that can be pinned, in order of their text
	Skipped []string                // why others cannot, a line each
}

// Fetch asks an issuer for its keys: its discovery document (OpenID Connect
// Discovery 1.0 section 4), and the key set that it names.
func Fetch(ctx context.Context, c *http.Client, issuer string) (*Found, error) {
	f, err := fetch(ctx, c, issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %s: %w", issuer, err)
	}
	return f, nil
}

func fetch(ctx context.Context, c *http.Client, issuer string) (*Found, error) {
	if err := credential.CheckIssuer(issuer); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	var d struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := get(ctx, c, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &d); err != nil {
		return nil, err
	}
	if d.Issuer != issuer {
		return nil, fmt.Errorf("its document is that of %.100q", d.Issuer)
	}
	u, err := url.Parse(d.JWKS)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("its key set is at %.100q: want an https URL", d.JWKS)
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := get(ctx, c, d.JWKS, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("a set of %d keys: want 1 to %d", len(set.Keys), maxKeys)
	}
	f := &Found{URL: issuer}
	seen := map[string]bool{}
	for i, v := range set.Keys {
		k, err := credential.ParseIssuerKey(string(v))
		switch {
		case err != nil:
			f.Skipped = append(f.Skipped, fmt.Sprintf("key %d: %s", i+1, strings.TrimPrefix(err.Error(), "credential: not acceptable: issuer key: ")))
		case seen[k.ID()]:
			return nil, fmt.Errorf("two keys have the ID %s", k.ID())
		default:
			seen[k.ID()] = true
			f.Keys = append(f.Keys, k)
		}
	}
	if len(f.Keys) == 0 {
		return nil, fmt.Errorf("none of its keys can be pinned: %s", strings.Join(f.Skipped, "; "))
	}
	slices.SortFunc(f.Keys, func(a, b *credential.IssuerKey) int { return strings.Compare(a.Text(), b.Text()) })
	return f, nil
}

// get reads one document. Unknown members are others' business; a member that stands
// twice is refused.
func get(ctx context.Context, c *http.Client, at string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	alone := *c
	alone.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := alone.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", at, resp.StatusCode)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != "application/json" && t != "application/jwk-set+json" {
		return fmt.Errorf("%s: not JSON but %.60q", at, resp.Header.Get("Content-Type"))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("%s: more than %d bytes", at, maxAnswer)
	}
	if json.Unmarshal(b, v) != nil {
		return fmt.Errorf("%s: not the JSON object that is wanted", at)
	}
	return nil
}

// Report compares what a charter pins of an issuer with what the issuer publishes.
// The lists are of key IDs.
type Report struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`
	Pinned  []string `json:"pinned"`           // and published
	New     []string `json:"new,omitzero"`     // published, not pinned: tokens by it will be refused
	Stale   []string `json:"stale,omitzero"`   // pinned, no longer published
	Changed []string `json:"changed,omitzero"` // another key under an ID that is pinned: an issuer never does that
	Skipped []string `json:"skipped,omitzero"` // published, and cannot be pinned
}

// Current reports whether every token of the issuer can be verified.
func (r *Report) Current() bool { return len(r.New) == 0 && len(r.Changed) == 0 }

// Compare makes the report of one issuer of a charter.
func Compare(name string, i charter.Issuer, f *Found) *Report {
	r := &Report{Name: name, URL: i.URL, Pinned: []string{}, Skipped: f.Skipped}
	pinned := map[string]string{}
	for _, text := range i.Keys {
		if k, err := credential.ParseIssuerKey(text); err == nil {
			pinned[k.ID()] = k.Text()
		}
	}
	for _, k := range f.Keys {
		switch text, ok := pinned[k.ID()]; {
		case !ok:
			r.New = append(r.New, k.ID())
		case text != k.Text():
			r.Changed = append(r.Changed, k.ID())
		default:
			r.Pinned = append(r.Pinned, k.ID())
		}
		delete(pinned, k.ID())
	}
	for id := range pinned {
		r.Stale = append(r.Stale, id)
	}
	slices.Sort(r.Stale)
	return r
}

// ErrChanged is wrapped by the error of Pin for an issuer that has another key under
// an ID that is pinned.
var ErrChanged = errors.New("issuer: another key under a pinned ID")

// Pin is the issuer with the keys that it publishes. Those that it no longer
// publishes stay, for requests that are signed with them and wait, unless prune
// drops them. A key that has changed under its ID is for people to look at.
func Pin(i charter.Issuer, f *Found, prune bool) (charter.Issuer, error) {
	if r := Compare("", i, f); len(r.Changed) > 0 {
		return i, fmt.Errorf("%w: %s: %s", ErrChanged, i.URL, strings.Join(r.Changed, ", "))
	}
	var keys []string
	for _, k := range f.Keys {
		keys = append(keys, k.Text())
	}
	if !prune {
		for _, text := range i.Keys {
			if !slices.Contains(keys, text) {
				keys = append(keys, text)
			}
		}
	}
	slices.Sort(keys)
	i.Keys = keys
	return i, nil
}
