package charter_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/record"
)

// recordsYAML is a section, with lists as people write them.
const recordsYAML = `records:
  instance: dev
  configurations:
    sources:
      version: 2
      table: sys_data_source
      purpose: ecc_queue
      condition: type == 'JDBC'
      fields: [sql_statement, jdbc_server, type]
      parameters: [since]
    jars:
      version: 1
      table: ecc_agent_jar
      purpose: ecc_queue
      fields: []
      attachments: true
`

func withRecords(t testing.TB, section string) (*charter.Charter, error) {
	t.Helper()
	return charter.ParseYAML(append(exampleYAML(t), section...))
}

func TestRecords(t *testing.T) {
	c, err := withRecords(t, recordsYAML)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Records; r.Instance != "dev" || !slices.Equal(r.Configurations["sources"].Fields, []string{"jdbc_server", "sql_statement", "type"}) || !r.Configurations["jars"].Attachments {
		t.Errorf("%+v", r)
	}
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	// The section stands last: what was signed before it existed is as it was.
	if !bytes.HasSuffix(payload, []byte(`,"parameters":["since"]}}}}}`)) {
		t.Errorf("%s", payload[len(payload)-600:])
	}
	d, err := charter.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	y, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	e, err := charter.ParseYAML(y)
	if err != nil {
		t.Fatalf("%v\n%s", err, y)
	}
	if again, err := charter.Encode(e); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("YAML lost something: %v\n%s", err, y)
	}
	for _, r := range [][2]string{
		{`"fields":["jdbc_server","sql_statement","type"]`, `"fields":["sql_statement","jdbc_server","type"]`},
		{`"fields":["jdbc_server","sql_statement","type"]`, `"fields":["jdbc_server","jdbc_server","sql_statement","type"]`},
		{`"attachments":true`, `"attachments":true,"more":1`}, {`"version":2,"table"`, `"version":02,"table"`}, {`"condition":"type`, `"condition":"\u0074ype`},
		{`"instance":"dev",`, ``}, {`"records":{`, `"records":null,"records":{`},
	} {
		b := bytes.Replace(payload, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(b, payload) {
			t.Errorf("%s is not in the payload", r[0])
		} else if _, err := charter.Decode(b); err == nil {
			t.Errorf("%s for %s is accepted", r[1], r[0])
		}
	}
}

// A charter without the section has the ID that it had before there was one.
func TestWithoutRecords(t *testing.T) {
	payload, err := charter.Encode(example(t))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/example.id")
	if err != nil {
		t.Fatal(err)
	}
	if got := charter.ID(payload).String(); got != strings.TrimSpace(string(want)) || bytes.Contains(payload, []byte("records")) {
		t.Errorf("ID %s, want %s", got, want)
	}
}

func TestRecordsCheck(t *testing.T) {
	for name, x := range map[string]struct{ old, new, path string }{
		"no instance":              {"  instance: dev\n", "", "records.instance"},
		"a bad instance":           {"instance: dev", "instance: Dev 1", "records.instance"},
		"no version":               {"      version: 2\n", "", "records.configurations.sources"},
		"no table":                 {"      table: sys_data_source\n", "", "records.configurations.sources"},
		"no purpose":               {"      purpose: ecc_queue\n      condition", "      condition", "records.configurations.sources"},
		"the circle's purpose":     {"purpose: ecc_queue\n      condition", "purpose: circle_of_trust\n      condition", "records.configurations.sources"},
		"its freshness":            {"purpose: ecc_queue\n      condition", "purpose: circle_of_trust.freshness\n      condition", "records.configurations.sources"},
		"the wild card":            {"purpose: ecc_queue\n      condition", "purpose: \"*\"\n      condition", "records.configurations.sources"},
		"a predefined one":         {"    jars:", "    script-includes:", "records.configurations.script-includes"},
		"nothing signed":           {"      attachments: true\n", "", "records.configurations.jars"},
		"a field twice":            {"[sql_statement,", "[sql_statement, type,", "records.configurations.sources"},
		"a long condition":         {"type == 'JDBC'", "type == '" + strings.Repeat("x", 5000) + "'", "records.configurations.sources"},
		"a condition of two lines": {"condition: type == 'JDBC'", `condition: "type ==\n'JDBC'"`, "records.configurations.sources"},
		"a condition that turns":   {"condition: type == 'JDBC'", `condition: "type == '\u202eJDBC'"`, "records.configurations.sources"},
		"a member more":            {"attachments: true", "attachments: true\n      more: 1", "records.configurations.jars.more"},
		"an unattended circle":     {"", "", "policies.circle.rule"},
	} {
		section := strings.Replace(recordsYAML, x.old, x.new, 1)
		c, err := withRecords(t, section)
		if x.old == "" {
			if err != nil {
				t.Fatal(err)
			}
			p := c.Policies["windows"]
			p.Purposes, p.Rule = []string{record.Circle}, charter.Rule{Requesters: []string{"ci"}, Unattended: true}
			p.Upload = false
			c.Policies["circle"] = p
			err = c.Check()
		}
		ce := (*charter.CheckError)(nil)
		if !errors.As(err, &ce) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if i := slices.IndexFunc(ce.Problems, func(p charter.Problem) bool { return strings.HasPrefix(p.Path, x.path) }); i < 0 || x.old != "" && ce.Problems[i].Line == 0 {
			t.Errorf("%s: %v", name, ce.Problems)
		}
	}
	// The keeper knows no expressions: what does not compile is for others to say.
	if _, err := withRecords(t, strings.Replace(recordsYAML, "type == 'JDBC'", "type ==", 1)); err != nil {
		t.Error(err)
	}
}

func TestRecordsDiff(t *testing.T) {
	a, err := withRecords(t, recordsYAML)
	if err != nil {
		t.Fatal(err)
	}
	b, err := withRecords(t, `records:
  instance: build
  configurations:
    sources:
      version: 3
      table: sys_data_source
      purpose: ecc_queue
      fields: [connection_url, sql_statement, type]
      attachments: true
      parameters: [since, until]
    probes:
      version: 1
      table: ecc_agent_script_file
      purpose: ecc_queue
      fields: [script]
`)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, x := range []struct {
		what string
		a, b *charter.Charter
	}{{"none, then some", example(t), a}, {"some, then others", a, b}, {"others, then some", b, a}, {"some, then none", a, example(t)}} {
		fmt.Fprintf(&out, "# %s\n", x.what)
		for _, c := range charter.Diff(x.a, x.b) {
			fmt.Fprintln(&out, c)
		}
	}
	golden(t, "records.diff.txt", out.Bytes())
}

func TestRecordsLint(t *testing.T) {
	codes := func(c *charter.Charter) []string {
		var out []string
		for _, w := range charter.Lint(c) {
			if w.Code == "no-circle" || w.Code == "circle-and-more" {
				out = append(out, w.Path+" "+w.Code)
			}
		}
		return out
	}
	if got := codes(example(t)); got != nil {
		t.Errorf("without records: %v", got)
	}
	c, err := withRecords(t, recordsYAML)
	if err != nil {
		t.Fatal(err)
	}
	if got := codes(c); !slices.Equal(got, []string{"records no-circle"}) {
		t.Errorf("without a policy: %v", got)
	}
	p := c.Policies["windows"]
	p.Formats, p.Purposes = []string{"circle"}, []string{record.Circle}
	c.Policies["circle"] = p
	if got := codes(c); got != nil {
		t.Errorf("with a policy: %v", got)
	}
	p.Purposes = []string{record.Circle, "release"}
	c.Policies["circle"] = p
	if got := codes(c); !slices.Equal(got, []string{"policies.circle circle-and-more"}) {
		t.Errorf("with one for more: %v", got)
	}
}
