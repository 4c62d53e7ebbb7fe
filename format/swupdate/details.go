package swupdate

import (
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// told are the settings of a file that say where it goes and what it does there.
var told = []string{
	"type", "device", "path", "name", "version", "mtdname", "volume", "offset", "data", "properties", "filesystem", "encrypted", "compressed", "hook",
	"installed-directly", "install-if-different", "install-if-higher", "preserve-attributes",
}

// details say of each file what it is for: an image, a script that runs, or a file that
// is copied. They follow from sw-description like the facts, and stand behind those:
// plans from before there were any have none.
func (d *description) details(before int) []format.Fact {
	out := format.NewDetails(before)
	kinds := map[string][]string{}
	for _, g := range d.groups {
		kind := "image"
		switch {
		case strings.HasSuffix(g.path, ".scripts"):
			kind = "script"
		case strings.HasSuffix(g.path, ".files"):
			kind = "copies"
		}
		text := g.filename
		if where := strings.TrimPrefix(strings.TrimPrefix(g.path, ".software"), "."); strings.Contains(where, ".") {
			text += " in " + where
		}
		if len(g.more) > 0 {
			text += ": " + strings.ReplaceAll(strings.Join(g.more, ", "), `"`, "")
		}
		kinds[kind] = append(kinds[kind], text)
	}
	for _, k := range []string{"script", "image", "copies"} {
		out.List(k, 40, kinds[k])
	}
	return out.Facts()
}

// all are facts and details.
func (d *description) all() []format.Fact {
	facts := d.facts()
	return append(facts, d.details(len(facts))...)
}

// told reports whether facts are those of sw-description, with details or without.
func (d *description) told(facts []format.Fact) bool {
	return slices.Equal(d.all(), facts) || slices.Equal(d.facts(), facts)
}
