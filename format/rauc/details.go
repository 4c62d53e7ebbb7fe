package rauc

import (
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// details are what else a manifest says: of its images, of the bundle, and what users
// put into it for others. They follow from the manifest like the facts, and stand behind
// those: plans from before there were any have none.
func (m *manifest) details(before int) []format.Fact {
	d := format.NewDetails(before)
	images, order := map[string][]string{}, []string{}
	var bundle, meta []string
	for _, l := range m.lines {
		text := l.key + "=" + l.value
		switch name, image := strings.CutPrefix(l.section, "image."); {
		case image && !slices.Contains([]string{"filename", "sha256", "hooks"}, l.key):
			if images[name] == nil {
				order = append(order, name)
			}
			images[name] = append(images[name], text)
		case l.section == "bundle" && l.key != "format" && !strings.HasPrefix(l.key, "verity-"):
			bundle = append(bundle, text)
		case strings.HasPrefix(l.section, "meta."):
			meta = append(meta, strings.TrimPrefix(l.section, "meta.")+" "+text)
		}
	}
	var options []string
	for _, n := range order {
		options = append(options, n+": "+strings.Join(images[n], ", "))
	}
	d.List("image-option", 40, options)
	d.List("bundle-option", 20, bundle)
	d.List("meta", 40, meta)
	return d.Facts()
}

// all are facts and details.
func (m *manifest) all() []format.Fact {
	facts := m.facts()
	return append(facts, m.details(len(facts))...)
}
