package quorum

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

func receiptOf(t *testing.T, seed byte) (*receipt.Key, []byte) {
	t.Helper()
	priv := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	key, err := receipt.NewKey(priv.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := statement.Encode(statement.Receipt{Deployment: "d", Number: 1, Request: statement.ID{1},
		Charter: statement.CharterRef{Version: 1, ID: statement.ID{2}}, Command: statement.Sign, Outcome: statement.Refused,
		Code: "quorum-pending", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Endorsements: []statement.ID{}})
	if err != nil {
		t.Fatal(err)
	}
	env, err := key.Sign(payload, func(m []byte) ([]byte, error) { return ed25519.Sign(priv, m), nil })
	if err != nil {
		t.Fatal(err)
	}
	return key, env
}

// A receipt that was verified says the same the second time; another key's, and
// one in which a single byte differs, is verified for itself.
func TestCacheReceipt(t *testing.T) {
	c := NewCache(1)
	key, env := receiptOf(t, 1)
	other, _ := receiptOf(t, 2)
	for range 2 {
		rc, id, err := c.Receipt(key, env)
		if err != nil || rc.Number != 1 || id.IsZero() {
			t.Fatalf("%+v, %v", rc, err)
		}
		rc.Number = 7 // a copy
		if _, _, err := c.Receipt(other, env); err == nil {
			t.Fatal("another key's receipt verifies")
		}
		for i := range env {
			bad := bytes.Clone(env)
			bad[i] ^= 1
			if _, _, err := c.Receipt(key, bad); err == nil {
				t.Fatalf("a receipt with another byte %d verifies", i)
			}
		}
	}
	if n := len(c.read.by); n != 1 {
		t.Errorf("%d readings are kept: want the one that verified", n)
	}
	var none *Cache
	if _, _, err := none.Receipt(key, env); err != nil {
		t.Errorf("without a cache: %v", err)
	}
}

// A request is never taken for an endorsement that was read before, nor the other
// way round, and what is not accepted is not kept.
func TestCacheReadsAsWhatItIs(t *testing.T) {
	c := NewCache(1)
	_, env := receiptOf(t, 1)
	for range 2 {
		if _, _, _, err := c.Request(env); err == nil {
			t.Error("a receipt is read as a request")
		}
		if _, _, _, err := c.Endorsement(env); err == nil {
			t.Error("a receipt is read as an endorsement")
		}
	}
	if n := len(c.read.by); n != 0 {
		t.Errorf("%d readings of what was refused", n)
	}
}

// What is kept of what was read is bounded, however much there is.
func TestCacheReadingsAreBounded(t *testing.T) {
	c := NewCache(1)
	large := &statement.Envelope{Payload: make([]byte, maxEnvelope)}
	c.remember(readingKey("large"), reading{env: large, size: maxEnvelope + 1})
	if len(c.read.by) != 0 {
		t.Error("an envelope over the limit is kept")
	}
	const n = 3 * maxRead / maxEnvelope
	for i := range n {
		c.remember(readingKey(fmt.Sprint(i)), reading{size: maxEnvelope})
		c.remember(readingKey(fmt.Sprint(i)), reading{size: maxEnvelope}) // again: counts once
	}
	if len(c.read.by) != maxRead/maxEnvelope || c.read.size != maxRead || len(c.read.ring) != len(c.read.by) {
		t.Errorf("%d readings, %d in order, %d bytes: want %d and %d", len(c.read.by), len(c.read.ring), c.read.size, maxRead/maxEnvelope, maxRead)
	}
	if _, ok := c.reading(readingKey(fmt.Sprint(n - 1))); !ok {
		t.Error("the youngest is gone")
	}
	if _, ok := c.reading(readingKey("0")); ok {
		t.Error("the oldest has stayed")
	}
}
