package trust

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/record"
)

// Change is one difference between two versions.
type Change struct {
	Path   string `json:"path"`            // "instances.prod.enforcement"
	From   string `json:"from,omitzero"`   // "" where it was not there
	To     string `json:"to,omitzero"`     // "" where it is no longer there
	Weaker bool   `json:"weaker,omitzero"` // less is enforced, or more is believed
}

func (c Change) String() string {
	s := c.Path + ": "
	switch {
	case c.From == "":
		s += "added: " + c.To
	case c.To == "":
		s += "removed: " + c.From
	default:
		s += c.To + " instead of " + c.From
	}
	if c.Weaker {
		s += " (weaker)"
	}
	return s
}

// Diff lists what b changes of a, sorted by path, for those who are to agree to b.
func Diff(a, b *Statement) []Change {
	d := &differ{}
	d.value("deployment", a.Deployment, b.Deployment, true)
	d.value("freshness", seconds(a.Freshness), seconds(b.Freshness), longer(a.Freshness, b.Freshness))
	d.value("vendorBuilds", fmt.Sprint(a.VendorBuilds), fmt.Sprint(b.VendorBuilds), b.VendorBuilds)
	d.value("expires", a.Expires.String(), b.Expires.String(), false)
	for _, n := range keys(a.Instances, b.Instances) {
		x, y := a.Instances[n], b.Instances[n]
		added := slices.ContainsFunc(y.RuntimeKeys, func(k []byte) bool {
			return !slices.ContainsFunc(x.RuntimeKeys, func(l []byte) bool { return bytes.Equal(k, l) })
		})
		weaker := x.Role != y.Role || y.Enforcement != x.Enforcement && Stricter(x.Enforcement, y.Enforcement) == x.Enforcement || added
		d.value("instances."+n, present(a.Instances, n, Instance.String), present(b.Instances, n, Instance.String), weaker)
	}
	d.lists("anchors.", byName(a.Anchors, func(x record.Anchor) string { return x.Name }, AnchorText), byName(b.Anchors, func(x record.Anchor) string { return x.Name }, AnchorText), true, false)
	print := func(x record.Revocation) string { return x.Fingerprint }
	d.lists("revocations.", byName(a.Revocations, print, RevocationText), byName(b.Revocations, print, RevocationText), false, true)
	d.lists("configurations.", texts(a.Configurations), texts(b.Configurations), false, true)
	ref := func(f record.Floor) string { return f.Ref.Table + "." + strings.Join(f.Ref.Key, ".") }
	from := func(f record.Floor) string { return fmt.Sprintf("revision %d", f.Revision) }
	d.lists("floors.", byName(a.Floors, ref, from), byName(b.Floors, ref, from), false, true)
	d.lists("timestampRoots.", byName(a.TimestampRoots, fingerprint, subject), byName(b.TimestampRoots, fingerprint, subject), true, false)
	slices.SortStableFunc(d.out, func(x, y Change) int { return cmp.Compare(x.Path, y.Path) })
	return d.out
}

type differ struct{ out []Change }

func (d *differ) value(path, from, to string, weaker bool) {
	if from != to {
		d.out = append(d.out, Change{path, from, to, weaker})
	}
}

// lists compares entries by name. An entry that changes counts as weaker where one
// more, or one less, does: it may be either.
func (d *differ) lists(prefix string, a, b map[string]string, gain, loss bool) {
	for _, n := range keys(a, b) {
		weaker := true
		switch {
		case a[n] == "":
			weaker = gain
		case b[n] == "":
			weaker = loss
		}
		d.value(prefix+n, a[n], b[n], weaker)
	}
}

func keys[V any](a, b map[string]V) []string {
	var out []string
	for _, m := range []map[string]V{a, b} {
		for k := range m {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func present[V any](m map[string]V, n string, show func(V) string) string {
	if v, ok := m[n]; ok {
		return show(v)
	}
	return ""
}

func byName[V any](list []V, name, show func(V) string) map[string]string {
	out := make(map[string]string, len(list))
	for _, v := range list {
		out[name(v)] = show(v)
	}
	return out
}

func texts(m map[string]record.Configuration) map[string]string {
	out := make(map[string]string, len(m))
	for id, c := range m {
		sum := c.Digest(id)
		out[id] = ConfigurationText(c) + ", digest " + hex.EncodeToString(sum[:8])
	}
	return out
}

func seconds(n uint64) string {
	if n == 0 {
		return "none asked for"
	}
	return fmt.Sprintf("%d s", n)
}

// longer reports whether b asks for less than a: for none, or for an older one.
func longer(a, b uint64) bool { return a > 0 && (b == 0 || b > a) }
