//go:build unix

package soft

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 6: whoever lets go of the file keeps its keys, and writes nothing.
func TestInvariant6Detach(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "keys")
	p, err := Create(path, pass())
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.Generate(ctx, "soft:runtime", sigalg.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, pass()); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v while it is open", err)
	}
	for range 2 {
		if err := p.Detach(); err != nil {
			t.Fatal(err)
		}
	}
	other, err := Open(path, pass())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	same, err := other.Open(ctx, "soft:runtime")
	if err != nil {
		t.Fatal(err)
	}
	a, err := k.Sign(ctx, sigalg.PureEd25519, []byte("order"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := same.Sign(ctx, sigalg.PureEd25519, []byte("order"))
	if err != nil || string(a) != string(b) {
		t.Fatalf("another key: %v", err)
	}
	if _, err := p.Open(ctx, "soft:runtime"); err != nil {
		t.Error(err)
	}
	_, err = p.Generate(ctx, "soft:more", sigalg.Ed25519)
	for what, err := range map[string]error{"generate": err, "destroy": p.Destroy(ctx, "soft:runtime"), "passphrase": p.ChangePassphrase(ctx, pass())} {
		if !errors.Is(err, ErrDetached) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What the other writes is whole.
	if _, err := other.Generate(ctx, "soft:more", sigalg.Ed25519); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := k.Sign(ctx, sigalg.PureEd25519, []byte("order")); err == nil {
		t.Error("a closed provider's key signs")
	}
	if err := p.Detach(); err == nil {
		t.Error("closed, and let go of")
	}
}
