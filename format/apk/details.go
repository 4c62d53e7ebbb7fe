package apk

import (
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
)

const maxEntries = 40 // shown

// details are the rest of the manifest and what stands in the directory of the archive.
func (r *archive) details(m *manifest, before int) []format.Fact {
	d := format.NewDetails(before)
	d.List("permission", 100, m.Permissions)
	d.List("declares-permission", 20, m.Declares)
	d.List("needs-feature", 20, m.Features)
	d.List("exported", 40, m.Exported)
	d.Say("application", m.Application)
	for _, f := range []struct {
		name string
		is   bool
	}{{"test-only", m.TestOnly}, {"cleartext-traffic", m.Cleartext}, {"backup", m.Backup}} {
		if f.is {
			d.Say(f.name, "true")
		}
	}
	d.Say("shared-user", m.SharedUser)
	var abis, dex []string
	for i := range r.Entries {
		n := r.Entries[i].Name
		if rest, ok := strings.CutPrefix(n, "lib/"); ok {
			if abi, file, ok := strings.Cut(rest, "/"); ok && file != "" {
				abis = append(abis, abi)
			}
		}
		if strings.HasSuffix(n, ".dex") {
			dex = append(dex, n)
		}
	}
	d.List("abi", 10, abis)
	d.List("native", 40, r.Native())
	d.List("dex", 20, dex)
	d.List("entry", maxEntries, r.Describe(func(n string) bool { k, _ := jarsig.KindOf(n); return k != jarsig.Content }))
	return d.Facts()
}
