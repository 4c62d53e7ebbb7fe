package appx

import (
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/opc"
)

// detailNames are the details of a package, in order.
var detailNames = []string{"capability", "executable", "full-trust", "extension", "needs-package", "target", "native", "catalogued", "uncatalogued", "entry"}

const maxEntries = 40 // shown

// wants is what a package's manifest asks of the machine. Bundles say nothing of it.
type wants struct {
	capabilities, executables, trusts, extensions, needs, targets []string
}

const maxWants = 4096

// read takes what an element of the manifest asks for.
func (w *wants) read(where string, t *opc.Tag) {
	add := func(l *[]string, words ...string) {
		s := strings.TrimSpace(strings.Join(words, " "))
		if s != "" && len(*l) < maxWants {
			*l = append(*l, s)
		}
	}
	switch {
	case where == "Package/Capabilities/"+t.Name:
		add(&w.capabilities, t.Get("Name"))
	case where == "Package/Dependencies/PackageDependency":
		add(&w.needs, t.Get("Name"), t.Get("MinVersion"))
	case where == "Package/Dependencies/TargetDeviceFamily":
		add(&w.targets, t.Get("Name"), t.Get("MinVersion"))
	case where == "Package/Applications/Application":
		add(&w.executables, t.Get("Id"), t.Get("Executable"))
		if t.Get("EntryPoint") == "Windows.FullTrustApplication" {
			add(&w.trusts, t.Get("Id"))
		}
	case t.Name == "Extension":
		add(&w.extensions, t.Get("Category"), t.Get("Executable"))
	}
}

func (p *pkg) details(before int, f *found) []format.Fact {
	d := format.NewDetails(before)
	d.List("capability", 60, p.wants.capabilities)
	d.List("executable", 20, p.wants.executables)
	d.List("full-trust", 20, p.wants.trusts)
	d.List("extension", 30, p.wants.extensions)
	d.List("needs-package", 20, p.wants.needs)
	d.List("target", 10, p.wants.targets)
	d.List("native", 40, p.z.Native())
	d.List("catalogued", 20, f.named)
	d.List("uncatalogued", 20, f.unfit)
	d.List("entry", maxEntries, p.z.Describe(func(n string) bool { return n == entrySignature || n == entryTypes || n == entryBlockMap }))
	return d.Facts()
}
