package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

const program = "the program, in full"

// apps is a deployment in which alice, carol and the scanner have endorsed two
// files, after some others, and under the second charter.
func apps(tb testing.TB) (*verifytest.Deployment, *verifytest.Request) {
	tb.Helper()
	d := verifytest.New(tb)
	d.Replace(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "second") })
	cms := d.FormatOf("cms")
	r := d.Sign("apps", "dave", d.Item(cms, "app.bin", []byte(program), nil), d.Item(cms, "doc.txt", []byte("the manual"), nil))
	d.Endorse(r, "alice", "scanner", "carol")
	d.Execute(r)
	d.Sign("nightly", "ci", d.Item(cms, "later.bin", []byte("later"), nil))
	return d, r
}

func describe(p charter.Policy, s string) charter.Policy {
	p.Description = s
	return p
}

func TestJudge(t *testing.T) {
	d, r := apps(t)
	e := d.Evidence(r, 1)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := verify.DecodeEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	a, err := verify.Judge(back, d.Root, verifytest.Formats())
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Requester(); got.Name != "dave" || got.Person != "Dave Dirks" || got.CredentialKind != "x509" {
		t.Errorf("requester: %+v", got)
	}
	var names []string
	for _, x := range a.Endorsers() {
		names = append(names, x.Name+" for "+strings.Join(x.For, ","))
		if x.Comment != "seen by "+x.Name || x.Machine != (x.Name == "scanner") || x.Credential == "" {
			t.Errorf("endorser: %+v", x)
		}
	}
	if want := []string{"alice for release", "scanner for gates", "carol for release"}; !slices.Equal(names, want) {
		t.Errorf("endorsers: %v, want %v", names, want)
	}
	if a.Item().Name != "doc.txt" || a.Index() != 1 || a.Plan().Format != "cms" || a.LogIndex() != r.ReceiptEntry || a.Origin() != verifytest.Origin || a.LogSize() <= a.LogIndex() {
		t.Errorf("approval: %+v", a)
	}
	if _, ref := a.Charter(); ref.Version != 2 || a.RequestID() != r.ID || a.Request().Reason != "a test" || a.Policy().Description != "second" {
		t.Errorf("charter %v, request %s, policy %+v", ref, a.RequestID(), a.Policy())
	}
	if !a.Time().Equal(a.Receipt().Time) || a.Decision().State != "granted" || len(a.Signatures()) != 1 || a.Root() != d.Root {
		t.Errorf("approval: %v %v", a.Time(), a.Decision())
	}
}

// TestZero is invariant 1: zero values say nothing and do not panic.
func TestZero(t *testing.T) {
	var a verify.Approval
	if a.Request() != nil || a.Policy() != nil || !a.RequestID().IsZero() || !a.Time().IsZero() || a.Receipt() != nil || len(a.Endorsers()) != 0 || a.Plan() != nil || len(a.Signatures()) != 0 {
		t.Error("a zero Approval says something")
	}
	var v verify.Verified
	if v.Approval() != nil || v.Report() != nil {
		t.Error("a zero Verified says something")
	}
	if _, err := v.JSON(); err == nil {
		t.Error("a zero Verified has JSON")
	}
	var out strings.Builder
	if err := v.Explain(&out); err != nil || out.String() != "nothing was verified\n" {
		t.Errorf("a zero Verified explains %q", out.String())
	}
	if _, err := verify.Judge(nil, [32]byte{}, nil); !errors.Is(err, verify.ErrEvidence) {
		t.Errorf("no evidence: %v", err)
	}
}

// TestPolicies judges what other policies make: unattended, keys without
// certificates, two rounds, attestations.
func TestPolicies(t *testing.T) {
	d := verifytest.New(t)
	for _, x := range []struct {
		policy, requester, format string
		data                      string
		endorsers                 []string
		params                    format.Params
	}{
		{"nightly", "ci", "cms", program, nil, nil},
		{"plain", "dave", "two-rounds", "two rounds\n" + program, []string{"bob"}, format.Params{"note": "n"}},
		{"plain", "dave", "dsse", program, []string{"carol"}, nil},
	} {
		t.Run(x.policy+" "+x.format, func(t *testing.T) {
			r := d.Sign(x.policy, x.requester, d.Item(d.FormatOf(x.format), "app.bin", []byte(x.data), x.params))
			d.Endorse(r, x.endorsers...)
			d.Execute(r)
			e := d.Evidence(r, 0)
			file, detached := d.Attach(r, 0, []byte(x.data))
			v, err := verify.File(context.Background(), verifytest.Artifact("app.bin", file), detached, e, d.Root, format.Trust{}, verifytest.Formats(), verify.Options{KeyFromEvidence: true})
			if err != nil {
				t.Fatal(err)
			}
			if !v.KeyFromEvidence() || len(v.Approval().Endorsers()) != len(x.endorsers) {
				t.Errorf("%+v", v)
			}
			if x.policy == "plain" {
				e.File.PublicKey = nil
				if _, err := verify.Judge(e, d.Root, verifytest.Formats()); err == nil {
					t.Error("judged without the key")
				}
			}
		})
	}
}

// TestHybrid: what a policy's two keys have signed is good with both signatures
// and with nothing less.
func TestHybrid(t *testing.T) {
	ctx := context.Background()
	d := verifytest.New(t, func(c *charter.Charter) {
		c.Keys["quantum"] = charter.Key{URI: "soft:quantum", Algorithm: sigalg.MLDSA65}
		p := c.Policies["plain"]
		p.Also = []string{"quantum"}
		c.Policies["plain"] = p
	})
	d.Keys["quantum"] = formattest.Identity(t, sigalg.MLDSA65)
	r := d.Sign("plain", "dave", d.Item(d.FormatOf("dsse"), "app.bin", []byte(program), nil))
	d.Endorse(r, "bob")
	d.Execute(r)
	e := d.Evidence(r, 0)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if e, err = verify.DecodeEvidence(b); err != nil {
		t.Fatal(err)
	}
	file, detached := d.Attach(r, 0, []byte(program))
	check := func(detached []byte, e *verify.Evidence, o verify.Options, trust format.Trust) error {
		_, err := verify.File(ctx, verifytest.Artifact("app.bin", file), detached, e, d.Root, trust, verifytest.Formats(), o)
		return err
	}
	if err := check(detached, e, verify.Options{KeyFromEvidence: true}, format.Trust{}); err != nil {
		t.Fatal(err)
	}
	// The envelope without its second signature.
	var env map[string]any
	if err := json.Unmarshal(detached, &env); err != nil {
		t.Fatal(err)
	}
	env["signatures"] = env["signatures"].([]any)[:1]
	if b, err = json.Marshal(env); err != nil {
		t.Fatal(err)
	}
	if err := check(b, e, verify.Options{KeyFromEvidence: true}, format.Trust{}); err == nil || !strings.Contains(err.Error(), "1 of the 2 keys") {
		t.Errorf("one signature of two: %v", err)
	}
	for name, change := range map[string]func(f *verify.EvidenceFile){
		"no second key":          func(f *verify.EvidenceFile) { f.Also = nil },
		"the first key twice":    func(f *verify.EvidenceFile) { f.Also = []verify.EvidenceKey{{f.Certificates, f.PublicKey}} },
		"a signature is missing": func(f *verify.EvidenceFile) { f.Signatures = f.Signatures[:1] },
		"signatures swapped":     func(f *verify.EvidenceFile) { f.Signatures = [][]byte{f.Signatures[1], f.Signatures[0]} },
	} {
		bad := *e
		change(&bad.File)
		if _, err := verify.Judge(&bad, d.Root, verifytest.Formats()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFile(t *testing.T) {
	ctx := context.Background()
	d, r := apps(t)
	e := d.Evidence(r, 0)
	file, detached := d.Attach(r, 0, []byte(program))
	trust := d.Keys["app"].Trust()
	trust.Now = verifytest.Start
	fs := verifytest.Formats()
	check := func(name string, data, detached []byte, e *verify.Evidence, trust format.Trust, o verify.Options) (*verify.Verified, error) {
		t.Helper()
		return verify.File(ctx, verifytest.Artifact(name, data), detached, e, d.Root, trust, fs, o)
	}
	v, err := check("app.bin", file, detached, e, trust, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v.KeyFromEvidence() || v.Report().Format != "cms" || v.Signature() != 0 {
		t.Errorf("%+v", v)
	}
	var out bytes.Buffer
	if err := v.Explain(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"app.bin\n", "by dave (Dave Dirks)", "by alice (Alice Alder)", "for release", "scanner (machine)", "found malware = none", "policy     apps of example, charter 2", d.Root.String(), "by the roots or keys"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("explanation lacks %q:\n%s", want, out.String())
		}
	}
	b, err := v.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var j struct {
		Verified bool
		Trust    string
		Approval struct {
			Endorsers []struct{ Name string }
		}
	}
	if err := json.Unmarshal(b, &j); err != nil || !j.Verified || j.Trust != "platform" || len(j.Approval.Endorsers) != 3 || j.Approval.Endorsers[0].Name != "alice" {
		t.Errorf("JSON: %v %+v\n%s", err, j, b)
	}

	anchored, err := check("app.bin", file, detached, e, format.Trust{}, verify.Options{KeyFromEvidence: true})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := anchored.Explain(&out); err != nil || !strings.Contains(out.String(), "was not judged") {
		t.Errorf("explanation does not say what was not judged: %v\n%s", err, out.String())
	}
	if b, err := anchored.JSON(); err != nil || !bytes.Contains(b, []byte(`"trust": "charter"`)) {
		t.Errorf("JSON does not say it: %v", err)
	}

	// The same plan signed twice: another value, of the same key, over the same bytes.
	again := d.Sign("apps", "dave", r.Items...)
	d.Endorse(again, "alice", "scanner", "bob")
	d.Execute(again)
	_, otherDetached := d.Attach(again, 0, []byte(program))
	other := formattest.Identity(t, "ecdsa-p256").Trust()
	manual, manualDetached := d.Attach(r, 1, []byte("the manual"))
	for _, x := range []struct {
		what           string
		data, detached []byte
		e              *verify.Evidence
		trust          format.Trust
		o              verify.Options
		is             error
	}{
		{"another file", []byte(program + "!"), detached, e, trust, verify.Options{}, verify.ErrFile},
		{"no signature", file, nil, e, trust, verify.Options{}, verify.ErrFile},
		{"another file's evidence", manual, manualDetached, e, trust, verify.Options{}, verify.ErrFile},
		{"another request's signature", file, otherDetached, e, trust, verify.Options{}, verify.ErrFile},
		{"no trust", file, detached, e, format.Trust{Now: verifytest.Start}, verify.Options{}, verify.ErrFile},
		{"other roots", file, detached, e, other, verify.Options{}, verify.ErrFile},
		{"roots and the key of the evidence", file, detached, e, trust, verify.Options{KeyFromEvidence: true}, verify.ErrFile},
		{"no evidence", file, detached, nil, trust, verify.Options{}, verify.ErrEvidence},
	} {
		if v, err := check("app.bin", x.data, x.detached, x.e, x.trust, x.o); !errors.Is(err, x.is) || v != nil {
			t.Errorf("%s: %v: want %v", x.what, err, x.is)
		}
	}
}
