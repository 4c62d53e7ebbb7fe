package circle_test

import (
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// real is a deployment with the real keeper and a server.
type real struct {
	*servertest.World
	*testing.T
	server *server.Server
}

func newReal(t *testing.T) *real {
	w := servertest.New(t, func(c *charter.Charter) {
		c.Records = &charter.Records{Instance: circletest.Trusted, Configurations: circletest.Configurations()}
		c.Policies["circle"] = charter.Policy{Key: "release", Formats: []string{"circle"}, Purposes: []string{record.Circle},
			Rule: charter.Rule{Requesters: []string{"dev"}, Quorum: &charter.Node{Need: 2, Group: "officers"}}}
		c.Policies["fresh"] = charter.Policy{Key: "release", Formats: []string{"circle"}, Purposes: []string{record.Freshness},
			Rule: charter.Rule{Requesters: []string{"builds"}, Unattended: true}}
	})
	w.Config.Formats = append(servertest.Formats(), circleformat.New())
	w.RestartKeeper()
	s, _ := w.Server(w.Store(""), func(c *server.Config) { c.Formats = w.Config.Formats })
	return &real{w, t, s}
}

// ask submits a request to sign a payload.
func (r *real) ask(policy, purpose, who string, payload []byte) (envelope []byte, item []byte) {
	r.T.Helper()
	p, err := circleformat.New().Plan(r.T.Context(), format.BytesArtifact("circle.json", payload), nil)
	if err != nil {
		r.T.Fatal(err)
	}
	enc, err := p.Encode()
	if err != nil {
		r.T.Fatal(err)
	}
	if item, err = (&format.Item{Plan: enc, Name: "circle.json"}).Encode(); err != nil {
		r.T.Fatal(err)
	}
	root, err := format.ItemsRoot([][]byte{item})
	if err != nil {
		r.T.Fatal(err)
	}
	return r.Request(who, statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: policy, Key: "release", Purpose: purpose,
		Formats: []string{"circle"}, Count: 1, Items: root.String()}}), item
}

// agree has it signed.
func (r *real) agree(policy, purpose, who string, payload []byte, endorsers ...string) circle.Update {
	t := r.T
	t.Helper()
	env, item := r.ask(policy, purpose, who, payload)
	req, _, err := r.server.Submit(t.Context(), env, [][]byte{item})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endorsers {
		if _, err := r.server.Endorse(t.Context(), r.World.Endorse(e, env)); err != nil {
			t.Fatal(err)
		}
	}
	r.Until(r.server, req.ID, store.Executed)
	e, err := r.server.Evidence(t.Context(), req.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	// The envelope follows from the evidence: nobody else has to be asked for it.
	u, err := circle.NewUpdate(doc)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

// The whole way, through the real keeper, its ledger, a server and its log.
func TestRealKeeper(t *testing.T) {
	r := newReal(t)
	st := circletest.Statement(t)
	now := statement.Seconds(r.Now())
	st.Deployment, st.Created, st.Expires = "test", now, now.AddDate(0, 0, 30)
	payload, err := st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	u := r.agree("circle", record.Circle, "alice", payload, "bob", "carol")
	f := &trust.Freshness{Deployment: "test", Circle: trust.ID(payload), Version: 1, At: now, Expires: now.Add(time.Hour)}
	fp, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	fu := r.agree("fresh", record.Freshness, "ci", fp)
	c, err := circle.New(t.Context(), &circletest.Memory{}, r.Pin)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, &circle.Bundle{Root: r.Pin, Circles: []circle.Update{u}, Freshness: &fu}, r.Now())
	tr := believed(t, c, r.Now())
	if tr.Enforcement(circletest.Protected) != trust.On || len(tr.Records(circletest.Protected).Anchors) != 1 {
		t.Error("not believed")
	}
	if _, err := record.NewVerifier(tr.Records(circletest.Protected), nil); err != nil {
		t.Errorf("a verifier of records does not take it: %v", err)
	}

	// Stolen: the machine's key, and one officer's. The keeper signs nothing for trust.
	used := r.Keys.Used()
	off(st)
	st.Version, st.Previous = 2, trust.ID(payload)
	if payload, err = st.Encode(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ policy, purpose, who string }{
		{"circle", record.Circle, "ci"}, {"fresh", record.Circle, "ci"}, {"circle", record.Freshness, "alice"}, {"release", record.Circle, "alice"}, {"circle", "", "alice"},
	} {
		env, item := r.ask(x.policy, x.purpose, x.who, payload)
		if _, _, err := r.server.Submit(t.Context(), env, [][]byte{item}); err == nil {
			t.Errorf("%+v is taken", x)
		}
	}
	env, item := r.ask("circle", record.Circle, "alice", payload)
	if _, _, err := r.server.Submit(t.Context(), env, [][]byte{item}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.server.Endorse(t.Context(), r.World.Endorse("dave", env)); err != nil {
			t.Fatal(err)
		}
	}
	if req, err := r.server.Get(t.Context(), r.ID(env)); err != nil || req.State != store.Pending {
		t.Errorf("with one officer, twice: %v, %v", req.State, err)
	}
	if r.Keys.Used() != used {
		t.Error("the keeper has signed")
	}
	// The machine asks for trust under the purpose that it may use: the keeper reads
	// what it is for.
	env, item = r.ask("fresh", record.Freshness, "ci", payload)
	req, _, err := r.server.Submit(t.Context(), env, [][]byte{item})
	if err != nil {
		t.Fatal(err)
	}
	if req = r.Until(r.server, req.ID, store.Failed); req.Code != string(quorum.PurposeNotAllowed) {
		t.Errorf("trust under the purpose of freshness: %s %s", req.Code, req.Detail)
	}
	if r.Keys.Used() != used {
		t.Error("the keeper has signed trust as freshness")
	}
}
