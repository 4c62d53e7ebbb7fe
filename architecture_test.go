package greatseal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/greatseal-io/greatseal/"

// layers is the house, top to bottom. A package imports packages of lower lines
// only. "x/..." is x and what is below it; packages that one line names may not
// import each other unless one is inside the other.
const layers = `
cmd/greatseal cmd/greatseal-keeper internal/attacks internal/crashes internal/oracles internal/road internal/threats internal/browser
internal/browser/chromiumtest
internal/cli
internal/bench
internal/trial
internal/console
internal/console/requests internal/console/signon internal/console/search internal/console/charters internal/console/passkeys internal/console/logs internal/console/operations internal/console/notices
internal/console/webtest
internal/console/web
internal/api/agents/client
internal/agent
internal/agent/agenttest internal/agent/exec/javascript
internal/agent/exec/sql internal/agent/exec/script internal/agent/exec/rest
internal/agent/exec
internal/agent/firewall internal/agent/credentials internal/agent/sandbox
internal/gate
internal/gate/clamav internal/gate/provenance internal/gate/rebuild internal/gate/rules internal/gate/command
internal/gate/check
internal/inspector
internal/endorser
internal/api internal/api/client
internal/api/agents
internal/api/wire internal/api/agents/wire
internal/instance/keystore
internal/instance
internal/records
internal/server/servertest
internal/author internal/stamp internal/sso/... internal/replay internal/registration internal/analysis internal/release/...
internal/server
internal/keeper/host
internal/keeper/wire
internal/keeper
internal/keeper/ledger
internal/ecc/...
internal/notices
internal/platform/... internal/updateset
internal/issuer internal/workload
internal/challenge internal/limit internal/notify/... internal/blob internal/config internal/registry internal/store/... internal/depstest internal/porttest
internal/platform/layout
circle/statefile circle/circletest
circle
verify/...
format/pgpsig/pgptest
format/authenticode/authenticodetest record/recordtest
format/all
format/roster internal/unpack format/file format/formattest
format/appx
format/cat
format/gitobject
format/ipa
format/bundle
format/macho format/xar format/dmg format/jar format/apk format/pe format/msi format/nuget format/script format/cab format/cmsfile format/attest format/xmldsig format/oci format/jws format/cose format/kmod format/mcuboot format/fit format/rauc format/vbmeta format/swupdate format/ima format/pgp format/pgpkey format/rpm format/deb format/apt format/sshsig format/minisign format/signify format/circle format/records
format/dsse
format/envelope
format/codesign format/single format/verity format/authenticode format/cfb format/zipfile format/opc format/jarsig format/pgpsig
format/plist
circle/trust
tsp/client
quorum/...
internal/template
charter
charter/threshold
receipt audit/...
credential/...
order
record/lint
record/condition/...
record/...
statement
format
tsp
cms/...
key/soft key/pkcs11/... key/keytest
key
openpgp
hashstate merkle sigalg rejection
`

// forbidden are arrows that would break a promise, with the promise.
var forbidden = []struct{ from, to, why string }{
	{"format/...", "net", "a format knows no network"},
	{"format/...", "net/http", "a format knows no network"},
	{"format/...", module + "key/...", "a format knows no key"},
	{"quorum/...", "net", "judging is pure"},
	{"quorum/...", "os", "judging is pure"},
	{"charter/...", "net", "judging is pure"},
	{"charter/...", "os", "judging is pure"},
	{"statement/...", "os", "statements are pure"},
	{"merkle/...", "os", "trees are pure"},
	{"audit/...", "net/http", "the caller supplies the world"},
	{"verify/...", "net/http", "verification works offline"},
	{"verify/...", module + "internal/...", "whoever checks us needs nothing internal"},
	{"internal/server/...", module + "key/...", "the server holds no key"},
	{"internal/api/...", module + "key/...", "the server holds no key"},
	{"internal/keeper/...", "net/http", "the keeper has no network but its socket"},
	{"internal/keeper/...", "database/sql", "the keeper trusts no database"},
	{"internal/keeper/...", module + "internal/store/...", "the keeper trusts no database"},
	{"internal/keeper/...", module + "internal/api/...", "the keeper does not know its callers"},
	{"internal/keeper/...", module + "internal/server", "the keeper does not know its callers"},
	{"internal/keeper/...", module + "format/file", "the keeper reads no artifact"},
	{"internal/keeper/...", "os/exec", "the keeper starts nothing"},
	{"internal/agent/...", module + "internal/keeper/...", "an agent has no way to a key"},
	{"internal/agent/...", module + "internal/api/...", "an agent knows its instance through an interface"},
	{"internal/agent/...", module + "internal/store/...", "an agent trusts no instance's database"},
	{"internal/agent/...", module + "key/...", "an agent signs nothing"},
}

func match(pattern, path string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

// imports reads the imports of every package of the module, tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "tools" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if out[pkg] == nil {
			out[pkg] = []string{}
		}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			out[pkg] = append(out[pkg], p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("%d packages were found: is this the root of the module?", len(out))
	}
	return out
}

// Imports run downwards.
func TestLayers(t *testing.T) {
	type place struct {
		line    int
		pattern string
	}
	find := func(path string) (p place, ok bool) {
		best := -1
		for n, line := range strings.Split(strings.TrimSpace(layers), "\n") {
			for _, pattern := range strings.Fields(line) {
				if match(pattern, path) && len(pattern) > best {
					p, ok, best = place{n, pattern}, true, len(pattern)
				}
			}
		}
		return p, ok
	}
	for pkg, list := range imports(t) {
		from, ok := find(pkg)
		if !ok {
			t.Errorf("%s has no layer: name it in layers", pkg)
			continue
		}
		for _, imp := range list {
			rel, own := strings.CutPrefix(imp, module)
			if !own {
				continue
			}
			to, ok := find(rel)
			if !ok {
				t.Errorf("%s imports %s, which has no layer", pkg, rel)
				continue
			}
			if to.line > from.line || to == from {
				continue
			}
			t.Errorf("%s imports %s, which does not lie below it", pkg, rel)
		}
	}
}

// Some arrows are forbidden whatever the layer.
func TestForbiddenImports(t *testing.T) {
	for pkg, list := range imports(t) {
		for _, f := range forbidden {
			if !match(f.from, pkg) {
				continue
			}
			for _, imp := range list {
				if match(f.to, imp) && !exempt(pkg, imp) {
					t.Errorf("%s imports %s: %s", pkg, imp, f.why)
				}
			}
		}
	}
}

// exempt are the places that a rule does not mean.
func exempt(pkg, imp string) bool {
	return pkg == "format/formattest" || pkg == "internal/server/servertest" || // helpers of tests make keys
		strings.HasPrefix(pkg, "internal/keeper") && imp == module+"key" || pkg == "internal/keeper/host"
}

// Only the keeper's command is built with cgo.
func TestOnlyTheKeeperHasCgo(t *testing.T) {
	const cgo = module + "key/pkcs11/module"
	for pkg, list := range imports(t) {
		for _, imp := range list {
			if imp == cgo && pkg != "cmd/greatseal-keeper" {
				t.Errorf("%s imports %s", pkg, imp)
			}
			if imp == "github.com/miekg/pkcs11" && pkg != "key/pkcs11/module" {
				t.Errorf("%s imports %s", pkg, imp)
			}
		}
	}
}

// ARCHITECTURE.md shows the layers that are held here.
func TestArchitectureShowsTheLayers(t *testing.T) {
	b, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(layers) {
		if name := strings.TrimSuffix(pkg, "/..."); !strings.Contains(string(b), name) {
			t.Errorf("ARCHITECTURE.md does not name %s", name)
		}
	}
}
