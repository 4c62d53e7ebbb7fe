//go:build unix

package soft

import (
	"context"
	"errors"
	"testing"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Whoever waits for a processor can give up, and finds what has become of the key
// meanwhile: one that was destroyed signs no more. Quick keys do not wait.
func TestWaitingForATurn(t *testing.T) {
	p, _ := fresh(t)
	k := generateAs(t, p, "rsa", sigalg.RSA3072)
	quick := generateAs(t, p, "ed", sigalg.Ed25519)
	take := func() {
		for range cap(p.turns) {
			p.turns <- struct{}{}
		}
	}
	give := func() {
		for range cap(p.turns) {
			<-p.turns
		}
	}
	digest := sigalg.RSAPKCS1SHA256.Input([]byte("message"))
	take()
	if _, err := quick.Sign(t.Context(), sigalg.PureEd25519, []byte("message")); err != nil {
		t.Errorf("a quick key waits: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	sign := func(ctx context.Context) {
		_, err := k.Sign(ctx, sigalg.RSAPKCS1SHA256, digest)
		done <- err
	}
	go sign(ctx)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	go sign(t.Context())
	if err := p.Destroy(t.Context(), "soft:rsa"); err != nil {
		t.Fatal(err)
	}
	give()
	if err := <-done; !errors.Is(err, key.ErrNotFound) {
		t.Errorf("signed with a key that was destroyed: %v", err)
	}
	if len(p.turns) != 0 {
		t.Errorf("%d turns are not given back", len(p.turns))
	}
}
