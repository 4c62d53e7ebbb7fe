package nuget

import (
	"path"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/opc"
)

// detailNames are the details of a package, in order.
var detailNames = []string{"title", "project-url", "repository", "license", "package-type", "dependency", "script", "native", "entry"}

const (
	maxEntries = 40 // shown
	maxNeeds   = 4096
)

// about is what the .nuspec says besides.
type about struct {
	title, project, repository, license string
	types, needs                        []string
}

// read takes an element that begins; ended one that ends, with its text.
func (b *about) read(where string, t *opc.Tag) {
	switch where {
	case "package/metadata/repository":
		b.repository = strings.TrimSpace(t.Get("url") + " " + t.Get("commit"))
	case "package/metadata/packageTypes/packageType":
		if len(b.types) < maxNeeds {
			b.types = append(b.types, t.Get("name"))
		}
	case "package/metadata/dependencies/dependency", "package/metadata/dependencies/group/dependency":
		if len(b.needs) < maxNeeds {
			b.needs = append(b.needs, strings.TrimSpace(t.Get("id")+" "+t.Get("version")))
		}
	}
}

func (b *about) ended(name, text string) {
	v, ok := opc.Unescape(strings.TrimSpace(text))
	if !ok {
		return
	}
	switch name {
	case "title":
		b.title = v
	case "projectUrl":
		b.project = v
	case "license":
		b.license = v
	}
}

func (p *pkg) details(before int) []format.Fact {
	d := format.NewDetails(before)
	d.Say("title", p.about.title)
	d.Say("project-url", p.about.project)
	d.Say("repository", p.about.repository)
	d.Say("license", p.about.license)
	d.List("package-type", 10, p.about.types)
	d.List("dependency", 60, p.about.needs)
	var scripts []string
	for i := range p.z.Entries {
		switch n := p.z.Entries[i].Name; strings.ToLower(path.Ext(n)) {
		case ".ps1", ".psm1", ".targets", ".props", ".bat", ".cmd", ".sh", ".js", ".vbs":
			scripts = append(scripts, n)
		}
	}
	d.List("script", 30, scripts)
	d.List("native", 40, p.z.Native())
	d.List("entry", maxEntries, p.z.Describe(func(n string) bool { return n == entrySignature }))
	return d.Facts()
}
