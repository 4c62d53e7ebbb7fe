package rules_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/rules"
	"github.com/greatseal-io/greatseal/statement"
)

func file(t *testing.T, path string) *check.File {
	t.Helper()
	return &check.File{
		Request: &statement.Request{Requester: "alice", Reason: "release", Origin: []statement.Claim{{Name: "repository", Value: "https://example.com/app"}},
			Command: statement.Command{Sign: &statement.SignArgs{Policy: "release", Count: 1}}},
		Item: &format.Item{Name: "dist/app.exe", Claims: []format.Fact{{Name: "version", Value: "1.10.0"}}},
		Plan: &format.Plan{Format: "pe", Digest: "sha256", Size: 4711, Content: []byte{1, 2}, Params: []format.Fact{{Name: "digest", Value: "sha256"}},
			Facts: []format.Fact{{Name: "product-version", Value: "1.10.0"}, {Name: "company-name", Value: "Example Ltd"}, {Name: "signer", Value: "A"}, {Name: "signer", Value: "B"}}},
		Path: path,
	}
}

// image is a PE image as far as the flags are read of it.
func image(t *testing.T, flags uint16) string {
	t.Helper()
	b := make([]byte, 0x80+4+20+96)
	binary.LittleEndian.PutUint32(b[0x3c:], 0x80)
	binary.LittleEndian.PutUint16(b[0x80+4+20+70:], flags)
	p := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRules(t *testing.T) {
	hard := image(t, 0x4160)
	for _, c := range []struct {
		when, demand string
		flags        string
		want         string // of the refusal; "": endorsed
	}{
		{"", `format == "pe" && size < 10000 && name.endsWith(".exe")`, hard, ""},
		{"", `facts["company-name"] == "Example Ltd" && all["signer"] == ["A", "B"] && entries.size() == 0`, hard, ""},
		{"", `versions(facts["product-version"], "1.9.9") > 0 && claims["version"] == facts["product-version"]`, hard, ""},
		{"", `requester == "alice" && policy == "release" && origin["repository"].matches("^https://example[.]com/")`, hard, ""},
		{"", `params.digest == "sha256" && content == "0102" && count == 1 && index == 0`, hard, ""},
		{"", `hardening.aslr && hardening.dep && hardening.cfg && hardening.high_entropy`, hard, ""},
		{"", `hardening.cfg`, image(t, 0x0140), "rule r: because"},
		{"", `hardening.aslr`, image(t, 0), "rule r: because"},
		{"", `facts["product-name"] == "App"`, hard, "rule r has no value for it: no such key"},
		{`facts["nothing"] == ""`, `true`, hard, "rule r has no value for it"},
		{`format == "msi"`, `true`, hard, "no rule is about files like this"},
		{`format == "pe"`, `false`, hard, "rule r: because"},
		{"", `[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))`, hard, "cost"},
	} {
		r, err := rules.New([]rules.Rule{{Name: "r", When: c.when, Demand: c.demand, Reason: "because"}}, false)
		if err != nil {
			t.Errorf("%s: %v", c.demand, err)
			continue
		}
		o, err := r.File(t.Context(), file(t, c.flags))
		if err != nil || o.Endorse != (c.want == "") || !strings.Contains(o.Reason, c.want) {
			t.Errorf("%s: %v %q %v, want %q", c.demand, o.Endorse, o.Reason, err, c.want)
		}
	}
}

// Without bytes there are no findings, and hardening is empty.
func TestPlanOnly(t *testing.T) {
	r, err := rules.New([]rules.Rule{{Name: "r", Demand: "hardening.aslr"}}, true)
	if err != nil || r.Bytes() {
		t.Fatalf("%v", err)
	}
	if o, err := r.File(t.Context(), file(t, "")); err != nil || o.Endorse {
		t.Errorf("%+v %v", o, err)
	}
}

// A file that cannot be read any more gives no opinion.
func TestNoFile(t *testing.T) {
	r, err := rules.New([]rules.Rule{{Name: "r", Demand: "true"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := r.File(t.Context(), file(t, "/nonexistent/file")); err == nil {
		t.Errorf("%+v", o)
	}
}

// Invariant 1: what does not compile is refused.
func TestRefused(t *testing.T) {
	for _, r := range []rules.Rule{
		{Name: "r", Demand: ""}, {Name: "", Demand: "true"}, {Name: "r", Demand: "size"}, {Name: "r", Demand: "size =="}, {Name: "r", Demand: "nothing == 1"},
		{Name: "r", Demand: `name == 1`}, {Name: "r", When: "1", Demand: "true"}, {Name: "r", Demand: "true || " + strings.Repeat("true || ", 2000) + "true"},
		{Name: "r", Demand: strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500)},
		{Name: "r", Demand: "true", Reason: strings.Repeat("x", 301)},
	} {
		if _, err := rules.New([]rules.Rule{r}, false); err == nil {
			t.Errorf("%.60q was accepted", r.Demand)
		}
	}
	if _, err := rules.New(nil, false); err == nil {
		t.Error("no rules were accepted")
	}
	if _, err := rules.New([]rules.Rule{{Name: "r", Demand: "true"}, {Name: "r", Demand: "true"}}, false); err == nil {
		t.Error("two rules of one name were accepted")
	}
}

func TestVersions(t *testing.T) {
	rising := []string{"0.9", "1.0-beta", "1.0-rc1", "1.0", "1.0.1", "1.2", "1.10", "v2", "10.0.0.1", "99999999999999999999999"}
	for i, a := range rising {
		for j, b := range rising {
			want := min(1, max(-1, i-j))
			if got := rules.Versions(a, b); got != want {
				t.Errorf("%s and %s: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1.0.0"}, {"01.2", "1.2"}, {"v1", "1"}} {
		if rules.Versions(same[0], same[1]) != 0 {
			t.Errorf("%v differ", same)
		}
	}
}
