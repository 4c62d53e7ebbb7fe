package keeper

import (
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// The keeper with the encrypted keystore that small deployments have, over a
// restart of both.
func TestSoftKeys(t *testing.T) {
	w := newWorld(t, func(c *charter.Charter) {
		c.Keys["nightly"] = charter.Key{URI: "soft:nightly", Algorithm: sigalg.P384}
	})
	path := filepath.Join(w.dir, "keystore")
	p, err := soft.Create(path, []byte("a long passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	w.config.Providers["soft"] = p
	w.reopen()
	w.generate("nightly")
	items := plainItems(t, 10)
	r, out := w.executed(w.signOrder("nightly", items))
	w.checkSignatures(r, out, items)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = soft.Open(path, []byte("a long passphrase")); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	w.config.Providers["soft"] = p
	w.reopen()
	r, out = w.executed(w.signOrder("nightly", items))
	w.checkSignatures(r, out, items)
	w.executed(w.order(w.request("alice", keyCommand(statement.KeyDestroy, "nightly")), "bob", "carol"))
	w.refusedWith("key-destroyed", w.signOrder("nightly", items))
	w.sound()
}
