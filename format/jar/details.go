package jar

import (
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
)

// detailNames are the details of an archive, in order.
var detailNames = []string{"native", "nested", "release-of", "service-provider", "entry"}

const maxEntries = 60 // shown

// details are what stands in the directory of the archive.
func (r *archive) details(before int) []format.Fact {
	d := format.NewDetails(before)
	d.List("native", 40, r.Native())
	var nested, releases, services []string
	for i := range r.Entries {
		n := r.Entries[i].Name
		if low := strings.ToLower(n); strings.HasSuffix(low, ".jar") || strings.HasSuffix(low, ".war") {
			nested = append(nested, n)
		}
		if v, ok := strings.CutPrefix(n, "META-INF/versions/"); ok {
			if v, _, ok := strings.Cut(v, "/"); ok {
				releases = append(releases, "Java "+v)
			}
		}
		if s, ok := strings.CutPrefix(n, "META-INF/services/"); ok {
			services = append(services, s)
		}
	}
	d.List("nested", 40, nested)
	d.List("release-of", 16, releases)
	d.List("service-provider", 30, services)
	d.List("entry", maxEntries, r.Describe(func(n string) bool { k, _ := jarsig.KindOf(n); return k != jarsig.Content }))
	return d.Facts()
}
