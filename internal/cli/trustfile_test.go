package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A draft that says something which is not understood, or contradicts itself, makes
// no statement.
func TestCircleFile(t *testing.T) {
	a := &App{Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
	for name, x := range map[string]struct{ text, want string }{
		"good":               {"expires: 24h\nfreshness: 15m\ninstances: {dev: {role: trusted}, prod: {role: protected, enforcement: on}}\nfloors: [{table: b, key: [x], revision: 2}, {table: a, key: [y], revision: 1}]\n", ""},
		"unknown member":     {"expires: 24h\nenforce: on\n", "enforce"},
		"no expiry":          {"freshness: 15m\n", "expires"},
		"freshness":          {"expires: 24h\nfreshness: soon\n", "freshness"},
		"two documents":      {"expires: 24h\n---\nexpires: 48h\n", "more than one"},
		"runtime key":        {"expires: 24h\ninstances: {prod: {role: protected, runtimeKeys: [AAAA]}}\n", "AAAA"},
		"revocation of both": {"expires: 24h\nrevocations: [{certificate: a.pem, fingerprint: aa}]\n", "revocations[0]"},
		"no certificate":     {"expires: 24h\nanchors: [{name: x, purposes: [ecc_queue]}]\n", "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "circle.yaml")
			if err := os.WriteFile(path, []byte(x.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := readCircleFile(path)
			if err == nil {
				s, serr := c.statement(a, filepath.Dir(path))
				if err = serr; err == nil {
					if string(s.Instances["prod"].Enforcement) != "on" || s.Freshness != 900 || s.Floors[0].Ref.Table != "a" || s.Expires.Sub(s.Created) != 24*time.Hour {
						t.Errorf("%+v", s)
					}
				}
			}
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
}
