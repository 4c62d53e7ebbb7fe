package threats

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// edit is one place of the production code. find stands there once; in with, OFF is
// true where the mutation is on.
type edit struct{ file, find, with string }

// leave is an edit that has a function accept everything.
func leave(file, function string) edit {
	return edit{file, function + " {\n", function + " {\n\tif OFF {\n\t\treturn nil\n\t}\n"}
}

// mutations take a check out, and name what is then not refused any more. One that
// edits two places does so because the second check stands behind the first.
var mutations = []struct {
	name  string // of the check
	test  string
	fails string // the part of the test
	edits []edit
}{
	{"fields", "TestThreat01ChangedFieldOrSQL", "SQL", []edit{
		leave("record/steps.go", "func (j *judgement) checkFields(c *candidate) *rejection.Error"),
	}},
	{"content of the order", "TestThreat01ChangedFieldOrSQL", "on the way", []edit{
		{"order/delivery.go", "if err != nil || sum != want.Digest {", "if !OFF && (err != nil || sum != want.Digest) {"},
	}},
	{"fields of executors", "TestThreat02UnsignedField", "an executor depends on it", []edit{
		{"internal/agent/exec/exec.go", "v, ok := t.Field(field)\n\tif !ok {", "v, ok := t.Field(field)\n\tif !ok && !OFF {"},
	}},
	{"coverage", "TestThreat02UnsignedField", "the statement leaves it out", []edit{
		leave("record/steps.go", "func (j *judgement) checkCoverage(c *candidate) *rejection.Error"),
	}},
	{"record", "TestThreat03SignatureOfAnotherRecord", "b under the name of a", []edit{
		leave("record/steps.go", "func (j *judgement) checkRecord(c *candidate) *rejection.Error"),
	}},
	{"path", "TestThreat03SignatureOfAnotherRecord", "the statement at the other's place in the tree", []edit{
		leave("record/steps.go", "func (j *judgement) checkPath(c *candidate) *rejection.Error"),
	}},
	{"purpose", "TestThreat04Purpose", "signed for another one", []edit{
		leave("record/steps.go", "func (j *judgement) checkPurpose(c *candidate) *rejection.Error"),
	}},
	{"revocation", "TestThreat05Certificate", "revoked", []edit{
		{"record/roots.go", "for _, r := range v.revoked[f] {", "for _, r := range v.revoked[f] {\n\t\t\t\tif OFF {\n\t\t\t\t\tcontinue\n\t\t\t\t}"},
	}},
	{"revision", "TestThreat06Rollback", "the old version with its signature", []edit{
		leave("record/steps.go", "func (j *judgement) checkRevision(c *candidate) *rejection.Error"),
		{"internal/agent/seen.go", "case have > revision:", "case have > revision && !OFF:"},
	}},
	{"orders that were begun", "TestThreat07Replay", "the same order again", []edit{
		{"internal/agent/seen.go", "if _, ok := s.until[key]; ok || s.claimed[key] {", "if _, ok := s.until[key]; !OFF && (ok || s.claimed[key]) {"},
	}},
	{"expiry of orders", "TestThreat07Replay", "an order of yesterday", []edit{
		{"order/order.go", "case !now.Before(time.Unix(o.Expires, 0)):", "case !OFF && !now.Before(time.Unix(o.Expires, 0)):"},
		{"internal/agent/work.go", "if !now.Before(g.expires) {", "if !OFF && !now.Before(g.expires) {"},
	}},
	{"the agent's name", "TestThreat08AnotherAgent", "of another agent", []edit{
		{"order/order.go", `case v.Agent == "" || o.Agent != v.Agent:`, `case !OFF && (v.Agent == "" || o.Agent != v.Agent):`},
	}},
	{"the instance's signature", "TestThreat08AnotherAgent", "by another instance's key", []edit{
		{"order/order.go", "if !v.signed(s) {", "if !v.signed(s) && !OFF {"},
	}},
	{"parameters", "TestThreat09Parameters", "one that nobody signed", []edit{
		{"internal/agent/judge.go", "if err := v.CheckParams(cfg.Parameters); err != nil {", "if err := v.CheckParams(cfg.Parameters); err != nil && !OFF {"},
	}},
	{"parameters and fields", "TestThreat09Parameters", "listed, and the name of a signed field", []edit{
		{"internal/agent/judge.go", "if cfg.Covers(p) {", "if cfg.Covers(p) && !OFF {"},
	}},
	{"bytes of attachments", "TestThreat10Swap", "an attachment's bytes", []edit{
		{"internal/agent/judge.go", "if int64(len(b)) != att.Size || sha256.Sum256(b) != att.SHA256 {", "if !OFF && (int64(len(b)) != att.Size || sha256.Sum256(b) != att.SHA256) {"},
	}},
	{"operations", "TestThreat11Operations", "delete_multiple", []edit{
		{"internal/updateset/verify.go", "if why := p.policy.Rules.hazard(u, o); why != nil {", "if why := p.policy.Rules.hazard(u, o); why != nil && !OFF {"},
	}},
	{"elements that stand twice", "TestThreat12XML", "element twice", []edit{
		{"internal/updateset/payload.go", "if _, twice := o.Fields[t.name]; twice {", "if _, twice := o.Fields[t.name]; twice && !OFF {"},
	}},
	{"configuration", "TestThreat13Downgrade", "a narrowed configuration", []edit{
		{"record/steps.go", "if f.ref != s.Configuration || f.Table != s.Ref.Table || f.Purpose != s.Purpose {", "if !OFF && (f.ref != s.Configuration || f.Table != s.Ref.Table || f.Purpose != s.Purpose) {"},
		leave("record/steps.go", "func (j *judgement) checkCoverage(c *candidate) *rejection.Error"),
	}},
	{"configurations of the charter", "TestThreat13Downgrade", "the circle narrows it, and the charter does not", []edit{
		{"circle/judge.go", "if !sameConfiguration(ours, theirs) {", "if !sameConfiguration(ours, theirs) && !OFF {"},
	}},
	{"what the next version follows", "TestThreat14Stripping", "the revocation, by a version that does not follow", []edit{
		{"circle/circle.go", "case b.Version == a.Version+1 && b.Previous != known.id:", "case b.Version == a.Version+1 && b.Previous != known.id && !OFF:"},
	}},
	{"freshness", "TestThreat15StaleTrust", "freshness has ended", []edit{
		{"circle/circle.go", "case !now.Before(f.until(v)):", "case !now.Before(f.until(v)) && !OFF:"},
	}},
	{"the clock", "TestThreat16Clock", "in the same process", []edit{
		{"internal/agent/seen.go", "if now.Before(s.high.Add(-clockSkew)) {", "if now.Before(s.high.Add(-clockSkew)) && !OFF {"},
		{"circle/circle.go", "if now.Before(c.time.Add(-Skew)) {", "if now.Before(c.time.Add(-Skew)) && !OFF {"},
	}},
	{"issuer", "TestThreat17ProtectedInstance", "signed on the protected instance", []edit{
		leave("record/steps.go", "func (j *judgement) checkIssuer(c *candidate) *rejection.Error"),
		{"record/trust.go", "(len(a.Issuers) == 0 || slices.Contains(a.Issuers, s.Issuer))", "(OFF || len(a.Issuers) == 0 || slices.Contains(a.Issuers, s.Issuer))"},
	}},
	{"anchor", "TestThreat17ProtectedInstance", "a certificate of his own", []edit{
		leave("record/steps.go", "func (j *judgement) checkAnchor(c *candidate) *rejection.Error"),
	}},
	{"algorithm", "TestThreat18Algorithms", "a key that is too short", []edit{
		leave("record/roots.go", "func (v *Verifier) checkAlgorithm(s *signed) *rejection.Error"),
	}},
	{"signature of the root", "TestThreat18Algorithms", "garbage behind the digest", []edit{
		leave("record/roots.go", "func (v *Verifier) checkRootSignature(s *signed) *rejection.Error"),
	}},
	{"number of signatures", "TestThreat19Exhaustion", "signatures on a record", []edit{
		{"order/delivery.go", "case len(r.Signatures) > MaxSignatures:", "case len(r.Signatures) > MaxSignatures && !OFF:"},
		{"record/judgement.go", "if len(sigs) > j.v.checks.most {", "if len(sigs) > j.v.checks.most && !OFF {"},
	}},
	{"what refusals say", "TestThreat20Logs", "an attachment's name", []edit{
		{"rejection/rejection.go", "if r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) {", "if !OFF && (r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r)) {"},
	}},
	{"dependencies", "TestThreat21Dependency", "unsigned, and not needed", []edit{
		{"internal/agent/judge.go", "if r := rejection.Of(err); r != nil {\n\t\t\treturn nil, rejection.New(rejection.DependencyUnsigned", "if err != nil && OFF {\n\t\t\tcontinue\n\t\t}\n\t\tif r := rejection.Of(err); r != nil {\n\t\t\treturn nil, rejection.New(rejection.DependencyUnsigned"},
	}},
	{"deletion", "TestThreat22Removal", "the signature of the record", []edit{
		{"record/steps.go", "case j.deletion && !c.statement.Deleted:", "case j.deletion && !c.statement.Deleted && !OFF:"},
	}},
}

const mutationVariable = "GREATSEAL_THREATS_WITHOUT"

// mutate makes copies of the sources in which each mutation can be switched on, and
// the overlay that puts them in their places.
func mutate(t *testing.T, root, dir string) string {
	t.Helper()
	texts := map[string]string{}
	for _, m := range mutations {
		for _, e := range m.edits {
			path := filepath.Join(root, filepath.FromSlash(e.file))
			if _, ok := texts[path]; !ok {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				texts[path] = string(b)
				if n := strings.Count(texts[path], "\nimport (\n"); n != 1 {
					t.Fatalf("%s has %d lists of imports", e.file, n)
				}
				texts[path] = strings.Replace(texts[path], "\nimport (\n", "\nimport (\n\tmutation \"os\"\n", 1)
			}
			// A check may be taken out by more than one mutation: what is looked for is
			// the code as it stands in the repository.
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), e.find); n != 1 {
				t.Fatalf("mutation %q: %q stands %d times in %s: the check has moved, or is written in another way; say here how it is taken out now", m.name, e.find, n, e.file)
			}
			off := fmt.Sprintf("(mutation.Getenv(%q) == %q)", mutationVariable, m.name)
			with := strings.ReplaceAll(e.with, "OFF", off)
			if strings.Count(texts[path], e.find) != 1 {
				t.Fatalf("mutation %q: another one edits the same place of %s: join them", m.name, e.file)
			}
			texts[path] = strings.Replace(texts[path], e.find, with, 1)
		}
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range texts {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, strings.ReplaceAll(filepath.ToSlash(rel), "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = to
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Without its check, each threat's test fails, in the part that the check is for. All
// mutations are compiled once, and switched on one by one.
func TestMutations(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "threats.test")
	build := exec.Command("go", "test", "-c", "-overlay", mutate(t, root, dir), "-o", binary, "./internal/threats")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: a mutation does not compile\n%.4000s", err, out)
	}
	run := func(pattern, without string) (string, error) {
		c := exec.Command(binary, "-test.v", "-test.run", pattern, "-test.timeout", "5m")
		c.Dir = filepath.Join(root, "internal", "threats")
		c.Env = append(os.Environ(), mutationVariable+"="+without)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	var tests []string
	for _, m := range mutations {
		if !slices.Contains(tests, m.test) {
			tests = append(tests, m.test)
		}
	}
	if len(tests) != 22 {
		t.Errorf("%d of 22 threats have a mutation", len(tests))
	}
	if out, err := run("^("+strings.Join(tests, "|")+")$", ""); err != nil || strings.Count(out, "\n--- PASS: ") < len(tests)-1 {
		t.Fatalf("the tests fail with every check in its place: %v\n%.4000s", err, out)
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			out, err := run("^"+m.test+"$", m.name)
			part := func(verdict, name string) bool {
				name = regexp.QuoteMeta(strings.ReplaceAll(name, " ", "_"))
				return regexp.MustCompile(`(?m)^    --- ` + verdict + `: ` + m.test + `/` + name + `(,_\S*)? \(`).MatchString(out)
			}
			if err == nil || !part("FAIL", m.fails) {
				t.Errorf("without the check %q, %s is still refused: %v\n%.3000s", m.name, m.fails, err, out)
			}
			t.Logf("something hostile was executed: %t", strings.Contains(out, "it ran: ") || strings.Contains(out, "is believed"))
			if !part("PASS", "honest") {
				t.Errorf("without the check %q, what is honest does not run: the failure says nothing\n%.3000s", m.name, out)
			}
		})
	}
}
