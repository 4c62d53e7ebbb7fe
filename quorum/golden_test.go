package quorum_test

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v: run with -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

// vector is a piece of evidence and what it comes to, for those who write another
// verifier.
type vector struct {
	Name         string           `json:"name"`
	At           time.Time        `json:"at"`
	Founding     jsontext.Value   `json:"founding"`
	Request      jsontext.Value   `json:"request"`
	Endorsements []jsontext.Value `json:"endorsements"`
	Decision     *quorum.Decision `json:"decision"`
}

func deployment(t testing.TB) *quorum.Chain {
	c := quorumtest.Charter()
	for _, n := range []string{"alice", "bob", "carol", "dave", "erin"} {
		c.People[n] = quorumtest.Person(n)
	}
	c.Machines = map[string]charter.Machine{"scanner": quorumtest.Machine("scanner", "")}
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob", "carol"}}
	c.Groups["security"] = charter.Group{Members: []string{"dave", "erin"}}
	c.Groups["gate"] = charter.Group{Members: []string{"scanner"}}
	return quorumtest.Found(t, quorumtest.Policy(c, charter.Rule{Requesters: []string{"release"}, Veto: []string{"security"},
		Quorum: &charter.Node{Need: 3, Of: []charter.Node{{Group: "release"}, {Group: "security"}, {Group: "gate"}}}}))
}

func TestGoldenDecisions(t *testing.T) {
	ch := deployment(t)
	at := quorumtest.Start.Add(time.Hour)
	req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "alice"), "alice")
	id := quorumtest.ID(t, req)
	vote := func(name string, v statement.Verdict) []byte {
		return quorumtest.Statement(t, quorumtest.Endorsement(id, name, v, at), name)
	}
	var vs []vector
	for _, c := range []struct {
		name  string
		votes [][]byte
		at    time.Time
	}{
		{"granted", [][]byte{vote("bob", statement.Endorse), vote("dave", statement.Endorse), vote("scanner", statement.Endorse)}, at},
		{"pending", [][]byte{vote("alice", statement.Endorse), vote("dave", statement.Endorse)}, at},
		{"disapproved", [][]byte{vote("bob", statement.Endorse), vote("dave", statement.Endorse), vote("scanner", statement.Endorse), vote("erin", statement.Disapprove)}, at},
		{"expired", nil, quorumtest.Start.Add(168 * time.Hour)},
	} {
		d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: c.votes}, c.at, quorum.Options{})
		if string(d.State) != c.name && string(d.Code) != c.name || (g != nil) != (c.name == "granted") {
			t.Errorf("%s: %+v", c.name, d)
		}
		v := vector{c.name, c.at, ch.Founding(), req, []jsontext.Value{}, d}
		for _, e := range c.votes {
			v.Endorsements = append(v.Endorsements, e)
		}
		vs = append(vs, v)
	}
	b, err := json.Marshal(vs, jsontext.WithIndent(" "), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "decisions.json", append(b, '\n'))
}

// The frozen vectors are judged again from their bytes alone.
func TestFrozenVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/decisions.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil || len(vs) < 4 {
		t.Fatalf("%d vectors: %v", len(vs), err)
	}
	for _, v := range vs {
		compact := func(j jsontext.Value) []byte {
			j = j.Clone()
			if err := j.Compact(); err != nil {
				t.Fatal(err)
			}
			return j
		}
		ch, err := quorum.NewChain(nil, compact(v.Founding))
		if err != nil {
			t.Fatal(err)
		}
		ev := quorum.Evidence{Request: compact(v.Request)}
		for _, e := range v.Endorsements {
			ev.Endorsements = append(ev.Endorsements, compact(e))
		}
		d, _ := ch.Judge(ev, v.At, quorum.Options{})
		got, err1 := json.Marshal(d)
		want, err2 := json.Marshal(v.Decision)
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s, want %s", v.Name, got, want)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	ch := deployment(b)
	at := quorumtest.Start.Add(time.Hour)
	req := quorumtest.Statement(b, quorumtest.Sign(b, ch, "alice"), "alice")
	ev := quorum.Evidence{Request: req}
	for _, n := range []string{"bob", "dave", "scanner"} {
		ev.Endorsements = append(ev.Endorsements, quorumtest.Statement(b, quorumtest.Endorsement(quorumtest.ID(b, req), n, statement.Endorse, at), n))
	}
	for _, c := range []struct {
		name  string
		cache *quorum.Cache
	}{{"verify", nil}, {"cached", quorum.NewCache(100)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, g := ch.Judge(ev, at, quorum.Options{Cache: c.cache}); g == nil {
					b.Fatal("not granted")
				}
			}
		})
	}
}

func FuzzJudge(f *testing.F) {
	ch := deployment(f)
	at := quorumtest.Start.Add(time.Hour)
	req := quorumtest.Statement(f, quorumtest.Sign(f, ch, "alice"), "alice")
	e := quorumtest.Statement(f, quorumtest.Endorsement(quorumtest.ID(f, req), "bob", statement.Endorse, at), "bob")
	v := quorumtest.Statement(f, quorumtest.Endorsement(quorumtest.ID(f, req), "dave", statement.Endorse, at), "dave")
	f.Add(req, e, v)
	f.Add(req, e, e)
	f.Add(e, req, []byte("{}"))
	f.Fuzz(func(t *testing.T, req, a, b []byte) {
		d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: [][]byte{a, b}}, at, quorum.Options{})
		// Three actors are needed and two can have voted.
		if g != nil || d.State == quorum.Granted {
			t.Fatal("granted")
		}
		if d.State == "" || d.Code == "" || d.Reason == "" {
			t.Fatalf("says nothing: %+v", d)
		}
	})
}
