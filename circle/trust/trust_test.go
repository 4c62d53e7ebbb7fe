package trust_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed:\n%s", name, got)
	}
}

const print = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// full is a statement in which everything is set.
func full(t testing.TB) *trust.Statement {
	s := circletest.Statement(t)
	s.Version, s.Previous = 7, statement.IDOf([]byte("the version before"))
	s.VendorBuilds = true
	s.Instances["test"] = trust.Instance{Role: trust.Protected, Enforcement: trust.Report}
	s.Anchors = append(s.Anchors, record.Anchor{Name: "vendor", Certificate: circletest.Certificate(t, "vendor"), Purposes: []string{record.Wildcard},
		Tables: []string{"sys_script", "sys_script_include"}, Issuers: []string{circletest.Trusted}, VendorBuilds: true})
	s.Revocations = []record.Revocation{
		{Fingerprint: print, Since: verifytest.Start, Compromised: true, Reason: "lost on a train"},
		{Fingerprint: strings.Replace(print, "0", "f", 1)},
	}
	s.Floors = []record.Floor{{Ref: record.Ref{Table: "sys_script", Key: []string{"a1"}}, Revision: 4}}
	s.TimestampRoots = [][]byte{circletest.Certificate(t, "time")}
	return s
}

func fresh() *trust.Freshness {
	return &trust.Freshness{Deployment: verifytest.Name, Circle: statement.IDOf([]byte("circle")), Version: 7, At: verifytest.Start, Expires: verifytest.Start.Add(time.Hour)}
}

// The vectors are for those who write another verifier.
func TestGolden(t *testing.T) {
	b, err := full(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "statement.json", b)
	golden(t, "statement.id", []byte(trust.ID(b).String()+"\n"))
	f, err := fresh().Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "freshness.json", f)
	var out bytes.Buffer
	for _, x := range append(full(t).Facts(), fresh().Facts()...) {
		fmt.Fprintf(&out, "%s: %s\n", x.Name, x.Value)
	}
	golden(t, "facts.txt", out.Bytes())
}

// Invariants 1 and 3.
func TestStrict(t *testing.T) {
	payload, err := full(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	s, err := trust.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Encode(); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("re-encoded it differs: %v", err)
	}
	for _, r := range [][2]string{
		{`"version":7`, `"version": 7`}, {`"version":7`, `"version":7.0`}, {`"version":7`, `"version":8`},
		{`"deployment":"example"`, `"deployment":"example","deployment":"example"`}, {`"deployment":"example"`, `"deployment":"example","more":1`},
		{`"enforcement":"on"`, `"enforcement":"off"`}, {`"greatsealCircle"`, `"sha256"`}, {`circle/v1`, `circle/v2`},
		{`12:00:00Z`, `12:00:00.0Z`}, {`"vendorBuilds":true,`, `"vendorBuilds":false,`}, {`lost on`, `lo\u0073t on`},
	} {
		b := bytes.Replace(payload, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(b, payload) {
			t.Errorf("%s is not in the payload", r[0])
		} else if _, err := trust.Decode(b); err == nil {
			t.Errorf("%s for %s is accepted", r[1], r[0])
		}
	}
	if _, err := trust.Decode(append(payload, '\n')); err == nil {
		t.Error("a byte more is accepted")
	}
	if _, err := trust.Decode(make([]byte, trust.MaxStatement+1)); err == nil {
		t.Error("a large payload is accepted")
	}
	f, err := fresh().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Decode(f); err == nil {
		t.Error("a freshness statement is taken for trust")
	}
	if _, err := trust.DecodeFreshness(payload); err == nil {
		t.Error("trust is taken for a freshness statement")
	}
	if trust.IsFreshness(payload) || !trust.IsFreshness(f) {
		t.Error("the two are not told apart")
	}
}

func TestCheck(t *testing.T) {
	key := circletest.RuntimeKey(t, "other")
	for name, edit := range map[string]func(*trust.Statement){
		"no version":                   func(s *trust.Statement) { s.Version = 0 },
		"a huge version":               func(s *trust.Statement) { s.Version = 1 << 60 },
		"a first version with another": func(s *trust.Statement) { s.Version = 1 },
		"no predecessor":               func(s *trust.Statement) { s.Previous = statement.ID{} },
		"a bad deployment":             func(s *trust.Statement) { s.Deployment = "Ex" },
		"expired before it began":      func(s *trust.Statement) { s.Expires = s.Created },
		"for ever":                     func(s *trust.Statement) { s.Expires = s.Created.AddDate(9, 0, 0) },
		"parts of a second":            func(s *trust.Statement) { s.Created = s.Created.Add(1) },
		"a freshness of ages":          func(s *trust.Statement) { s.Freshness = trust.MaxFreshness + 1 },
		"no instances":                 func(s *trust.Statement) { s.Instances = nil },
		"nobody trusted":               func(s *trust.Statement) { delete(s.Instances, circletest.Trusted); s.Anchors = nil },
		"a bad name":                   func(s *trust.Statement) { s.Instances["A b"] = trust.Instance{Role: trust.Trusted} },
		"no role":                      func(s *trust.Statement) { s.Instances["x"] = trust.Instance{} },
		"no enforcement":               func(s *trust.Statement) { s.Instances["x"] = trust.Instance{Role: trust.Protected} },
		"enforcement where one signs": func(s *trust.Statement) {
			s.Instances["x"] = trust.Instance{Role: trust.Trusted, Enforcement: trust.On}
		},
		"runtime keys where one signs": func(s *trust.Statement) {
			s.Instances["x"] = trust.Instance{Role: trust.Trusted, RuntimeKeys: [][]byte{key}}
		},
		"a runtime key for two": func(s *trust.Statement) {
			s.Instances["x"] = trust.Instance{Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{circletest.RuntimeKey(t, "runtime")}}
		},
		"a runtime key twice": func(s *trust.Statement) {
			s.Instances["x"] = trust.Instance{Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{key, key}}
		},
		"a runtime key that is none": func(s *trust.Statement) {
			s.Instances["x"] = trust.Instance{Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{key[:20]}}
		},
		"an anchor that is none":        func(s *trust.Statement) { s.Anchors[0].Certificate = []byte{1} },
		"an anchor and more":            func(s *trust.Statement) { s.Anchors[0].Certificate = append(s.Anchors[0].Certificate, 0) },
		"an anchor without a name":      func(s *trust.Statement) { s.Anchors[0].Name = "" },
		"an anchor of two lines":        func(s *trust.Statement) { s.Anchors[0].Name = "a\nb" },
		"an anchor that turns the text": func(s *trust.Statement) { s.Anchors[0].Name = "a\u202eb" },
		"an anchor for nothing":         func(s *trust.Statement) { s.Anchors[0].Purposes = nil },
		"an anchor for circles":         func(s *trust.Statement) { s.Anchors[0].Purposes = []string{record.Circle} },
		"an anchor for freshness":       func(s *trust.Statement) { s.Anchors[0].Purposes = []string{record.Freshness} },
		"an anchor of a stranger":       func(s *trust.Statement) { s.Anchors[0].Issuers = []string{"elsewhere"} },
		"an anchor of a protected one":  func(s *trust.Statement) { s.Anchors[0].Issuers = []string{circletest.Protected} },
		"anchors out of order":          func(s *trust.Statement) { slices.Reverse(s.Anchors) },
		"purposes out of order":         func(s *trust.Statement) { slices.Reverse(s.Anchors[0].Purposes) },
		"no anchors, written":           func(s *trust.Statement) { s.Anchors = []record.Anchor{} },
		"no configurations":             func(s *trust.Statement) { s.Configurations = nil },
		"a wild card configuration": func(s *trust.Statement) {
			s.Configurations["x"] = record.Configuration{Version: 1, Table: "sys_script", Purpose: record.Wildcard, Fields: []string{"script"}}
		},
		"a fingerprint that is none":   func(s *trust.Statement) { s.Revocations[0].Fingerprint = "00" },
		"a fingerprint in capitals":    func(s *trust.Statement) { s.Revocations[0].Fingerprint = strings.ToUpper(print) },
		"a revocation twice":           func(s *trust.Statement) { s.Revocations[1] = s.Revocations[0] },
		"a reason of two lines":        func(s *trust.Statement) { s.Revocations[0].Reason = "a\nb" },
		"since a part of a second":     func(s *trust.Statement) { s.Revocations[0].Since = verifytest.Start.Add(1) },
		"a floor without a key":        func(s *trust.Statement) { s.Floors[0].Ref.Key = nil },
		"a floor of nothing":           func(s *trust.Statement) { s.Floors[0].Revision = 0 },
		"floors twice":                 func(s *trust.Statement) { s.Floors = append(s.Floors, s.Floors[0]) },
		"a timestamp root that is not": func(s *trust.Statement) { s.TimestampRoots = [][]byte{{1}} },
		"a timestamp root twice":       func(s *trust.Statement) { s.TimestampRoots = append(s.TimestampRoots, s.TimestampRoots[0]) },
	} {
		s := full(t)
		edit(s)
		if _, err := s.Encode(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for name, edit := range map[string]func(*trust.Freshness){
		"of nothing":     func(f *trust.Freshness) { f.Circle = statement.ID{} },
		"of no version":  func(f *trust.Freshness) { f.Version = 0 },
		"over at once":   func(f *trust.Freshness) { f.Expires = f.At },
		"for ever":       func(f *trust.Freshness) { f.Expires = f.At.AddDate(2, 0, 0) },
		"of a bad name":  func(f *trust.Freshness) { f.Deployment = "" },
		"at no time":     func(f *trust.Freshness) { f.At = time.Time{} },
		"in parts of it": func(f *trust.Freshness) { f.Expires = f.Expires.Add(1) },
	} {
		f := fresh()
		edit(f)
		if _, err := f.Encode(); err == nil {
			t.Errorf("freshness %s is accepted", name)
		}
	}
}

// Facts are what plans take, whatever the statement holds.
func TestFactsFit(t *testing.T) {
	s := full(t)
	for i := range 500 {
		s.Revocations = append(s.Revocations, record.Revocation{Fingerprint: fmt.Sprintf("%064x", i), Reason: strings.Repeat("x", 200)})
		s.Floors = append(s.Floors, record.Floor{Ref: record.Ref{Table: "t", Key: []string{strings.Repeat("k", 200), strings.Repeat("l", 200), fmt.Sprint(i)}}, Revision: 1})
		s.Instances[fmt.Sprintf("i%d", i)] = trust.Instance{Role: trust.Trusted}
		s.Configurations[fmt.Sprintf("c%d", i)] = s.Configurations["sources"]
		s.Anchors = append(s.Anchors, s.Anchors[0])
		s.TimestampRoots = append(s.TimestampRoots, s.TimestampRoots[0])
	}
	p := format.Plan{Format: "x", Digest: "sha256", Content: make([]byte, 32), Facts: s.Facts()}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if !slices.Contains(p.Facts, format.Fact{Name: "revocations", Value: "502"}) {
		t.Error("the count of revocations is not a fact")
	}
}

// Nothing in a statement turns the text of its facts around, or makes two lines of one.
func TestFactsDoNotTurn(t *testing.T) {
	for _, r := range []rune{'\n', 0x1b, 0x2028, 0x2029, 0x061c, 0x200e, 0x200f, 0x202e, 0x2066, 0x2069} {
		s := full(t)
		s.Revocations = append(s.Revocations, record.Revocation{Fingerprint: strings.Repeat("0", 64), Reason: "lost" + string(r) + "found"})
		found := false
		for _, f := range s.Facts() {
			if strings.ContainsRune(f.Name+f.Value, r) {
				t.Errorf("%U stands in %q", r, f)
			}
			found = found || strings.HasSuffix(f.Value, "lost?found")
		}
		if !found {
			t.Errorf("%U: the reason is not shown", r)
		}
	}
}

func TestStricter(t *testing.T) {
	for _, x := range []struct{ a, b, want trust.Enforcement }{
		{trust.Off, trust.Off, trust.Off}, {trust.Off, trust.Report, trust.Report}, {trust.Report, trust.Off, trust.Report}, {trust.Off, trust.On, trust.On},
		{trust.On, trust.Off, trust.On}, {trust.Report, trust.Report, trust.Report}, {trust.Report, trust.On, trust.On}, {"", trust.Report, trust.On}, {"", trust.Off, trust.On}, {trust.Off, "ON", trust.On},
	} {
		if got := trust.Stricter(x.a, x.b); got != x.want {
			t.Errorf("%q, %q: %q", x.a, x.b, got)
		}
	}
}

func TestDiff(t *testing.T) {
	a, b := full(t), full(t)
	if d := trust.Diff(a, b); len(d) != 0 {
		t.Errorf("of nothing: %v", d)
	}
	b.Freshness, b.VendorBuilds = 0, false
	prod := b.Instances[circletest.Protected]
	prod.Enforcement = trust.Off
	b.Instances[circletest.Protected] = prod
	delete(b.Instances, "test")
	b.Anchors = b.Anchors[:1]
	b.Revocations = b.Revocations[1:]
	b.Floors[0].Revision = 5
	c := b.Configurations["sources"]
	c.Version, c.Fields = 2, []string{"sql_statement"}
	b.Configurations["sources"] = c
	var out bytes.Buffer
	for _, x := range trust.Diff(a, b) {
		fmt.Fprintln(&out, x)
	}
	golden(t, "diff.txt", out.Bytes())
}

func FuzzDecode(f *testing.F) {
	b, err := full(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	c, err := fresh().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(c)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := trust.Decode(b); err == nil {
			if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%q re-encodes to %q, %v", b, again, err)
			}
		}
		if s, err := trust.DecodeFreshness(b); err == nil {
			if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%q re-encodes to %q, %v", b, again, err)
			}
		}
	})
}
