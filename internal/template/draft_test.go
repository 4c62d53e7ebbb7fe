package template_test

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)

// head is a charter in force, the same every time.
func head(t testing.TB) (*charter.Charter, statement.CharterRef) {
	t.Helper()
	c := servertest.Charter(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	c.Created = now.Add(-time.Hour)
	rule := c.Commands[statement.KeyGenerate]
	c.Commands[statement.KeyImportCert] = rule
	b, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = charter.Decode(b); err != nil {
		t.Fatal(err)
	}
	return c, c.Ref(b)
}

func draft(t testing.TB, name string, a template.Answers) (*template.Draft, error) {
	t.Helper()
	x, err := template.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	c, ref := head(t)
	return x.Draft(c, ref, a, now)
}

// answers are good for every template.
func answers(x *template.Template) template.Answers {
	a := template.Answers{Name: "app", Requesters: []string{"dev"}, URI: "pkcs11:token=hsm;object=app"}
	if !x.Unattended {
		a.Quorum, a.Gates = "2 of officers", []string{"gates"}
	}
	return a
}

// Invariants 1 and 2: every template gives a charter that passes Check, follows the one
// in force, reads the same from YAML, adds no warning, and changes nothing else. What it
// says is kept in testdata.
func TestTemplates(t *testing.T) {
	if len(template.List()) < 20 {
		t.Fatalf("%d templates", len(template.List()))
	}
	for _, x := range template.List() {
		t.Run(x.Name, func(t *testing.T) {
			c, ref := head(t)
			d, err := draft(t, x.Name, answers(x))
			if err != nil {
				t.Fatal(err)
			}
			if d.Base != ref || d.Charter.Version != ref.Version+1 || d.Charter.Previous != ref.ID {
				t.Errorf("it follows %v: %d, %v", d.Base, d.Charter.Version, d.Charter.Previous)
			}
			if err := d.Charter.Check(); err != nil {
				t.Error(err)
			}
			b, err := d.Charter.YAML()
			if err != nil {
				t.Fatal(err)
			}
			again, err := charter.ParseYAML(b)
			if err != nil || !reflect.DeepEqual(again, d.Charter) {
				t.Errorf("not the same from YAML: %v", err)
			}
			if len(d.Warnings) > 0 {
				t.Errorf("warnings: %v", d.Warnings)
			}
			for _, ch := range d.Changes {
				if ch.Path != "version" && ch.Path != "keys.app" && ch.Path != "policies.app" {
					t.Errorf("it changes %s", ch)
				}
			}
			if _, ok := c.Policies["app"]; ok {
				t.Error("the charter in force was changed")
			}
			for _, f := range d.Charter.Policies["app"].Formats {
				ft, ok := all.ByName(f)
				if !ok {
					t.Errorf("there is no format %s", f)
					continue
				}
				for n, v := range x.Params {
					var have []string
					for _, o := range ft.Options() {
						have = append(have, o.Name)
						if o.Name == n && len(o.Values) > 0 && !slices.Contains(o.Values, v) {
							t.Errorf("format %s: option %s is none of %v", f, n, o.Values)
						}
					}
					if !slices.Contains(have, n) {
						t.Errorf("format %s has no option %s: nothing could be signed", f, n)
					}
				}
			}
			for _, alg := range x.Algorithms { // whatever may be chosen is accepted
				a := answers(x)
				a.Algorithm = string(alg)
				if _, err := draft(t, x.Name, a); err != nil {
					t.Errorf("%s: %v", alg, err)
				}
			}
			golden(t, x.Name, d)
		})
	}
}

func golden(t *testing.T, name string, d *template.Draft) {
	t.Helper()
	out := struct {
		Policy  charter.Policy
		Keys    map[string]charter.Key
		Members []template.Member
		Demands string
		Notes   []string `json:"Notes,omitempty"`
		Cert    template.Certificate
	}{d.Charter.Policies["app"], map[string]charter.Key{"app": d.Charter.Keys["app"]}, d.Members, d.Demands, d.Notes, d.NeedsCert}
	b, err := json.Marshal(out, json.Deterministic(true), jsontext.WithIndent("  "), jsontext.EscapeForHTML(false))
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("%s differs (go test -update writes it): %v\n%s", path, err, b)
	}
}

func TestDraftAnswers(t *testing.T) {
	for _, c := range []struct {
		name, template string
		change         func(*template.Answers)
		want           string // of the policy, as words; or the error with its field
	}{
		{"new group", "cms", func(a *template.Answers) {
			a.Groups = map[string][]string{"writers": {"alice", "ann"}}
			a.Requesters = []string{"writers"}
			a.Quorum = "1 of writers and 1 of officers"
		}, "writers: one of writers and one of officers, and the machine gate"},
		{"groups by name", "cms", func(a *template.Answers) { a.Quorum, a.Gates = "officers", nil }, "dev: one of officers"},
		{"m of n over groups", "cms", func(a *template.Answers) { a.Quorum, a.Gates = "1 of (2 of officers; gates and officers)", nil }, "dev: one of these: (two of officers), or"},
		{"gate is there already", "cms", func(a *template.Answers) { a.Quorum = "2 of officers and gate" }, "dev: two of officers, and the machine gate"},
		// A gate that stands in one way of several is added all the same (invariant 4).
		{"gate that may be left out", "cms", func(a *template.Answers) { a.Quorum = "1 of (2 of officers; alice and gate)" }, "dev: one of these: (two of officers), or (alice, and the machine gate), and the machine gate"},
		{"gate in every way", "cms", func(a *template.Answers) { a.Quorum = "1 of (2 of officers and gate; alice and gate)" }, "dev: one of these: "},
		{"uploads, inspector that may be left out", "cms", func(a *template.Answers) {
			a.Quorum, a.Gates, a.Upload = "1 of (2 of officers; alice and gate)", nil, true
		}, "dev: one of these: (two of officers), or (alice, and the machine gate), and the machine gate"},
		{"uploads", "cms", func(a *template.Answers) { a.Upload, a.Gates = true, nil }, "dev: two of officers, and the machine gate"},
		{"existing key", "cms", func(a *template.Answers) { a.Key, a.URI = "release", "" }, "dev: two of officers"},
		{"hours", "cms", func(a *template.Answers) { a.Hours = "mon-fri 08:00-18:00" }, "dev: two of officers"},

		{"no name", "cms", func(a *template.Answers) { a.Name = "" }, "name"},
		{"name with script", "cms", func(a *template.Answers) { a.Name = "<script>alert(1)</script>" }, "name"},
		{"name is taken", "cms", func(a *template.Answers) { a.Name = "release" }, "name"},
		{"key is taken", "cms", func(a *template.Answers) { a.Name = "tsa" }, "key"},
		{"nobody of that name asks", "cms", func(a *template.Answers) { a.Requesters = []string{"mallory"} }, "requesters"},
		{"nobody of that name endorses", "cms", func(a *template.Answers) { a.Quorum = "1 of mallory" }, "quorum"},
		{"a number of one person", "cms", func(a *template.Answers) { a.Quorum = "2 of bob" }, "quorum"},
		{"no quorum", "cms", func(a *template.Answers) { a.Quorum = "x y z" }, "quorum"},
		{"machines alone", "cms", func(a *template.Answers) { a.Quorum, a.Veto = "1 of gates", []string{"officers"} }, "quorum"},
		{"a person is no gate", "cms", func(a *template.Answers) { a.Gates = []string{"bob"} }, "gates"},
		{"no such veto", "cms", func(a *template.Answers) { a.Veto = []string{"alice"} }, "veto"},
		{"no such key", "cms", func(a *template.Answers) { a.Key = "nokey" }, "key"},
		{"key of another kind", "windows-release", func(a *template.Answers) { a.Key = "release" }, "key"},
		{"the authority's key", "cms", func(a *template.Answers) { a.Key = "tsa" }, "key"},
		{"bare digests with a shared key", "ima", func(a *template.Answers) { a.Key = "release" }, "key"},
		{"algorithm that does not fit", "minisign", func(a *template.Answers) { a.Algorithm = "rsa-3072" }, "algorithm"},
		{"unknown algorithm", "cms", func(a *template.Answers) { a.Algorithm = "rsa-1024" }, "algorithm"},
		{"no URI", "cms", func(a *template.Answers) { a.URI = "app" }, "uri"},
		{"a PIN", "cms", func(a *template.Answers) { a.URI = "pkcs11:object=a?pin-value=1234" }, "charter"},
		{"another format", "java", func(a *template.Answers) { a.Formats = []string{"pe"} }, "formats"},
		{"formats of different keys", "nightly", func(a *template.Answers) { a.Formats = []string{"minisign", "pe"} }, "formats"},
		{"unknown format", "nightly", func(a *template.Answers) { a.Formats = []string{"doc"} }, "formats"},
		{"records are not for this", "nightly", func(a *template.Answers) { a.Formats = []string{"records"} }, "formats"},
		{"nightly of anything", "nightly", func(a *template.Answers) { a.Names = []string{"any"} }, "names"},
		{"nightly of every name", "nightly", func(a *template.Answers) { a.Names = []string{"nightly-*", "*"} }, "names"},
		{"nightly of every name with a dot", "nightly", func(a *template.Answers) { a.Names = []string{"?*.[a-z]*"} }, "names"},
		{"nightly with the key of releases", "nightly", func(a *template.Answers) { a.Key, a.URI = "release", "" }, "key"},
		{"nightly with a quorum", "nightly", func(a *template.Answers) { a.Quorum = "1 of officers" }, "quorum"},
		{"hours backwards", "cms", func(a *template.Answers) { a.Hours = "18:00-08:00" }, "charter"},
		{"hours of no day", "cms", func(a *template.Answers) { a.Hours = "someday 08:00-18:00" }, "hours"},
		{"days backwards", "cms", func(a *template.Answers) { a.Hours = "fri-mon 08:00-18:00" }, "hours"},
		{"lives too long", "cms", func(a *template.Answers) { a.Expires = "100000h" }, "expires"},
		{"group of strangers", "cms", func(a *template.Answers) { a.Groups = map[string][]string{"x": {"mallory"}} }, "groups"},
		{"group that is there", "cms", func(a *template.Answers) { a.Groups = map[string][]string{"dev": {"bob"}} }, "groups"},
		{"group of people and machines", "cms", func(a *template.Answers) {
			a.Groups = map[string][]string{"x": {"alice", "gate"}}
			a.Requesters = []string{"x"}
		}, "charter"},
		{"cannot be satisfied", "cms", func(a *template.Answers) { a.Requesters, a.Quorum = []string{"officers"}, "3 of officers" }, "charter"},
		{"a description of two lines is text", "cms", func(a *template.Answers) { a.Description = "<img src=x onerror=alert(1)>" }, "dev: two of officers"},
	} {
		x, err := template.Find(c.template)
		if err != nil {
			t.Fatal(err)
		}
		a := answers(x)
		c.change(&a)
		d, err := draft(t, c.template, a)
		var fe *template.FieldError
		switch {
		case err == nil:
			got := strings.Join(d.Charter.Policies[a.Name].Rule.Requesters, ", ") + ": " + d.Demands
			if !strings.HasPrefix(got, c.want) || !strings.Contains(c.want, ":") {
				t.Errorf("%s: %q: want %q", c.name, got, c.want)
			}
		case errors.As(err, &fe):
			if fe.Field != c.want {
				t.Errorf("%s: %v: want it to be about %s", c.name, err, c.want)
			}
		case c.want != "charter" || !errors.Is(err, charter.ErrCharter):
			t.Errorf("%s: %v: want %s", c.name, err, c.want)
		}
	}
}

// A software key is warned of, and so is what nobody can veto.
func TestDraftWarns(t *testing.T) {
	x, _ := template.Find("cms")
	a := answers(x)
	a.URI, a.Veto = "", []string{"none"}
	d, err := draft(t, "cms", a)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, w := range d.Warnings {
		codes = append(codes, w.Code)
	}
	slices.Sort(codes)
	if !slices.Equal(codes, []string{"no-veto", "software-key"}) || d.Answers.URI != "soft:app" {
		t.Errorf("%v, %s", codes, d.Answers.URI)
	}
}

// What is left open is as the charter's other policies are.
func TestSuggest(t *testing.T) {
	for _, x := range template.List() {
		d, err := draft(t, x.Name, template.Answers{Name: "app"})
		if err != nil {
			t.Errorf("%s: with nothing but a name: %v", x.Name, err)
			continue
		}
		p := d.Charter.Policies["app"]
		if x.Unattended != p.Rule.Unattended || len(p.Rule.Requesters) == 0 || x.Stamp != slices.Contains(p.Timestamp, "self") {
			t.Errorf("%s: %+v", x.Name, p)
		}
		if alg := d.Charter.Keys["app"].Algorithm; len(x.Algorithms) > 0 && alg != x.Algorithms[0] {
			t.Errorf("%s: %s", x.Name, alg)
		}
	}
	if d, err := draft(t, "mcuboot", template.Answers{Name: "app", Algorithm: string(sigalg.RSA3072)}); err != nil || d.Charter.Keys["app"].SignatureScheme() != sigalg.RSAPSSSHA256 {
		t.Errorf("MCUboot knows RSA with PSS alone: %+v %v", d, err)
	}
}

func TestFresh(t *testing.T) {
	_, ref := head(t)
	if err := template.Fresh(ref, ref); err != nil {
		t.Error(err)
	}
	later := ref
	later.Version++
	if err := template.Fresh(ref, later); !errors.Is(err, template.ErrMoved) {
		t.Error(err)
	}
}

// What a form says is read, and written again as it was.
func TestReadAnswers(t *testing.T) {
	in := map[string]string{"name": " app ", "requesters": "dev, builds", "quorum": "2 of officers", "groups": "ci: alice, ann\nqa=bob\n\n",
		"gates": "gate", "upload": "on", "names": "*.exe *.msi", "timestamp": "self", "hours": "mon-fri 08:00-18:00", "expires": "72h"}
	a, err := template.Read(func(f string) string { return in[f] })
	if err != nil {
		t.Fatal(err)
	}
	want := template.Answers{Name: "app", Requesters: []string{"dev", "builds"}, Quorum: "2 of officers", Groups: map[string][]string{"ci": {"alice", "ann"}, "qa": {"bob"}},
		Gates: []string{"gate"}, Upload: true, Names: []string{"*.exe", "*.msi"}, Timestamp: []string{"self"}, Hours: "mon-fri 08:00-18:00", Expires: "72h"}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("%+v", a)
	}
	again, err := template.Read(func(f string) string { return a.Values()[f] })
	if err != nil || !reflect.DeepEqual(again, a) {
		t.Errorf("%+v %v", again, err)
	}
	for f, v := range map[string]string{"name": strings.Repeat("a", 5000), "names": strings.Repeat("a ", 300), "groups": "ci alice", "upload": "perhaps"} {
		if _, err := template.Read(func(x string) string {
			if x == f {
				return v
			}
			return ""
		}); err == nil {
			t.Errorf("%s: %.20s is accepted", f, v)
		}
	}
	if _, err := template.Read(func(f string) string { return map[string]string{"groups": "a: bob\na: ann"}[f] }); err == nil {
		t.Error("a group that stands twice is accepted")
	}
	if _, err := template.Find("<b>"); err == nil {
		t.Error("there is a template <b>")
	}
}
