package jar

import (
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
)

// attributes of a manifest that say what it is, in the order of facts.
var described = [...]struct{ attribute, fact string }{
	{"Implementation-Title", "title"}, {"Implementation-Version", "version"}, {"Implementation-Vendor", "vendor"},
	{"Bundle-SymbolicName", "bundle"}, {"Bundle-Version", "bundle-version"}, {"Automatic-Module-Name", "module"},
	{"Main-Class", "main-class"}, {"Launcher-Agent-Class", "launcher-agent"}, {"Premain-Class", "agent"}, {"Agent-Class", "agent"},
	{"Class-Path", "class-path"}, {"Permissions", "permissions"}, {"Multi-Release", "multi-release"},
}

// manifestFacts are those that follow from a manifest, and how many entries have a
// digest in it.
func manifestFacts(m *jarsig.File) ([]format.Fact, int, error) {
	var names []string
	for i := range m.Sections {
		s := &m.Sections[i]
		ds, err := s.Digests("")
		if err != nil {
			return nil, 0, err
		}
		if len(ds) > 0 {
			names = append(names, s.Name)
		}
	}
	return factsOf(m, names), len(names), nil
}

// factsOf are those of a manifest over the named files.
func factsOf(m *jarsig.File, names []string) []format.Fact {
	kind := "jar"
	for _, n := range names {
		switch {
		case n == "BundleConfig.pb":
			kind = "app bundle"
		case strings.HasPrefix(n, "WEB-INF/") && kind == "jar":
			kind = "war"
		}
	}
	out := []format.Fact{{Name: "kind", Value: kind}, {Name: "entries", Value: strconv.Itoa(len(names))}}
	for _, d := range described {
		if v, ok := m.Main.Get(d.attribute); ok && v != "" {
			out = append(out, format.Fact{Name: d.fact, Value: single.Text([]byte(v), 1024)})
		}
	}
	return out
}

// facts all follow from the plan: Assemble compares them. Details stand behind them.
func (b *body) facts(m *jarsig.File) ([]format.Fact, error) {
	out, _, err := manifestFacts(m)
	if err != nil {
		return nil, err
	}
	for _, s := range b.Signers {
		out = append(out, format.Fact{Name: "signed-already", Value: s})
	}
	return out, nil
}
