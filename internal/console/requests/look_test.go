package requests

import (
	"context"
	"errors"
	"testing"
)

// However many pages are left open, few of them judge an inbox at a time.
func TestOpenPagesTakeTurns(t *testing.T) {
	a := &area{looks: make(chan struct{}, looksAtOnce)} // without a server: nobody is to ask it
	for range looksAtOnce {
		a.looks <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.look(ctx, "alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("one more looks: %v", err)
	}
}
