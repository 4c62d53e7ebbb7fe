package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// TestAttacks lets somebody who has every document of a deployment, and its
// server, but neither the keeper's keys nor those of two endorsers, put together
// a document that proves too much. Cases that say "keeper" have its keys too.
func TestAttacks(t *testing.T) {
	d, r := apps(t)
	cms := d.FormatOf("cms")
	// Another request, of the same people.
	other := d.Sign("apps", "dave", d.Item(cms, "app.bin", []byte("malware"), nil), d.Item(cms, "doc.txt", []byte("more"), nil))
	d.Endorse(other, "alice", "scanner", "carol")
	d.Execute(other)
	// One that was not endorsed enough.
	weak := d.Sign("apps", "dave", d.Item(cms, "evil.bin", []byte("evil"), nil), d.Item(cms, "evil.txt", []byte("evil"), nil))
	d.Endorse(weak, "alice", "scanner")
	rootOf := d.Root
	_, ref := d.Chain.Head()
	elsewhere := verifytest.New(t, func(c *charter.Charter) { c.Created = c.Created.Add(time.Hour) })
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mallory := formattest.Identity(t, "ecdsa-p256")

	env := func(b []byte) *statement.Envelope {
		e, err := statement.DecodeEnvelope(b)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	receiptOf := func(b []byte) *statement.Receipt {
		rc, err := statement.Decode[statement.Receipt](env(b).Payload)
		if err != nil {
			t.Fatal(err)
		}
		return &rc
	}
	// lie makes the keeper sign and log another receipt for the document.
	lie := func(e *verify.Evidence, change func(rc *statement.Receipt)) {
		rc := receiptOf(e.Receipt)
		change(rc)
		e.Receipt = d.SignReceipt(rc)
		index := d.Enter(audit.KindReceipt, rc.Request, e.Receipt)
		e.Log = d.Logged(d.Checkpoint(), index)
	}
	for _, x := range []struct {
		name string
		step string // where it is found out
		do   func(e *verify.Evidence)
	}{
		{"another root", "charters", func(*verify.Evidence) { rootOf = statement.ID{1} }},
		{"another deployment's root", "charters", func(*verify.Evidence) { rootOf = elsewhere.Root }},
		{"another deployment's charters", "charters", func(e *verify.Evidence) { e.Chain, _ = elsewhere.Chain.Encode() }},
		{"charters truncated", "receipt", func(e *verify.Evidence) { e.Chain = truncate(t, e.Chain) }},
		{"charters extended by a link that nobody signed", "charters", func(e *verify.Evidence) {
			p := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "third") })
			e.Chain = extend(t, e.Chain, p.Envelope, nil, d.Now)
		}},
		{"charters extended by a link that one officer signed", "charters", func(e *verify.Evidence) {
			p := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "third") })
			e.Chain = extend(t, e.Chain, p.Envelope, [][]byte{d.Word(p, "officer1", statement.Endorse, "officer1")}, d.Now)
		}},
		{"charters of which one has another founder", "charters", func(e *verify.Evidence) {
			e.Chain = bytes.Replace(e.Chain, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
		}},
		{"receipt of another request", "request", func(e *verify.Evidence) {
			e.Receipt = other.Receipt
			e.Log = d.Logged(d.Checkpoint(), other.ReceiptEntry)
		}},
		{"receipt of another keeper", "receipt", func(e *verify.Evidence) { e.Receipt = d.SignReceiptWith(stranger, receiptOf(e.Receipt)) }},
		{"receipt of a refusal", "receipt", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Outcome, rc.Code, rc.Signed = statement.Refused, "x", nil })
		}},
		{"receipt of another deployment", "receipt", func(e *verify.Evidence) { lie(e, func(rc *statement.Receipt) { rc.Deployment = "elsewhere" }) }},
		{"keeper: receipt under an earlier charter", "receipt", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Charter = statement.CharterRef{Version: 1, ID: d.Root} })
		}},
		{"keeper: receipt under a charter of another ID", "receipt", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Charter.ID = statement.ID{9} })
		}},
		{"keeper: receipt from before the charter", "receipt", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Time = verifytest.Start })
		}},
		{"keeper: receipt from after the request expired", "request", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Time = rc.Time.Add(1000 * time.Hour) })
		}},
		{"keeper: receipt for another policy", "request", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Signed.Policy = "nightly" })
		}},
		{"keeper: receipt for other items", "request", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Signed.Items = other.Request.Command.Sign.Items })
		}},
		{"keeper: receipt that counts nobody", "request", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Endorsements = []statement.ID{} })
		}},
		{"keeper: receipt under another scheme", "key", func(e *verify.Evidence) {
			lie(e, func(rc *statement.Receipt) { rc.Signed.Scheme = "ecdsa-sha384" })
		}},
		{"another request", "request", func(e *verify.Evidence) { e.Request = other.Envelope }},
		{"no endorsements", "request", func(e *verify.Evidence) { e.Endorsements = nil }},
		{"endorsement removed", "request", func(e *verify.Evidence) { e.Endorsements = e.Endorsements[1:] }},
		{"endorsement twice", "endorsements", func(e *verify.Evidence) { e.Endorsements = append(e.Endorsements, e.Endorsements[0]) }},
		{"endorsement twice in place of another", "request", func(e *verify.Evidence) { e.Endorsements[2] = e.Endorsements[0] }},
		{"endorsements in another order", "request", func(e *verify.Evidence) {
			e.Endorsements[0], e.Endorsements[2] = e.Endorsements[2], e.Endorsements[0]
		}},
		{"another endorser's first", "request", func(e *verify.Evidence) {
			e.Endorsements = append([]jsontext.Value{d.Word(r, "bob", statement.Endorse, "bob")}, e.Endorsements...)
		}},
		{"endorsement of another request added", "endorsements", func(e *verify.Evidence) { e.Endorsements = append(e.Endorsements, other.Endorsements[0]) }},
		{"endorsement by another hand added", "endorsements", func(e *verify.Evidence) {
			e.Endorsements = append(e.Endorsements, d.Word(r, "bob", statement.Endorse, "dave"))
		}},
		{"endorsement that is none added", "endorsements", func(e *verify.Evidence) { e.Endorsements = append(e.Endorsements, jsontext.Value(`{}`)) }},
		{"disapproval added", "request", func(e *verify.Evidence) {
			e.Endorsements = append(e.Endorsements, d.Word(r, "bob", statement.Disapprove, "bob"))
		}},
		{"item of another request", "item", func(e *verify.Evidence) { e.File.Item = other.Items[0] }},
		{"item of its neighbour", "item", func(e *verify.Evidence) { e.File.Item = r.Items[1] }},
		{"item and proof of its neighbour", "signatures", func(e *verify.Evidence) {
			n := d.Evidence(r, 1)
			e.File.Item, e.File.ItemProof = n.File.Item, n.File.ItemProof
		}},
		{"proof for another index", "item", func(e *verify.Evidence) { e.File.ItemProof.Index = 1 }},
		{"proof without its path", "item", func(e *verify.Evidence) { e.File.ItemProof.Path = nil }},
		{"proof of one item", "item", func(e *verify.Evidence) {
			e.File.ItemProof.Index, e.File.ItemProof.Size, e.File.ItemProof.Path = 0, 1, nil
		}},
		{"signature of its neighbour", "signatures", func(e *verify.Evidence) { e.File.Signatures = r.Signatures[1] }},
		{"signature and proof of its neighbour", "signatures", func(e *verify.Evidence) {
			n := d.Evidence(r, 1)
			e.File.Signatures, e.File.SignatureProof = n.File.Signatures, n.File.SignatureProof
		}},
		{"signature of another request", "signatures", func(e *verify.Evidence) {
			o := d.Evidence(other, 0)
			e.File.Signatures, e.File.SignatureProof = o.File.Signatures, o.File.SignatureProof
		}},
		{"two signatures", "signatures", func(e *verify.Evidence) { e.File.Signatures = append(e.File.Signatures, e.File.Signatures[0]) }},
		{"certificate of another key", "key", func(e *verify.Evidence) { e.File.Certificates = [][]byte{mallory.Chain[0].Raw} }},
		{"certificates cut", "key", func(e *verify.Evidence) { e.File.Certificates = e.File.Certificates[:1] }},
		{"certificates in another order", "key", func(e *verify.Evidence) {
			e.File.Certificates = [][]byte{e.File.Certificates[1], e.File.Certificates[0]}
		}},
		{"the key without its certificates", "key", func(e *verify.Evidence) {
			e.File.Certificates, e.File.PublicKey = nil, d.Keys["app"].Chain[0].RawSubjectPublicKeyInfo
		}},
		{"checkpoint of another log", "log", func(e *verify.Evidence) {
			e.Log.Checkpoint = string(checkpointBy(t, "log.example.org/other", stranger, e.Log))
		}},
		{"checkpoint by another key", "log", func(e *verify.Evidence) {
			e.Log.Checkpoint = string(checkpointBy(t, verifytest.Origin, stranger, e.Log))
		}},
		{"checkpoint of another tree", "log", func(e *verify.Evidence) {
			e.Log.Checkpoint = string(d.SignTree(audit.Tree{Size: e.Log.Inclusion.Size, Root: audit.LeafHash([]byte("x"))}))
		}},
		{"entry of another receipt", "log", func(e *verify.Evidence) { e.Log = d.Logged(d.Checkpoint(), other.ReceiptEntry) }},
		{"entry of the request", "log", func(e *verify.Evidence) { e.Log = d.Logged(d.Checkpoint(), r.ReceiptEntry-1) }},
		{"inclusion at another index", "log", func(e *verify.Evidence) { e.Log.Inclusion.Index-- }},
		{"inclusion in another size", "log", func(e *verify.Evidence) { e.Log.Inclusion.Size-- }},
		{"keeper: entry of another kind", "log", func(e *verify.Evidence) {
			index := d.Enter(audit.KindRejection, r.ID, e.Receipt)
			e.Log = d.Logged(d.Checkpoint(), index)
		}},
		{"keeper: entry of another request", "log", func(e *verify.Evidence) {
			index := d.Enter(audit.KindReceipt, other.ID, e.Receipt)
			e.Log = d.Logged(d.Checkpoint(), index)
		}},
		{"keeper: a request that was not endorsed enough", "request", func(e *verify.Evidence) {
			e.Request, e.Endorsements = weak.Envelope, nil
			var ids []statement.ID
			for _, b := range weak.Endorsements {
				e.Endorsements = append(e.Endorsements, b)
				ids = append(ids, env(b).ID())
			}
			lie(e, func(rc *statement.Receipt) {
				rc.Request, rc.Endorsements, rc.Signed.Items = weak.ID, ids, weak.Request.Command.Sign.Items
			})
		}},
		{"keeper: the requester among the endorsers", "request", func(e *verify.Evidence) {
			q := d.Sign("apps", "alice", r.Items...)
			d.Endorse(q, "alice", "scanner", "carol")
			e.Request, e.Endorsements = q.Envelope, nil
			var ids []statement.ID
			for _, b := range q.Endorsements {
				e.Endorsements = append(e.Endorsements, b)
				ids = append(ids, env(b).ID())
			}
			lie(e, func(rc *statement.Receipt) { rc.Request, rc.Endorsements, rc.Time = q.ID, ids, d.Now })
		}},
		{"version of tomorrow", "", func(e *verify.Evidence) { e.Version = 2 }},
		{"nothing", "", func(e *verify.Evidence) { *e = verify.Evidence{} }},
	} {
		t.Run(x.name, func(t *testing.T) {
			e := d.Evidence(r, 0)
			if _, err := verify.Judge(e, d.Root, verifytest.Formats()); err != nil {
				t.Fatalf("before: %v", err)
			}
			rootOf = d.Root
			x.do(e)
			a, err := verify.Judge(e, rootOf, verifytest.Formats())
			if a != nil || !errors.Is(err, verify.ErrEvidence) {
				t.Fatalf("accepted: %v", err)
			}
			if !strings.HasPrefix(err.Error(), "verify: evidence: "+x.step) {
				t.Errorf("found out elsewhere than in %s: %v", x.step, err)
			}
		})
	}
	if ref.Version != 2 {
		t.Errorf("the test wants charter 2 in force: %v", ref)
	}
}

// TestRemovedEndorser: whoever has left before the receipt does not count, though
// the word was his; whoever left afterwards did.
func TestRemovedEndorser(t *testing.T) {
	d := verifytest.New(t)
	r := d.Sign("apps", "dave", item(d, 1))
	d.Endorse(r, "alice", "carol", "scanner")
	d.Replace(func(c *charter.Charter) {
		c.Groups["release"] = charter.Group{Members: []string{"alice", "bob", "operator"}}
	})
	d.Endorse(r, "bob")
	d.Execute(r)
	e := d.Evidence(r, 0)
	a, err := verify.Judge(e, d.Root, verifytest.Formats())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range a.Endorsers() {
		if x.Name == "carol" {
			t.Error("carol counts, who had left")
		}
	}
	e.Endorsements = e.Endorsements[:3]
	if _, err := verify.Judge(e, d.Root, verifytest.Formats()); err == nil {
		t.Error("accepted with carol's word in place of bob's")
	}
	d.Replace(func(c *charter.Charter) {
		c.Groups["release"] = charter.Group{Members: []string{"carol", "dave", "operator"}}
	})
	if _, err := verify.Judge(d.Evidence(r, 0), d.Root, verifytest.Formats()); err != nil {
		t.Errorf("what was right then is wrong now: %v", err)
	}
}

// TestPolicyItems: the conditions of the policy on each item are judged again,
// for a keeper that did not.
func TestPolicyItems(t *testing.T) {
	d := verifytest.New(t)
	cms := d.FormatOf("cms")
	for _, items := range [][][]byte{
		{d.Item(cms, "app.exe", []byte("x"), nil)},
		{d.Item(cms, "app.bin", []byte("x"), format.Params{"digest": "sha384"})},
		{d.Item(cms, "app.bin", []byte("x"), nil), d.Item(cms, "app.exe", []byte("x"), nil)},
	} {
		r := d.Sign("apps", "dave", items...)
		d.Endorse(r, "alice", "bob", "scanner")
		like := d.Sign("apps", "dave", item(d, 1))
		d.Endorse(like, "alice", "bob", "scanner")
		rc := d.Outcome(like)
		rc.Request, rc.Signed.Items, rc.Signed.Count = r.ID, r.Request.Command.Sign.Items, len(items)
		rc.Endorsements = nil
		for _, b := range r.Endorsements {
			e, err := statement.DecodeEnvelope(b)
			if err != nil {
				t.Fatal(err)
			}
			rc.Endorsements = append(rc.Endorsements, e.ID())
		}
		for range items {
			r.Signatures = append(r.Signatures, like.Signatures[0])
		}
		r.Keys = like.Keys
		d.Keep(r, rc)
		_, err := verify.Judge(d.Evidence(r, len(items)-1), d.Root, verifytest.Formats())
		if err == nil || !strings.HasPrefix(err.Error(), "verify: evidence: item: ") {
			t.Errorf("%v", err)
		}
	}
}

// TestFormats: a format that the verifier does not have, and one that panics.
func TestFormats(t *testing.T) {
	d, r := apps(t)
	e := d.Evidence(r, 0)
	if _, err := verify.Judge(e, d.Root, []format.Format{formattest.TwoRounds()}); err == nil {
		t.Error("judged without the format")
	}
	if _, err := verify.Judge(e, d.Root, []format.Format{panics{cmsfile.New()}}); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a format that panics: %v", err)
	}
}

type panics struct{ format.Format }

func (panics) Assemble(*format.Plan, format.Identity, time.Time, [][]byte) ([]format.ToBeSigned, error) {
	panic("a plan did this")
}

func checkpointBy(t *testing.T, origin string, k ed25519.PrivateKey, l verify.EvidenceLog) []byte {
	t.Helper()
	s, err := audit.NewSigner(origin, k)
	if err != nil {
		t.Fatal(err)
	}
	tree := audit.Tree{Size: l.Inclusion.Size, Root: audit.LeafHash([]byte("x"))}
	b, err := audit.SignCheckpoint(origin, tree, []note.Signer{s}...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wireChain is a chain file, to be taken apart.
type wireChain struct {
	Type     string         `json:"type"`
	Founding jsontext.Value `json:"founding"`
	Links    []wireLink     `json:"links"`
}

type wireLink struct {
	Request      jsontext.Value   `json:"request"`
	Endorsements []jsontext.Value `json:"endorsements"`
	At           time.Time        `json:"at"`
}

func rechain(t *testing.T, b []byte, change func(*wireChain)) []byte {
	t.Helper()
	var c wireChain
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	change(&c)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func truncate(t *testing.T, b []byte) []byte {
	return rechain(t, b, func(c *wireChain) { c.Links = c.Links[:0] })
}

func extend(t *testing.T, b, request []byte, endorsements [][]byte, at time.Time) []byte {
	return rechain(t, b, func(c *wireChain) {
		l := wireLink{Request: request, At: at}
		for _, e := range endorsements {
			l.Endorsements = append(l.Endorsements, e)
		}
		c.Links = append(c.Links, l)
	})
}

// TestLinkTimes is the exception of invariant 3: the times of links are nobody's
// signed word. One that contradicts the receipt is refused; another one changes
// nothing that an Approval says.
func TestLinkTimes(t *testing.T) {
	d, r := apps(t)
	e := d.Evidence(r, 0)
	e.Chain = rechain(t, e.Chain, func(c *wireChain) { c.Links[0].At = c.Links[0].At.Add(time.Second) })
	a, err := verify.Judge(e, d.Root, verifytest.Formats())
	if err != nil {
		t.Fatal(err)
	}
	if _, ref := a.Charter(); ref != a.Receipt().Charter {
		t.Errorf("charter %v", ref)
	}
	e.Chain = rechain(t, e.Chain, func(c *wireChain) { c.Links[0].At = a.Time().Add(time.Second) })
	if _, err := verify.Judge(e, d.Root, verifytest.Formats()); err == nil {
		t.Error("accepted a receipt from before its charter")
	}
}
