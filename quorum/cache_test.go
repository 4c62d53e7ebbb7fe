package quorum_test

import (
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

// A signature that verified with a credential that has been replaced does not count
// for the one in its place, whatever the cache remembers: not for another SSH key,
// nor for a passkey with the same credential id, and so the same ID.
func TestCacheForgetsReplacedCredentials(t *testing.T) {
	old := credentialtest.Passkey("bob", "example.com", "https://seal.example.com")
	was, ok := old.Credential().(*credential.Passkey)
	other, ok2 := credentialtest.Passkey("other", "example.com", "https://seal.example.com").Credential().(*credential.Passkey)
	if !ok || !ok2 {
		t.Fatal("no passkeys")
	}
	same, err := credential.NewPasskey(was.CredentialID(), other.COSEKey(), was.RPID(), was.Origins(), false)
	if err != nil {
		t.Fatal(err)
	}
	if same.ID() != was.ID() {
		t.Fatal("the test wants two passkeys of one ID")
	}
	for name, c := range map[string]struct {
		old credential.Signer
		now credential.Credential
	}{
		"ssh":     {credentialtest.SSH("bob"), credentialtest.SSH("bob again").Credential()},
		"passkey": {old, same},
	} {
		x := quorumtest.Charter()
		x.People["alice"] = quorumtest.Person("alice")
		x.People["bob"] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(c.old.Credential())}}
		x.Groups["release"] = charter.Group{Members: []string{"alice", "bob"}}
		ch := quorumtest.Found(t, quorumtest.Policy(x, charter.Rule{Requesters: []string{"alice"}, Quorum: &charter.Node{Group: "release"}}))
		req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "alice"), "alice")
		payload, err := statement.Encode(quorumtest.Endorsement(quorumtest.ID(t, req), "bob", statement.Endorse, quorumtest.Start))
		if err != nil {
			t.Fatal(err)
		}
		ev := quorum.Evidence{Request: req, Endorsements: [][]byte{quorumtest.Envelope(t, payload, c.old)}}
		o := quorum.Options{Cache: quorum.NewCache(10)}
		at := quorumtest.Start.Add(time.Hour)
		if d, g := ch.Judge(ev, at, o); g == nil {
			t.Fatalf("%s: %+v", name, d)
		}
		if err := quorumtest.Replace(t, ch, func(x *charter.Charter) {
			x.People["bob"] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(c.now)}}
		}); err != nil {
			t.Fatal(err)
		}
		e, err := statement.DecodeEnvelope(ev.Endorsements[0])
		if err != nil {
			t.Fatal(err)
		}
		e.Signatures[0].KeyID = string(c.now.ID())
		if ev.Endorsements[0], err = e.Encode(); err != nil {
			t.Fatal(err)
		}
		if d, g := ch.Judge(ev, at, o); g != nil {
			t.Errorf("%s: the old key counts as the new one: %+v", name, d.Votes)
		}
	}
}
