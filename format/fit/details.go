package fit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

// details say where the images go and by which key U-Boot will judge them. They follow
// from the tree like the facts, and stand behind those: plans from before there were
// any have none.
func (t *tree) details(before int) []format.Fact {
	d := format.NewDetails(before)
	if p := t.root.prop("timestamp"); p != nil && len(p.value) == 4 {
		d.Say("built", time.Unix(int64(binary.BigEndian.Uint32(p.value)), 0).UTC().Format(time.RFC3339))
	}
	var addresses, hidden, keys, weak []string
	for _, n := range t.images {
		var at []string
		for _, name := range []string{"load", "entry"} {
			if p := n.prop(name); p != nil && (len(p.value) == 4 || len(p.value) == 8) {
				at = append(at, fmt.Sprintf("%s 0x%x", name, number(p.value)))
			} else if p != nil {
				at = append(at, fmt.Sprintf("%s of %d bytes: %.16x", name, len(p.value), p.value))
			}
		}
		if len(at) > 0 {
			addresses = append(addresses, n.name+": "+strings.Join(at, ", "))
		}
		for _, c := range n.children {
			switch algo := c.text("algo"); {
			case c.name == "cipher":
				hidden = append(hidden, fmt.Sprintf("%s: %s with the key %s", n.name, algo, c.text("key-name-hint")))
			case algo == "crc32" || algo == "md5" || algo == "sha1":
				weak = append(weak, n.name+": "+algo)
			}
		}
	}
	for _, c := range t.configs {
		key := c.key
		if key == "" && len(c.node.children) == 1 { // nobody signs: it is looked at
			key = c.node.children[0].text("key-name-hint")
		}
		if key != "" {
			keys = append(keys, c.node.name+": "+key)
		}
	}
	d.List("load-address", 60, addresses)
	d.List("encrypted", 20, hidden)
	d.List("weak-digest", 20, weak)
	d.List("key-name", 40, keys)
	return d.Facts()
}

func number(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// all are facts and details.
func (t *tree) all() []format.Fact {
	facts := t.facts()
	return append(facts, t.details(len(facts))...)
}

// told reports whether facts are those of the tree, with details or without.
func (t *tree) told(facts []format.Fact) bool {
	return slices.Equal(t.all(), facts) || slices.Equal(t.facts(), facts)
}
