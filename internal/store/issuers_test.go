package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
)

func TestIssuers(t *testing.T) {
	pg := pgtest.Start(t)
	for name, dsn := range map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "greatseal.db"), "postgres": pg.Database()} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			ctx, now := t.Context(), time.Unix(1_800_000_000, 0).UTC()
			put := func(i store.IssuerSeen) {
				t.Helper()
				if err := s.PutIssuer(ctx, i); err != nil {
					t.Fatal(err)
				}
			}
			put(store.IssuerSeen{URL: "https://b", Tried: now, Problem: "away"})
			put(store.IssuerSeen{URL: "https://a", Keys: "[]", Seen: now, Tried: now})
			put(store.IssuerSeen{URL: "https://a", Tried: now.Add(time.Hour), Problem: "away"})
			put(store.IssuerSeen{URL: "https://a", Keys: "[1]", Seen: now, Tried: now.Add(time.Minute)}) // a slower replica
			got, err := s.IssuersSeen(ctx)
			want := []store.IssuerSeen{
				{URL: "https://a", Keys: "[]", Seen: now, Tried: now.Add(time.Hour), Problem: "away"},
				{URL: "https://b", Tried: now, Problem: "away"},
			}
			if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}
