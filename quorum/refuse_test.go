package quorum_test

import (
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

// Commands that the scenario language does not speak of.
func TestRefusals(t *testing.T) {
	c := quorumtest.Policy(quorumtest.Charter(), charter.Rule{Requesters: []string{"operator"}, Unattended: true})
	p := c.Policies["p"]
	p.MaxItems, p.Purposes = 2, []string{"nightly", "release"}
	c.Policies["p"] = p
	ch := quorumtest.Found(t, c)
	_, root := quorumtest.Items(t, 1)
	sign := func(count int, purpose string) statement.Command {
		return statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: "p", Key: "release", Purpose: purpose,
			Formats: []string{"cms"}, Count: count, Items: root}}
	}
	for _, c := range []struct {
		name, requester string
		cmd             statement.Command
		code            quorum.Code
	}{
		{"good", "operator", sign(2, "release"), ""},
		{"too many", "operator", sign(3, "release"), quorum.TooManyItems},
		{"no purpose", "operator", sign(1, ""), quorum.PurposeNotAllowed},
		{"another purpose", "operator", sign(1, "test"), quorum.PurposeNotAllowed},
		{"suspend", "officer1", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}}, ""},
		{"suspend nothing", "officer1", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "other"}}, quorum.KeyUnknown},
		{"suspend, not an officer", "operator", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}}, quorum.RequesterNotAllowed},
		{"no rule", "officer1", statement.Command{Name: statement.KeyDestroy, Key: &statement.KeyArgs{Key: "release"}}, quorum.CommandNotAllowed},
		{"junk for a charter", "operator", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: []byte("x")}}, quorum.CharterInvalid},
	} {
		req := quorumtest.Statement(t, quorumtest.Request(ch, c.requester, c.cmd), c.requester)
		d, g := ch.Judge(quorum.Evidence{Request: req}, quorumtest.Start.Add(time.Hour), quorum.Options{})
		if d.Code != c.code || (g != nil) != (c.code == "") || (d.State == quorum.Refused) != (c.code != "") {
			t.Errorf("%s: %+v", c.name, d)
		}
		if g != nil && g.RequestID() != quorumtest.ID(t, req) {
			t.Errorf("%s: grant for another request", c.name)
		}
	}
	req := quorumtest.Statement(t, quorumtest.Request(ch, "operator", sign(1, "release")), "operator")
	d, g := ch.Judge(quorum.Evidence{Request: req, Endorsements: make([][]byte, quorum.MaxEndorsements+1)}, quorumtest.Start, quorum.Options{})
	if g != nil || d.Code != quorum.Malformed {
		t.Errorf("too much evidence: %+v", d)
	}
	for _, b := range [][]byte{nil, []byte("{}"), req[:len(req)-1], append([]byte(" "), req...)} {
		if d, g := ch.Judge(quorum.Evidence{Request: b}, quorumtest.Start, quorum.Options{}); g != nil || d.Code != quorum.Malformed {
			t.Errorf("%.20q: %+v", b, d)
		}
	}
	if d, g := ch.Judge(quorum.Evidence{Request: req}, quorumtest.Start.Add(-quorum.Skew-time.Second), quorum.Options{}); g != nil || d.Code != quorum.NotYet {
		t.Errorf("made in the future: %+v", d)
	}
	if d, g := ch.Judge(quorum.Evidence{Request: req}, quorumtest.Start.Add(-quorum.Skew), quorum.Options{}); g == nil {
		t.Errorf("a clock that is a little ahead: %+v", d)
	}
}
