package keeper

import (
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
)

// Purposes are the facts "for": format.Purposed.
func (plain) Purposes(p *format.Plan) (list []string, err error) {
	for _, f := range p.Facts {
		if f.Name == "for" {
			list = append(list, f.Value)
		}
	}
	return list, nil
}

// A request under a policy for one purpose, with a plan that is for another: what the
// request says that it is for does not count.
func TestAttackAnotherPurposeInThePlan(t *testing.T) {
	w := newWorld(t, func(c *charter.Charter) {
		p := c.Policies["release"]
		p.Purposes = []string{"*", "ecc_queue"}
		c.Policies["release"] = p
	})
	w.generate("release")
	order := func(name string, purposes ...string) *Order {
		p := &format.Plan{Format: "plain", Version: 1, Digest: "sha256", Size: 3, Content: make([]byte, 32), Body: []byte{}}
		for _, s := range purposes {
			p.Facts = append(p.Facts, format.Fact{Name: "for", Value: s})
		}
		items := [][]byte{encodeItem(t, p, name)}
		c := w.signCommand("release", items)
		c.Sign.Purpose = "ecc_queue"
		o := w.order(w.request("alice", c), "bob", "carol")
		o.Items = items
		return o
	}
	w.executed(order("one", "ecc_queue"))
	w.executed(order("both", "*", "ecc_queue"))
	w.executed(order("none"))
	w.unused(func() {
		w.refusedWith("purpose-not-allowed", order("another", "deploy"))
		w.refusedWith("purpose-not-allowed", order("one of two", "ecc_queue", "deploy"))
	})
}
