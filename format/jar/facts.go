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

// manifestFacts are those that follow from a manifest with this main section, and how
// many entries have a digest in it.
func manifestFacts(main *jarsig.Section, digested func(yield func(name string)) error) ([]format.Fact, int, error) {
	var n names
	if err := digested(n.add); err != nil {
		return nil, 0, err
	}
	return n.facts(main), n.count, nil
}

// names is what the names of an archive's files say of it.
type names struct {
	count       int
	bundle, war bool
}

func (n *names) add(name string) {
	n.count++
	n.bundle = n.bundle || name == "BundleConfig.pb"
	n.war = n.war || strings.HasPrefix(name, "WEB-INF/")
}

// facts are those of a manifest with this main section over the named files.
func (n *names) facts(main *jarsig.Section) []format.Fact {
	kind := "jar"
	switch {
	case n.bundle:
		kind = "app bundle"
	case n.war:
		kind = "war"
	}
	out := []format.Fact{{Name: "kind", Value: kind}, {Name: "entries", Value: strconv.Itoa(n.count)}}
	for _, d := range described {
		if v, ok := main.Get(d.attribute); ok && v != "" {
			out = append(out, format.Fact{Name: d.fact, Value: single.Text([]byte(v), 1024)})
		}
	}
	return out
}

// facts all follow from the plan: Assemble compares them. Details stand behind them.
func (b *body) facts(m *jarsig.Draft) ([]format.Fact, error) {
	out, _, err := manifestFacts(&m.Kept.Main, m.Digested)
	if err != nil {
		return nil, err
	}
	for _, s := range b.Signers {
		out = append(out, format.Fact{Name: "signed-already", Value: s})
	}
	return out, nil
}
