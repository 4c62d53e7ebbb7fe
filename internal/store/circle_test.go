package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
)

func TestCircleBundles(t *testing.T) {
	pg := pgtest.Start(t)
	for name, dsn := range map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "greatseal.db"), "postgres": pg.Database()} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			ctx, now := t.Context(), time.Unix(1_800_000_000, 0).UTC()
			a, b := [32]byte{1}, [32]byte{2}
			if _, err := s.CircleBundle(ctx, a); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("nothing was put: %v", err)
			}
			for i, put := range []struct {
				root  [32]byte
				bytes string
			}{{b, "old"}, {a, "one"}, {b, "new"}} {
				var old [32]byte
				if put.bytes == "new" {
					// Who has not seen what is there does not replace it.
					for _, of := range [][32]byte{{}, sha256.Sum256([]byte("other"))} {
						if err := s.PutCircleBundle(ctx, put.root, of, []byte("late"), now); !errors.Is(err, store.ErrConflict) {
							t.Fatalf("it is replaced: %v", err)
						}
					}
					old = sha256.Sum256([]byte("old"))
				}
				if err := s.PutCircleBundle(ctx, put.root, old, []byte(put.bytes), now.Add(time.Duration(i)*time.Second)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.CircleBundle(ctx, b)
			if err != nil || !bytes.Equal(got.Bundle, []byte("new")) || got.Digest != sha256.Sum256([]byte("new")) || !got.At.Equal(now.Add(2*time.Second)) {
				t.Fatalf("%+v, %v", got, err)
			}
			list, err := s.CircleBundles(ctx)
			if err != nil || len(list) != 2 || list[0].Root != a || list[1].Digest != got.Digest || list[1].Bundle != nil {
				t.Fatalf("%+v, %v", list, err)
			}
		})
	}
}
