package requests_test

import (
	"encoding/base64"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/statement"
)

// assertion is a form's assertion as a signature.
func assertion(t *testing.T, f url.Values) []byte {
	t.Helper()
	raw := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(f.Get(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sig, err := credential.Assertion{AuthenticatorData: raw(web.FieldAuthData), ClientDataJSON: raw(web.FieldClient), Signature: raw(web.FieldSignature)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// Whatever a requester or an endorser writes stays text on every page: names of files,
// claims and their names, reasons, origins and their names, facts of plans, comments and
// findings.
func TestWhatPeopleWriteStaysText(t *testing.T) {
	d := newDesk(t)
	bob := d.As("bob")
	for i, bad := range webtest.Hostile() {
		if strings.Contains(bad, "\u202e") {
			continue // refused in all that is signed
		}
		f := cmsfile.New()
		params, err := format.Params{}.Check(f)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := f.Plan(t.Context(), format.BytesArtifact("x", []byte{byte(i), 1, 2}), params)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		item, err := (&format.Item{Plan: enc, Name: bad, Claims: []format.Fact{{Name: "version", Value: bad}}}).Encode()
		if err != nil {
			t.Fatalf("%q: %v", bad, err)
		}
		items := [][]byte{item, d.Item("other.bin", []byte{byte(i)})}
		env := d.Sign("alice", "release", items, func(r *statement.Request) {
			r.Reason = bad
			r.Origin = []statement.Claim{{Name: "repository", Value: bad}}
		})
		r, _, err := d.Server.Submit(t.Context(), env, items)
		if err != nil {
			t.Fatalf("%q: %v", bad, err)
		}
		said := d.Say(statement.Endorse, "carol", env, func(e *statement.Endorsement) {
			e.Comment = bad
			e.Findings = []statement.Claim{{Name: "scan", Value: bad}}
		})
		if _, err := d.Server.Endorse(t.Context(), said); err != nil {
			t.Fatal(err)
		}
		id := r.ID.String()
		q := url.QueryEscape(bad)
		for _, at := range []string{
			"/console/", path(id), path(id) + "/files?file=0", path(id) + "/files?name=" + q, "/console/requests?policy=" + q + "&requester=" + q, "/console/requests",
			"/console/requests?state=" + q, "/console/requests?request=" + q, path(q), "/console/" + q, "/console/?before=" + q,
		} {
			bob.Get(at).Clean().Small()
			bob.HTMX(at).Clean().Small()
		}
		bob.Get(path(id)).OK().Has(bad)
		bob.Draft(path(id)+"/draft", url.Values{"verdict": {"endorse"}, "comment": {bad}}).OK()
	}
}

// Version resources are written by whoever builds the file.
func TestFactsOfFilesStayText(t *testing.T) {
	d := newDesk(t)
	bob := d.As("bob")
	content, err := os.ReadFile("../../../format/pe/testdata/signed.exe")
	if err != nil {
		t.Fatal(err)
	}
	f := pe.New()
	params, err := format.Params{}.Check(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range webtest.Hostile() {
		if strings.Contains(bad, "\u202e") {
			continue // refused in all that is signed
		}
		plan, err := f.Plan(t.Context(), format.BytesArtifact("app.exe", content), params)
		if err != nil {
			t.Fatal(err)
		}
		// What stands behind the facts that the format checks is the word of whoever
		// made the plan.
		last := &plan.Facts[len(plan.Facts)-1]
		last.Value = bad
		enc, err := plan.Encode()
		if err != nil {
			t.Fatalf("%q: %v", bad, err)
		}
		item, err := (&format.Item{Plan: enc, Name: "app.exe", Claims: []format.Fact{}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		root, err := format.ItemsRoot([][]byte{item})
		if err != nil {
			t.Fatal(err)
		}
		env := d.Request("alice", statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: "release", Key: "release", Formats: []string{"pe"}, Count: 1, Items: root.String()}})
		r, _, err := d.Server.Submit(t.Context(), env, [][]byte{item})
		if err != nil {
			t.Fatalf("%q: %v", bad, err)
		}
		bob.Get(path(r.ID.String())).OK().Clean().Small().Has(last.Name, bad)
	}
}

func TestClaimsAreMarkedApart(t *testing.T) {
	d := newDesk(t)
	id, env := d.ask("alice", "release", "app", 1, func(r *statement.Request) { r.Reason = "the reason given" })
	bob := d.As("bob")
	marked := func(class string) map[string]bool {
		p := bob.Get(path(id)).OK()
		out := map[string]bool{}
		for _, n := range p.Find("span", "class", class) {
			out[n.FirstChild.Data] = true
		}
		return out
	}
	if m := marked("claim"); !m["the reason given"] || !m["app-0.bin"] || !m["1.2.3"] {
		t.Errorf("claims: %v", m)
	}
	if m := marked("finding"); len(m) != 0 {
		t.Errorf("nobody has made the plan anew, and %v is said to be", m)
	}
	said := d.Say(statement.Endorse, "carol", env, func(e *statement.Endorsement) {
		e.Findings = []statement.Claim{{Name: "plans-recomputed", Value: "1 of 1"}}
	})
	if _, err := d.Server.Endorse(t.Context(), said); err != nil {
		t.Fatal(err)
	}
	bob.Get(path(id)).OK().Has("What carol read from the file anew")
	if m := marked("claim"); !m["1.2.3"] {
		t.Errorf("claims are no findings: %v", m)
	}
}
