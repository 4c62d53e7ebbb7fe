package quorum_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

// play runs scenarios: see testdata for the whole table.
func play(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		s, err := quorumtest.ParseScenario(l)
		if err != nil {
			t.Fatal(err)
		}
		s.Run(t)
	}
}

func TestLeakRequesterApprovesHimself(t *testing.T) {
	play(t,
		"release:1{alice bob carol} | req alice +alice -> pending: 1 more of release: bob or carol; alice ~ the requester's own",
		"release:2{alice bob carol} & security:1{alice dave erin} | req alice +alice +bob +dave -> pending: 1 more of release: carol",
		"@alice & release:1{alice bob carol} | req operator +alice +bob -> granted")
	// Another credential of his is still him.
	c := quorumtest.Charter()
	c.People["alice"] = charter.Person{Credentials: append(quorumtest.Person("alice").Credentials, quorumtest.Person("alice two").Credentials...)}
	c.People["bob"] = quorumtest.Person("bob")
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob"}}
	ch := quorumtest.Found(t, quorumtest.Policy(c, charter.Rule{Requesters: []string{"alice"}, Quorum: &charter.Node{Group: "release"}}))
	req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "alice"), "alice")
	e := quorumtest.Endorsement(quorumtest.ID(t, req), "alice", statement.Endorse, quorumtest.Start)
	d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: [][]byte{quorumtest.Statement(t, e, "alice two")}}, quorumtest.Start.Add(time.Hour), quorum.Options{})
	if d.State != quorum.Pending || g != nil || d.Votes[0].Why != "the requester's own" {
		t.Errorf("%+v", d)
	}
}

func TestLeakRequestersMachineApproves(t *testing.T) {
	play(t,
		"gate:1[scanner/alice other] & release:1{bob carol} | req alice +scanner +bob -> pending: 1 more of gate: other; scanner ~ belong together",
		"gate:1[scanner/alice other] & release:1{alice bob carol} | req [ci/alice] +alice +other -> pending: 1 more of release",
		"gate:1[scanner/alice other] & release:1{alice bob carol} | req [ci/alice] +scanner +bob -> pending: 1 more of gate")
}

func TestLeakOnePersonInTwoGroups(t *testing.T) {
	play(t,
		"release:1{alice bob} & security:1{alice carol} | req operator +alice -> pending: 1 more of",
		"release:1{alice bob} & security:1{alice carol} & audit:1{alice dave} | req operator +alice +bob -> pending: 1 more of",
		"release:1{alice bob} & security:1{alice carol} & audit:1{alice dave} | req operator +alice +bob +carol -> granted")
}

func TestLeakRemovedMemberStillCounts(t *testing.T) {
	play(t,
		"release:2{alice bob carol} | req operator +bob +carol !bob -> pending: 1 more of release: alice; bob ~ lapsed",
		"release:2{alice bob carol} | req operator +bob +carol !bob/release -> pending: 1 more of release: alice; bob ~ no longer a member of release",
		"release:2{alice bob carol} | req operator +bob +carol -> granted")
}

func TestLeakRemovedCredentialStillCounts(t *testing.T) {
	play(t,
		"release:2{alice bob carol} | req operator +bob +carol ~bob -> pending: 1 more of release; bob ~ is not one of bob in charter 2",
		"release:2{alice bob carol} | req alice +bob +carol ~alice -> refused: requester-signature")
}

func TestLeakApprovalNotTiedToBytes(t *testing.T) {
	c := quorumtest.Charter()
	c.People["alice"], c.People["bob"] = quorumtest.Person("alice"), quorumtest.Person("bob")
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob"}}
	quorumtest.Policy(c, charter.Rule{Requesters: []string{"alice"}, Quorum: &charter.Node{Group: "release"}})
	p := c.Policies["p"]
	p.Names = []string{"setup-*.exe"}
	c.Policies["p"] = p
	ch := quorumtest.Found(t, c)
	items, root := quorumtest.Items(t, 3)
	r := quorumtest.Request(ch, "alice", statement.Command{Name: statement.Sign,
		Sign: &statement.SignArgs{Policy: "p", Key: "release", Formats: []string{"cms"}, Count: 3, Items: root}})
	req := quorumtest.Statement(t, r, "alice")
	ev := quorum.Evidence{Request: req, Endorsements: [][]byte{
		quorumtest.Statement(t, quorumtest.Endorsement(quorumtest.ID(t, req), "bob", statement.Endorse, quorumtest.Start), "bob")}}
	d, g := ch.Judge(ev, quorumtest.Start.Add(time.Hour), quorum.Options{})
	if g == nil {
		t.Fatalf("%+v", d)
	}
	if err := g.Covers(items); err != nil {
		t.Fatal(err)
	}
	other, _ := quorumtest.Items(t, 4)
	flipped := bytes.Clone(items[1])
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][][]byte{
		"none": nil, "fewer": items[:2], "more": other, "other": other[1:], "order": {items[1], items[0], items[2]},
		"twice": {items[0], items[0], items[2]}, "bit": {items[0], flipped, items[2]},
	} {
		var r *quorum.Refusal
		if err := g.Covers(bad); !errors.As(err, &r) || r.Code != quorum.ItemsMismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Another request for the same bytes is another request.
	r.Reason = "again"
	req2 := quorumtest.Statement(t, r, "alice")
	if d, g := ch.Judge(quorum.Evidence{Request: req2, Endorsements: ev.Endorsements}, quorumtest.Start.Add(time.Hour), quorum.Options{}); g != nil || !strings.Contains(d.Votes[0].Why, "another request") {
		t.Errorf("an endorsement was replayed: %+v", d)
	}
	var zero quorum.Grant
	if zero.Covers(items) == nil || zero.Request() != nil {
		t.Error("the zero grant covers something")
	}
}

func TestCoversConditions(t *testing.T) {
	plan := func(format_ string, params ...format.Fact) []byte {
		b, err := (&format.Plan{Format: format_, Version: 1, Digest: "sha256", Content: make([]byte, 32), Params: params}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	item := func(name string, plan []byte) []byte {
		b, err := (&format.Item{Plan: plan, Name: name}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := format.Fact{Name: "digest", Value: "sha384"}
	for _, c := range []struct {
		name    string
		formats []string
		item    []byte
		code    quorum.Code
	}{
		{"good", []string{"cms"}, item("a.exe", plan("cms", good)), ""},
		{"name", []string{"cms"}, item("a.dll", plan("cms", good)), quorum.NameNotAllowed},
		{"path", []string{"cms"}, item("x/a.exe", plan("cms", good)), quorum.NameNotAllowed},
		{"param", []string{"cms"}, item("a.exe", plan("cms", format.Fact{Name: "digest", Value: "sha256"})), quorum.ParamNotAllowed},
		{"no param", []string{"cms"}, item("a.exe", plan("cms")), quorum.ParamNotAllowed},
		{"format", []string{"cms"}, item("a.exe", plan("pe", good)), quorum.FormatNotAllowed},
		{"announced", []string{"cms", "msi"}, item("a.exe", plan("cms", good)), quorum.FormatNotAllowed},
		{"junk", []string{"cms"}, []byte("junk"), quorum.Malformed},
	} {
		ch := quorumtest.Found(t, func() *charter.Charter {
			x := quorumtest.Policy(quorumtest.Charter(), charter.Rule{Requesters: []string{"operator"}, Unattended: true})
			p := x.Policies["p"]
			p.Formats, p.Names, p.Params = []string{"cms", "msi"}, []string{"*.exe"}, map[string]string{"digest": "sha384"}
			x.Policies["p"] = p
			return x
		}())
		root, err := format.ItemsRoot([][]byte{c.item})
		if err != nil {
			t.Fatal(err)
		}
		r := quorumtest.Request(ch, "operator", statement.Command{Name: statement.Sign,
			Sign: &statement.SignArgs{Policy: "p", Key: "release", Formats: c.formats, Count: 1, Items: root.String()}})
		_, g := ch.Judge(quorum.Evidence{Request: quorumtest.Statement(t, r, "operator")}, quorumtest.Start, quorum.Options{})
		if g == nil {
			t.Fatalf("%s: not granted", c.name)
		}
		err = g.Covers([][]byte{c.item})
		var refusal *quorum.Refusal
		if c.code == "" && err != nil || c.code != "" && (!errors.As(err, &refusal) || refusal.Code != c.code) {
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		}
	}
}

func TestLeakAngryPersonElsewhereBlocks(t *testing.T) {
	play(t,
		"release:1{alice bob} & security:1{dave erin} veto security | req operator +alice +dave -bob -> granted; bob ~ has no veto",
		"release:1{alice bob} & security:1{dave erin} veto security | req operator +alice +dave -officer1 -> granted; officer1 ~ has no veto")
}

func TestLeakNobodyCanSayNo(t *testing.T) {
	play(t,
		"release:1{alice bob} & security:1{dave erin} veto security | req operator +alice +dave -erin -> disapproved; erin ~ has a veto",
		"release:1{alice bob} veto release | req operator +alice -bob -> disapproved",
		"release:1{alice bob} | req operator +alice -alice -> pending: 1 more of release")
}

// A comment reaches people's terminals as one printable line. What moves the cursor
// or turns the direction of text, package statement refuses.
func TestCommentIsOneLine(t *testing.T) {
	ch := deployment(t)
	req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "alice"), "alice")
	e := quorumtest.Endorsement(quorumtest.ID(t, req), "erin", statement.Disapprove, quorumtest.Start)
	e.Comment = "no\n\tgranted\u2028now"
	d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: [][]byte{quorumtest.Statement(t, e, "erin")}}, quorumtest.Start.Add(time.Hour), quorum.Options{})
	if g != nil || d.State != quorum.Disapproved || d.Reason != "erin of security disapproves: no  granted now" {
		t.Errorf("%q", d.Reason)
	}
}

// A passkey's signature without user verification is no endorsement.
func TestPasskeyWithoutUserVerification(t *testing.T) {
	pk := credentialtest.Passkey("bob", "example.com", "https://seal.example.com")
	c := quorumtest.Charter()
	c.People["alice"] = quorumtest.Person("alice")
	c.People["bob"] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(pk.Credential())}}
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob"}}
	ch := quorumtest.Found(t, quorumtest.Policy(c, charter.Rule{Requesters: []string{"alice"}, Quorum: &charter.Node{Group: "release"}}))
	req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "alice"), "alice")
	payload, err := statement.Encode(quorumtest.Endorsement(quorumtest.ID(t, req), "bob", statement.Endorse, quorumtest.Start))
	if err != nil {
		t.Fatal(err)
	}
	env := quorumtest.Envelope(t, payload, pk)
	at := quorumtest.Start.Add(time.Hour)
	if d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: [][]byte{env}}, at, quorum.Options{}); g == nil {
		t.Fatalf("a good passkey: %+v", d)
	}
	e, err := statement.DecodeEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	// authenticatorData begins with SHA-256 of the relying party; the flags follow.
	i := bytes.IndexByte(e.Signatures[0].Sig, 0x58) + 2 + 32
	for _, flags := range []byte{0x01, 0x04, 0x00} { // presence alone, verification alone, nothing
		if e.Signatures[0].Sig[i]&0x05 != 0x05 && flags == 0x01 {
			t.Fatalf("byte %d is not the flags: %x", i, e.Signatures[0].Sig)
		}
		e.Signatures[0].Sig[i] = flags
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: [][]byte{b}}, at, quorum.Options{}); g != nil || !strings.Contains(d.Votes[0].Why, "does not verify") {
			t.Errorf("flags %#x: %+v", flags, d.Votes)
		}
	}
}
