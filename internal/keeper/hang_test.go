package keeper

import (
	"context"
	"testing"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/statement"
)

// A device that hangs while it stamps does not keep its key from being suspended.
func TestSuspendWhileTheAuthorityHangs(t *testing.T) {
	w := newWorld(t)
	w.executed(w.order(w.request("alice", generateCommand("tsa", 90)), "bob"))
	suspend := w.order(w.request("alice", keyCommand(statement.KeySuspend, "tsa")), "bob")
	w.provider.mu.Lock()
	w.provider.wait = make(chan struct{}) // nobody ever closes it
	w.provider.mu.Unlock()
	used := w.provider.uses.Load()
	done := make(chan error, 1)
	go func() {
		_, err := w.k.Timestamp(context.Background(), stampRequest(t, "x"))
		done <- err
	}()
	for w.provider.uses.Load() == used {
		select {
		case err := <-done:
			t.Fatalf("not stamping: %v", err)
		default:
		}
	}
	w.executed(suspend)
	if err := <-done; ErrorCode(err) != "timestamp" {
		t.Errorf("a timestamp by a suspended key: %v", err)
	}
}

// mute is a provider whose keys are there and that answers nothing else.
type mute struct{ *folder }

func (m mute) Health(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// A provider that hangs is not usable; the status says so and does not hang too.
func TestStatusWhileAProviderHangs(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	w.config.Providers = map[string]key.Provider{"test": mute{w.provider}}
	w.reopen()
	st, err := w.k.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range st.Keys {
		if k.Health == "" {
			t.Errorf("key %s of a provider that hangs is called usable", k.Name)
		}
	}
}
