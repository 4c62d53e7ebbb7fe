package instance_test

import (
	"bytes"
	"crypto/sha256"
	"path/filepath"
	"sync"
	"testing"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
)

func bundleOf(t testing.TB, b []byte) *circle.Bundle {
	t.Helper()
	out, err := circle.ReadBundle(bytes.NewReader(b))
	ok(t, err)
	return out
}

// Two replicas of a protected instance run at the same time over one database and one
// file of keys, and are one instance to agents: the same key signs orders, the same
// authority certifies.
func TestReplicasShareTheirKeys(t *testing.T) {
	app := newApplication(t)
	s := newSide(t, app)
	dsn, keys := pgtest.Start(t).Database(), filepath.Join(t.TempDir(), "keys")
	sites := make([]*site, 2)
	first, second := openStore(t, dsn), openStore(t, dsn)
	var wg sync.WaitGroup
	wg.Go(func() { sites[0] = s.open(t, first, app, keys) })
	wg.Go(func() { sites[1] = s.open(t, second, app, keys) })
	wg.Wait()
	for _, p := range sites {
		if p == nil {
			t.Fatal("a replica did not open")
		}
	}
	if !bytes.Equal(sites[0].Runtime, sites[1].Runtime) || len(sites[0].Runtime) == 0 {
		t.Fatal("replicas sign orders with keys of their own")
	}
	a, b := sites[0].Queue.Authority().Certificate(), sites[1].Queue.Authority().Certificate()
	if !bytes.Equal(a, b) {
		t.Fatal("replicas have authorities of their own")
	}
	// One goes; the other one's keys stay, and a third takes its place.
	ok(t, sites[0].Close())
	third := s.open(t, openStore(t, dsn), app, keys)
	if !bytes.Equal(third.Runtime, sites[1].Runtime) {
		t.Fatal("another key after a restart")
	}
	// What one of them has taken up, the other one hears through the database.
	s.publish(third.Runtime)
	bundle, err := s.Circles.Bundle(s.trial.Root)
	ok(t, err)
	ok(t, third.Circles.Apply(t.Context(), bundleOf(t, bundle)))
	ok(t, sites[1].Circles.Hear(t.Context()))
	if _, err := sites[1].Circles.Trusted(); err != nil {
		t.Fatal(err)
	}
	// Somebody who can write to the database forges nothing.
	got, err := first.CircleBundle(t.Context(), s.trial.Root)
	ok(t, err)
	for i := 0; i < len(got.Bundle); i += len(got.Bundle)/7 + 1 {
		forged := bytes.Clone(got.Bundle)
		forged[i] ^= 1
		old, err := first.CircleBundle(t.Context(), s.trial.Root)
		ok(t, err)
		ok(t, first.PutCircleBundle(t.Context(), s.trial.Root, sha256.Sum256(old.Bundle), forged, sites[1].Now()))
		_ = sites[1].Circles.Hear(t.Context())
		if st := sites[1].Circles.Status()[0]; st.Version != 1 {
			t.Fatalf("%+v", st)
		}
		if _, err := sites[1].Circles.Trusted(); err != nil {
			t.Fatalf("a forged bundle ends the trust: %v", err)
		}
	}
}
