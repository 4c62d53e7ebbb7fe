package release

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
)

// Between compares files with those of a release; released is false when there is none.
func Between(old, now []server.FileView, released bool) *Difference {
	d := &Difference{Files: []File{}, Alerts: []Alert{}}
	follows := pair(old, now)
	gone := make([]bool, len(old))
	for i := range gone {
		gone[i] = true
	}
	var alerts []Alert
	if !released {
		alerts = append(alerts, Alert{Medium, "first-release", "", -1, "nothing was signed under this policy before: there is nothing to compare with"})
	}
	for i := range now {
		f := File{New: side(&now[i])}
		warnings := Warnings(&now[i])
		j := follows[i]
		switch {
		case j < 0:
			f.Kind, f.Alerts = Added, warnings
			if released {
				f.Alerts = append(judgeNew(&now[i]), warnings...)
			}
			d.Counts.Added++
		case old[j].Format == now[i].Format && old[j].Digest == now[i].Digest && old[j].Content == now[i].Content && sameParams(old[j].Params, now[i].Params):
			gone[j] = false
			d.Counts.Unchanged++
			// What it warns of was there before. A file whose name changed is worth a line.
			if old[j].Name == now[i].Name {
				continue
			}
			f.Kind, f.Old = Unchanged, side(&old[j])
		default:
			gone[j] = false
			f.Kind, f.Old = Changed, side(&old[j])
			d.Counts.Changed++
			f.Percent = percent(old[j].Size, now[i].Size)
			all := changes(&old[j], &now[i])
			f.Changes = told(all)
			f.Alerts = append(judge(&old[j], &now[i], f.Percent, all), fresh(&old[j], warnings)...)
		}
		order(f.Alerts)
		alerts = append(alerts, f.Alerts...)
		d.Files = append(d.Files, f)
	}
	for i := range old {
		if gone[i] {
			d.Counts.Removed++
			d.Files = append(d.Files, File{Kind: Removed, Old: side(&old[i])})
		}
	}
	grave := func(f *File) int {
		if len(f.Alerts) > 0 {
			return f.Alerts[0].Severity.rank()
		}
		return 3
	}
	kinds := map[Kind]int{Changed: 0, Added: 1, Removed: 2, Unchanged: 3}
	slices.SortStableFunc(d.Files, func(a, b File) int {
		return cmp.Or(cmp.Compare(grave(&a), grave(&b)), cmp.Compare(kinds[a.Kind], kinds[b.Kind]))
	})
	order(alerts)
	d.AlertCount, d.FileCount = len(alerts), len(d.Files)
	d.Alerts = append(d.Alerts, foremost(alerts, MaxAlerts)...)
	d.Summary = d.summary(alerts, released)
	return d
}

// sameParams reports whether two files are signed with the same options.
func sameParams(a, b []format.Fact) bool { return len(factChanges(a, b)) == 0 }

// foremost are so many alerts of those in order. Where there are more, none of a code is
// left out for one that says again what another has said: whoever fills a request with
// alerts of one code hides no other.
func foremost(alerts []Alert, most int) []Alert {
	if len(alerts) <= most {
		return alerts
	}
	type nth struct {
		a Alert
		n int
	}
	seen := map[string]int{}
	all := make([]nth, len(alerts))
	for i, a := range alerts {
		all[i] = nth{a, seen[a.Code]}
		seen[a.Code]++
	}
	slices.SortStableFunc(all, func(x, y nth) int {
		return cmp.Or(cmp.Compare(x.a.Severity.rank(), y.a.Severity.rank()), cmp.Compare(x.n, y.n))
	})
	out := make([]Alert, most)
	for i := range out {
		out[i] = all[i].a
	}
	return out
}

func order(a []Alert) {
	slices.SortStableFunc(a, func(x, y Alert) int { return cmp.Compare(x.Severity.rank(), y.Severity.rank()) })
}

// summary is the difference in a line.
func (d *Difference) summary(alerts []Alert, released bool) string {
	var grave [3]int
	for _, a := range alerts {
		grave[a.Severity.rank()]++
	}
	s := fmt.Sprintf("%d changed, %d added, %d removed, %d unchanged", d.Counts.Changed, d.Counts.Added, d.Counts.Removed, d.Counts.Unchanged)
	if !released {
		s = "the first release: " + plural(d.Counts.Added, "file")
	}
	switch {
	case grave[0] > 0:
		s += fmt.Sprintf("; %s of high severity", plural(grave[0], "alert"))
		if n := grave[1] + grave[2]; n > 0 {
			s += fmt.Sprintf(" and %d more", n)
		}
	case len(alerts) > 0:
		s += "; " + plural(len(alerts), "alert")
	default:
		s += "; no alerts"
	}
	return s
}

func side(f *server.FileView) *Side {
	s := &Side{Index: f.Index, Name: f.Name, Format: f.Format, Digest: f.Digest, Content: f.Content, Size: f.Size}
	if v, ok := VersionOf(f); ok {
		s.Version = v.Text
		if v.Scheme == Sequence {
			if n := fact(f, "version"); n != "" {
				s.Version = n + " (" + v.Text + ")"
			}
		}
	}
	return s
}

// percent is by how much a size grew, bounded.
func percent(old, now int64) int {
	if old <= 0 {
		return 0
	}
	p := (float64(now) - float64(old)) / float64(old) * 100
	return int(max(-100, min(p, 1e6)))
}

// The groups of facts.
const (
	groupIdentity    = "identity"
	groupVersion     = "version"
	groupImports     = "imports"
	groupPermissions = "permissions"
	groupScripts     = "scripts"
	groupHardening   = "hardening"
	groupSigners     = "signers"
	groupEntries     = "entries"
	groupOther       = "other"
	groupOptions     = "options"
)

// groupNames are in the order in which they are shown.
var groupNames = []string{groupIdentity, groupVersion, groupSigners, groupPermissions, groupScripts, groupHardening, groupImports, groupOptions, groupEntries, groupOther}

var groups = index(map[string][]string{
	groupIdentity: {"product-name", "company-name", "publisher", "manufacturer", "name", "package", "identifier", "team", "original-filename", "vendor", "kind",
		"machine", "arch", "architecture", "subsystem", "product-code", "upgrade-code", "id", "authors", "author", "maintainer", "packager", "description", "display-name",
		"template", "compatible", "os", "variant", "file-description", "title", "bundle", "module", "exported-name", "install-name", "copyright", "subject", "license", "runtime", "source", "code"},
	groupVersion: {"version", "product-version", "file-version", "version-code", "release", "epoch", "build", "bundle-version", "min-sdk", "target-sdk", "minimum-system",
		"sdk", "target", "vermagic", "srcversion", "package-code", "built", "security-counter", "load-address", "rollback-index", "rollback-index-location", "sbat", "kernel-version", "os-release", "minimum system"},
	groupImports: {"import", "delay-import", "function", "functions", "library", "weak-library", "search-path", "requires", "depends", "dependency", "needs-package",
		"pre-depends", "nested", "native", "provides", "conflicts", "obsoletes", "class-path", "slice-differs", "import-namespace", "soft-dependency", "recommends", "breaks", "replaces"},
	groupPermissions: {"permission", "declares-permission", "capability", "capabilities", "exported", "full-trust", "setuid", "shared-user", "needs-feature", "permissions", "firmware", "alias", "device", "user", "requires-password", "exposes", "volume"},
	groupScripts:     {"custom-action", "script", "trigger", "service", "binary", "extension", "service-provider", "main-class", "agent", "launcher-agent", "application", "executable", "starts", "hooks", "handler", "entrypoint", "command", "environment", "kernel-command-line"},
	groupHardening:   {"hardening", "lacks", "flags", "debuggable", "test-only", "cleartext-traffic", "backup", "intree", "retpoline", "encrypted", "weak-digest"},
	groupSigners:     {"signer", "signatures", "signed-already", "replaces signature of", "replaced-signature", "signed", "code-integrity", "chain", "key-name"},
	groupEntries: {"entry", "file", "files", "entries", "cabinet", "dex", "abi", "resource", "overlay", "members", "member", "sealed", "streams", "tables", "release-of",
		"config", "exports", "further files", "further code", "lines", "longest-line", "folders", "payload-digest", "payload-digest-alt", "packages", "not-read", "component", "external", "copies", "image", "image-option", "configuration", "hash", "hashtree", "partition", "checksum", "layer", "section", "control.tar", "data.tar"},
})

func index(m map[string][]string) map[string]string {
	out := map[string]string{}
	for g, names := range m {
		for _, n := range names {
			out[n] = g
		}
	}
	return out
}

func groupOf(name string) string {
	base := strings.TrimSuffix(name, format.ListSuffix)
	if g, ok := groups[base]; ok {
		return g
	}
	switch {
	case strings.Contains(base, "entitlement "):
		return groupPermissions
	case isScript(base):
		return groupScripts
	case strings.HasPrefix(base, "control.tar"), strings.HasPrefix(base, "data.tar"):
		return groupEntries
	}
	return groupOther
}

// maxChanges of one file are told; the rest is counted.
const maxChanges = 400

// told are the first of a file's changes. All of them are judged.
func told(all []Change) []Change {
	n := len(all) - maxChanges
	if n <= 0 {
		return all
	}
	return append(slices.Clone(all[:maxChanges]), Change{groupOther, Changed, "further changes", "", fmt.Sprint(n)})
}

// changes are the facts and options that differ, by group.
func changes(old, now *server.FileView) []Change {
	var out []Change
	if old.Name != now.Name {
		out = append(out, Change{groupIdentity, Changed, "name of the file", old.Name, now.Name})
	}
	if old.Format != now.Format {
		out = append(out, Change{groupIdentity, Changed, "format", old.Format, now.Format})
	}
	out = append(out, factChanges(old.Facts, now.Facts)...)
	for _, c := range factChanges(old.Params, now.Params) {
		c.Group, c.Name = groupOptions, "option "+c.Name
		c.Old, c.New = shortened(c.Old), shortened(c.New)
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(groupNames, a.Group), slices.Index(groupNames, b.Group)), strings.Compare(a.Name, b.Name))
	})
	return out
}

// maxOption is how much of an option's value a change shows: some are documents.
const maxOption = 512

func shortened(s string) string {
	if len(s) <= maxOption {
		return s
	}
	return format.Visible(s, maxOption)
}

// values are the facts of one name.
type values struct{ old, now []string }

// factChanges compares two lists of facts, name by name: as values where each has one,
// as sets otherwise.
func factChanges(old, now []format.Fact) []Change {
	if slices.Equal(old, now) {
		return nil
	}
	old, now = uncommon(old, now)
	all := make(map[string]*values, 8)
	var names []string
	arena := make([]values, 0, 8)
	at := func(n string) *values {
		v := all[n]
		if v == nil {
			if len(arena) == cap(arena) {
				arena = make([]values, 0, 16)
			}
			arena = append(arena, values{})
			v = &arena[len(arena)-1]
			all[n] = v
			names = append(names, n)
		}
		return v
	}
	for _, f := range old {
		v := at(f.Name)
		v.old = append(v.old, f.Value)
	}
	for _, f := range now {
		v := at(f.Name)
		v.now = append(v.now, f.Value)
	}
	var out []Change
	for _, n := range names {
		v := all[n]
		if slices.Equal(v.old, v.now) {
			continue
		}
		g := groupOf(n)
		var oldEnd, nowEnd string
		if s := all[n+format.ListSuffix]; s != nil {
			oldEnd, nowEnd = lastOf(v.old, s.old), lastOf(v.now, s.now)
		}
		out = append(out, v.changes(g, n, oldEnd, nowEnd)...)
	}
	return out
}

// uncommon leaves away the facts at the beginning of both lists that are the same, in
// whole groups of a name.
func uncommon(old, now []format.Fact) (a, b []format.Fact) {
	n := 0
	for n < len(old) && n < len(now) && old[n] == now[n] {
		n++
	}
	for n > 0 && (n < len(old) && related(old[n].Name, old[n-1].Name) || n < len(now) && related(now[n].Name, old[n-1].Name)) {
		n--
	}
	// A name of the beginning may come again.
	first := make(map[string]bool, n)
	for _, f := range old[:n] {
		first[f.Name] = true
	}
	for _, l := range [][]format.Fact{old[n:], now[n:]} {
		for _, f := range l {
			if first[strings.TrimSuffix(f.Name, format.ListSuffix)] {
				return old, now
			}
		}
	}
	return old[n:], now[n:]
}

// related are the names of a list and of its summary.
func related(a, b string) bool {
	return strings.TrimSuffix(a, format.ListSuffix) == strings.TrimSuffix(b, format.ListSuffix)
}

// lastOf is the last value of a sorted list that does not stand whole, or "".
func lastOf(list, summary []string) string {
	if len(summary) == 0 {
		return ""
	}
	if len(list) == 0 {
		return "\x00" // nothing of it stands: everything may be behind its end
	}
	return list[len(list)-1]
}

// changes of one name. oldEnd and nowEnd are where lists end that do not stand whole:
// what follows them may be in both.
func (v *values) changes(group, name, oldEnd, nowEnd string) (out []Change) {
	if len(v.old) == 1 && len(v.now) == 1 && oldEnd == "" && nowEnd == "" {
		return []Change{{group, Changed, name, v.old[0], v.now[0]}}
	}
	count := make(map[string]int, len(v.old))
	for _, x := range v.old {
		count[x]++
	}
	var added []string
	for _, x := range v.now {
		if count[x] > 0 {
			count[x]--
		} else if oldEnd == "" || x < oldEnd {
			added = append(added, x)
		}
	}
	// What has one key on both sides has changed: "app.dll, 12 bytes, …".
	byKey := map[string][]string{}
	for _, x := range v.old {
		if count[x] > 0 {
			count[x]--
			if nowEnd == "" || x < nowEnd {
				byKey[key(x)] = append(byKey[key(x)], x)
			}
		}
	}
	for _, x := range added {
		k := key(x)
		if q := byKey[k]; len(q) > 0 {
			out = append(out, Change{group, Changed, name, q[0], x})
			byKey[k] = q[1:]
			continue
		}
		out = append(out, Change{group, Added, name, "", x})
	}
	for _, x := range v.old {
		if q := byKey[key(x)]; len(q) > 0 && q[0] == x {
			byKey[key(x)] = q[1:]
			out = append(out, Change{group, Removed, name, x, ""})
		}
	}
	return out
}

// key is the part of a value that says what it is about.
func key(s string) string {
	if i := strings.IndexAny(s, ",:;"); i > 0 {
		return s[:i]
	}
	return s
}
