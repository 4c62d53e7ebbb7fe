package verify_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

func mustLog(t *testing.T, d *verifytest.Deployment, o verify.LogOptions) *verify.LogReport {
	t.Helper()
	r, err := verify.Log(context.Background(), d.Source(), d.Root, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// item plans a file that no other request has.
func item(d *verifytest.Deployment, n int) []byte {
	return d.Item(d.FormatOf("cms"), fmt.Sprintf("app-%d.bin", n), fmt.Appendf(nil, "content %d", n), nil)
}

// asked is a request under "apps" with all its endorsements.
func asked(d *verifytest.Deployment, n int) *verifytest.Request {
	r := d.Sign("apps", "dave", item(d, n))
	d.Endorse(r, "alice", "scanner", "bob")
	return r
}

// long makes a charter whose request stands beside the log.
func long(c *charter.Charter) {
	for i := range 12 {
		c.Policies[fmt.Sprintf("p%d", i)] = describe(c.Policies["apps"], strings.Repeat("a long story ", 300))
	}
}

// busy is a log with a bit of everything that is right.
func busy(tb testing.TB) *verifytest.Deployment {
	d := verifytest.New(tb)
	for i := range 3 {
		d.Execute(asked(d, i))
	}
	n := d.Sign("nightly", "ci", item(d, 10))
	d.Execute(n)
	refused := d.Sign("apps", "dave", item(d, 11))
	d.Endorse(refused, "carol")
	d.Refuse(refused, "quorum-pending")
	d.Endorse(refused, "alice", "scanner")
	d.Execute(refused) // at last
	d.Execute(d.Ask(statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "app"}}, "officer1"))
	d.Replace(long)
	vetoed := d.Sign("apps", "dave", item(d, 12))
	d.Endorse(vetoed, "carol")
	d.Say(vetoed, "bob", statement.Disapprove)
	d.Refuse(vetoed, "disapproved")
	gone := d.Sign("apps", "dave", item(d, 13))
	d.Withdraw(gone)
	late := d.Sign("apps", "dave", item(d, 14))
	d.Enter(audit.KindRejection, late.ID, d.Word(late, "dave", statement.Endorse, "dave"))
	d.Enter(audit.KindExpire, late.ID, nil)
	d.Execute(asked(d, 20))
	d.Sign("apps", "dave", item(d, 21)) // open
	return d
}

func TestLog(t *testing.T) {
	d := busy(t)
	if len(d.Bodies) == 0 {
		t.Fatal("no body beside the log: the test wants one")
	}
	var done, total int64
	r := mustLog(t, d, verify.LogOptions{Progress: func(a, b int64) { done, total = a, b }})
	if !r.OK() {
		t.Fatalf("problems: %v", r.Problems)
	}
	if done != r.Size || total != r.Size || r.Entries != r.Size {
		t.Errorf("progress %d of %d, entries %d of %d", done, total, r.Entries, r.Size)
	}
	c := r.Receipts
	if c.First != 1 || c.Last != 10 || c.Executed != 8 || c.Refused != 2 || c.Signed != 6 || c.Judged != 8 || c.Reordered != 0 {
		t.Errorf("receipts: %+v", c)
	}
	if r.Kinds[audit.KindRequest] != 12 || r.Kinds[audit.KindCharter] != 1 || r.Kinds[audit.KindCancel] != 1 || r.Open != 2 || r.Charter.Version != 2 || r.Deployment != verifytest.Name {
		t.Errorf("report: %+v", r)
	}
	b, err := r.JSON()
	var back map[string]any
	if err != nil || json.Unmarshal(b, &back) != nil || back["origin"] != verifytest.Origin || fmt.Sprint(back["problems"]) != "[]" {
		t.Errorf("JSON: %v\n%s", err, b)
	}
	// With no room for bodies all of them are read again.
	if again := mustLog(t, d, verify.LogOptions{Memory: 1}); !again.OK() || again.Receipts != r.Receipts {
		t.Errorf("without memory: %v", again.Problems)
	}
}

// TestLogAgain goes on from the head of last time.
func TestLogAgain(t *testing.T) {
	d := busy(t)
	first := mustLog(t, d, verify.LogOptions{})
	d.Execute(asked(d, 30))
	second := mustLog(t, d, verify.LogOptions{OldHead: []byte(first.Checkpoint), From: first.Size})
	if !second.OK() || second.Receipts.Judged != 2 || second.From != first.Size || second.OldSize != first.Size {
		t.Errorf("%+v", second)
	}
	ctx := context.Background()
	for _, o := range []verify.LogOptions{
		{From: first.Size}, {From: -1}, {OldHead: []byte("x")}, {OldHead: []byte(first.Checkpoint), From: first.Size + 1}, {Memory: -1},
	} {
		if r, err := verify.Log(ctx, d.Source(), d.Root, o); err == nil || r != nil {
			t.Errorf("%+v: accepted", o)
		}
	}
	has := func(r *verify.LogReport, c verify.ProblemCode) {
		t.Helper()
		if r.OK() || !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool { return p.Code == c }) {
			t.Errorf("want %s: %v", c, r.Problems)
		}
	}
	// Shorter than last time.
	short := busy(t)
	has(mustLog(t, short, verify.LogOptions{OldHead: []byte(second.Checkpoint)}), verify.ProblemRollback)
	for i := range 3 { // another one, by the same keeper
		short.Execute(asked(short, 40+i))
	}
	fork := mustLog(t, short, verify.LogOptions{OldHead: []byte(second.Checkpoint), From: second.Size})
	has(fork, verify.ProblemFork)
	if fork.From != 0 || fork.Entries != fork.Size {
		t.Errorf("a fork is not judged from its beginning: %+v", fork)
	}
	tree := audit.Tree{Size: 1, Root: audit.LeafHash([]byte("x"))}
	src := d.Source()
	fetch := src.Fetch
	src.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		if path == audit.CheckpointPath {
			return d.SignTree(tree), nil
		}
		return fetch(ctx, path)
	}
	r, err := verify.Log(ctx, src, d.Root, verify.LogOptions{OldHead: []byte(first.Checkpoint)})
	if err != nil {
		t.Fatal(err)
	}
	has(r, verify.ProblemRollback)
	if r, err = verify.Log(ctx, src, d.Root, verify.LogOptions{}); err != nil {
		t.Fatal(err)
	}
	has(r, verify.ProblemTree)
}

// TestLogAttacks lets a server, and a keeper, do what they must not.
func TestLogAttacks(t *testing.T) {
	_, stranger, _ := ed25519.GenerateKey(nil)
	skip := func(d *verifytest.Deployment, r *verifytest.Request) *statement.Receipt {
		rc := d.Outcome(r)
		d.Number(rc)
		return rc
	}
	enter := func(d *verifytest.Deployment, r *verifytest.Request, rc *statement.Receipt) {
		b := d.SignReceipt(rc)
		d.Chained(b)
		d.Enter(audit.KindReceipt, r.ID, b)
	}
	// claim is a receipt of a keeper that did not judge.
	claim := func(d *verifytest.Deployment, r, like *verifytest.Request, counted ...[]byte) *statement.Receipt {
		rc := d.Outcome(like)
		rc.Request, rc.Endorsements = r.ID, []statement.ID{}
		rc.Signed.Items = r.Request.Command.Sign.Items
		for _, b := range counted {
			e, err := statement.DecodeEnvelope(b)
			if err != nil {
				t.Fatal(err)
			}
			rc.Endorsements = append(rc.Endorsements, e.ID())
		}
		return rc
	}
	for _, x := range []struct {
		name string
		want verify.ProblemCode
		do   func(d *verifytest.Deployment)
	}{
		{"gap", verify.ProblemReceiptGap, func(d *verifytest.Deployment) {
			skip(d, asked(d, 1))
			d.Execute(asked(d, 2))
		}},
		{"number twice", verify.ProblemReceiptTwice, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Execute(r)
			d.Enter(audit.KindReceipt, r.ID, r.Receipt)
		}},
		{"two receipts of one number", verify.ProblemReceiptTwice, func(d *verifytest.Deployment) {
			a, b := asked(d, 1), asked(d, 2)
			rc, other := skip(d, a), d.Outcome(b)
			other.Number, other.Previous = rc.Number, rc.Previous
			enter(d, a, rc)
			enter(d, b, other)
		}},
		{"forged receipt", verify.ProblemReceiptSignature, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Enter(audit.KindReceipt, r.ID, d.SignReceiptWith(stranger, skip(d, r)))
		}},
		{"altered receipt", verify.ProblemReceiptSignature, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			b := d.SignReceipt(skip(d, r))
			e, _ := statement.DecodeEnvelope(b)
			e.Payload = bytes.Replace(e.Payload, []byte(`"count":1`), []byte(`"count":2`), 1)
			b, _ = e.Encode()
			d.Enter(audit.KindReceipt, r.ID, b)
		}},
		{"receipt before its predecessor in time", verify.ProblemReceiptChain, func(d *verifytest.Deployment) {
			a, b := asked(d, 1), asked(d, 2)
			first := skip(d, a)
			first.Time = first.Time.Add(receipt.Overlap + time.Minute)
			enter(d, a, first)
			enter(d, b, skip(d, b))
		}},
		{"receipt without its predecessor", verify.ProblemReceiptChain, func(d *verifytest.Deployment) {
			a, b := asked(d, 1), asked(d, 2)
			d.Execute(a)
			rc := skip(d, b)
			rc.Previous = a.ID
			enter(d, b, rc)
		}},
		{"altered endorsement", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := d.Sign("apps", "dave", item(d, 1))
			d.Endorse(r, "alice", "scanner")
			real := d.Word(r, "bob", statement.Endorse, "bob")
			e, _ := statement.DecodeEnvelope(real)
			e.Payload = bytes.Replace(e.Payload, []byte("seen by bob"), []byte("SEEN by bob"), 1)
			forged, _ := e.Encode()
			r.Endorsements = append(r.Endorsements, real)
			d.Enter(audit.KindEndorsement, r.ID, forged)
			d.Execute(r)
		}},
		{"executed without quorum", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			like, r := asked(d, 1), d.Sign("apps", "dave", item(d, 2))
			d.Endorse(r, "alice", "scanner")
			d.Keep(r, claim(d, r, like, r.Endorsements...))
		}},
		{"executed on an endorsement that the log does not have", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := d.Sign("apps", "dave", item(d, 1))
			d.Endorse(r, "alice", "scanner")
			r.Endorsements = append(r.Endorsements, d.Word(r, "bob", statement.Endorse, "bob"))
			d.Execute(r)
		}},
		{"endorsed after it was executed", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := d.Sign("apps", "dave", item(d, 1))
			d.Endorse(r, "alice", "scanner")
			late := d.Word(r, "bob", statement.Endorse, "bob")
			r.Endorsements = append(r.Endorsements, late)
			d.Execute(r)
			d.Enter(audit.KindEndorsement, r.ID, late)
		}},
		{"the requester among the endorsers", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			like := asked(d, 1)
			r := d.Sign("apps", "alice", item(d, 2))
			d.Endorse(r, "alice", "scanner", "bob")
			d.Keep(r, claim(d, r, like, r.Endorsements...))
		}},
		{"executed although disapproved", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := d.Sign("apps", "dave", item(d, 1))
			d.Endorse(r, "alice", "scanner", "bob")
			d.Enter(audit.KindEndorsement, r.ID, d.Word(r, "carol", statement.Disapprove, "carol"))
			d.Execute(r) // the server kept carol's word from the keeper
		}},
		{"other items than those that were endorsed", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			a, b := asked(d, 1), asked(d, 2)
			rc := d.Outcome(a)
			rc.Signed.Items = b.Request.Command.Sign.Items
			d.Keep(a, rc)
		}},
		{"another command", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			rc := d.Outcome(r)
			rc.Command, rc.Signed, rc.Key = statement.KeyDestroy, nil, &statement.KeyResult{Key: "app", State: "destroyed"}
			d.Keep(r, rc)
		}},
		{"another scheme", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			rc := d.Outcome(r)
			rc.Signed.Scheme = "ed25519"
			d.Keep(r, rc)
		}},
		{"executed twice", verify.ProblemExecutedTwice, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Execute(r)
			d.Execute(r)
		}},
		{"executed after it was cancelled", verify.ProblemExecutedWithdrawn, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Withdraw(r)
			d.Execute(r)
		}},
		{"executed after it had expired", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			rc := d.Outcome(r)
			rc.Time = rc.Time.Add(1000 * time.Hour)
			d.Keep(r, rc)
		}},
		{"receipt of a request that is not there", verify.ProblemRequestUnknown, func(d *verifytest.Deployment) {
			other := verifytest.New(t)
			r := asked(other, 1)
			rc := d.Blank(r, statement.CharterRef{Version: 1, ID: d.Root})
			rc.Outcome, rc.Code = statement.Refused, "expired"
			d.Keep(r, rc)
		}},
		{"request entered after its receipt", verify.ProblemRequestUnknown, func(d *verifytest.Deployment) {
			other := verifytest.New(t)
			r := asked(other, 1)
			rc := d.Blank(r, statement.CharterRef{Version: 1, ID: d.Root})
			rc.Outcome, rc.Code = statement.Refused, "expired"
			d.Keep(r, rc)
			d.Enter(audit.KindRequest, r.ID, r.Envelope)
		}},
		{"a charter that was not in force", verify.ProblemReceiptCharter, func(d *verifytest.Deployment) {
			old := statement.CharterRef{Version: 1, ID: d.Root}
			d.Replace(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "x") })
			r := asked(d, 1)
			rc := d.Outcome(r)
			rc.Charter = old
			d.Keep(r, rc)
		}},
		{"two second charters", verify.ProblemUnauthorised, func(d *verifytest.Deployment) {
			one := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "one") })
			two := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "two") })
			d.Endorse(one, "officer1", "officer2")
			d.Endorse(two, "officer1", "officer2")
			d.Execute(one)
			next, err := charter.Decode(two.Request.Command.Charter.Statement)
			if err != nil {
				t.Fatal(err)
			}
			ref := next.Ref(two.Request.Command.Charter.Statement)
			rc := d.Blank(two, statement.CharterRef{Version: 1, ID: d.Root})
			rc.Next = &ref
			for _, b := range two.Endorsements {
				e, _ := statement.DecodeEnvelope(b)
				rc.Endorsements = append(rc.Endorsements, e.ID())
			}
			d.Keep(two, rc)
		}},
		{"a charter's entry of no charter", verify.ProblemCharterEntry, func(d *verifytest.Deployment) {
			r := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "one") })
			d.Enter(audit.KindCharter, r.ID, r.Envelope)
		}},
		{"a charter's entry twice", verify.ProblemCharterEntry, func(d *verifytest.Deployment) {
			r := d.Replace(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "one") })
			d.Enter(audit.KindCharter, r.ID, r.Envelope)
		}},
		{"a charter that was not entered", verify.ProblemCharterEntry, func(d *verifytest.Deployment) {
			r := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "one") })
			d.Endorse(r, "officer1", "officer2")
			rc := skip(d, r)
			enter(d, r, rc)
			d.Execute(asked(d, 1))
		}},
		{"another keeper", verify.ProblemKeeperChanged, func(d *verifytest.Deployment) {
			d.Replace(func(c *charter.Charter) { c.Keeper.Log = "elsewhere.example.com/log" })
		}},
		{"request entered twice", verify.ProblemRequestTwice, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Enter(audit.KindRequest, r.ID, r.Envelope)
		}},
		{"endorsement entered twice", verify.ProblemEndorsementTwice, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Enter(audit.KindEndorsement, r.ID, r.Endorsements[0])
		}},
		{"endorsement of an unknown request", verify.ProblemRequestUnknown, func(d *verifytest.Deployment) {
			r := asked(verifytest.New(t), 1)
			d.Enter(audit.KindEndorsement, r.ID, r.Endorsements[0])
		}},
		{"cancel of an unknown request", verify.ProblemRequestUnknown, func(d *verifytest.Deployment) {
			d.Enter(audit.KindCancel, statement.ID{1}, []byte("dave"))
		}},
		{"expire of an unknown request", verify.ProblemRequestUnknown, func(d *verifytest.Deployment) {
			d.Enter(audit.KindExpire, statement.ID{1}, nil)
		}},
		{"rejection of an unknown request", verify.ProblemRequestUnknown, func(d *verifytest.Deployment) {
			d.Enter(audit.KindRejection, statement.ID{1}, []byte("?"))
		}},
		{"cancelled by somebody else", verify.ProblemEntry, func(d *verifytest.Deployment) {
			d.Enter(audit.KindCancel, asked(d, 1).ID, []byte("mallory"))
		}},
		{"cancelled after it was executed", verify.ProblemClosed, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Execute(r)
			d.Withdraw(r)
		}},
		{"an open request that its requester did not sign", verify.ProblemSignature, func(d *verifytest.Deployment) {
			r := d.Sign("apps", "dave", item(d, 1))
			e, _ := statement.DecodeEnvelope(r.Envelope)
			e.Payload = bytes.Replace(e.Payload, []byte("a test"), []byte("A TEST"), 1)
			b, _ := e.Encode()
			d.Enter(audit.KindRequest, e.ID(), b)
		}},
		{"an open endorsement that its endorser did not sign", verify.ProblemSignature, func(d *verifytest.Deployment) {
			r := d.Sign("apps", "dave", item(d, 1))
			d.Enter(audit.KindEndorsement, r.ID, d.Word(r, "alice", statement.Endorse, "bob"))
		}},
		{"an endorsement that granted nothing and is forged", verify.ProblemSignature, func(d *verifytest.Deployment) {
			r := asked(d, 1)
			d.Enter(audit.KindEndorsement, r.ID, d.Word(r, "carol", statement.Endorse, "bob"))
			d.Execute(r)
		}},
		{"an entry that is none", verify.ProblemEntry, func(d *verifytest.Deployment) { d.EnterRaw([]byte("x")) }},
		{"a request that is none", verify.ProblemEntry, func(d *verifytest.Deployment) { d.Enter(audit.KindRequest, statement.ID{1}, []byte("{}")) }},
		{"a request under another ID", verify.ProblemEntry, func(d *verifytest.Deployment) {
			r := asked(verifytest.New(t), 1)
			d.Enter(audit.KindRequest, statement.ID{1}, r.Envelope)
		}},
		{"a body that is gone", verify.ProblemBody, func(d *verifytest.Deployment) {
			d.Replace(long)
			clear(d.Bodies)
		}},
		{"another body", verify.ProblemBody, func(d *verifytest.Deployment) {
			d.Replace(long)
			for sum, b := range d.Bodies {
				b[len(b)/2] ^= 1
				d.Bodies[sum] = b
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			d := verifytest.New(t)
			d.Execute(asked(d, 100))
			before := mustLog(t, d, verify.LogOptions{})
			if !before.OK() {
				t.Fatalf("before: %v", before.Problems)
			}
			x.do(d)
			for _, o := range []verify.LogOptions{{}, {Memory: 1}, {OldHead: []byte(before.Checkpoint), From: before.Size}} {
				r := mustLog(t, d, o)
				if r.OK() || !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool { return p.Code == x.want }) {
					t.Errorf("%+v: want %s: %v", o, x.want, r.Problems)
				}
				for _, p := range r.Problems {
					if p.Index < before.Size || p.String() == "" {
						t.Errorf("%+v: blames what was right: %v", o, p)
					}
				}
			}
		})
	}
}

// TestLogOrder: receipts may come back in another order than their numbers.
func TestLogOrder(t *testing.T) {
	d := verifytest.New(t)
	type kept struct {
		r *verifytest.Request
		b []byte
	}
	var all []kept
	for i := range 6 {
		r := asked(d, i)
		rc := d.Outcome(r)
		d.Number(rc)
		b := d.SignReceipt(rc)
		d.Chained(b)
		all = append(all, kept{r, b})
	}
	for _, i := range []int{2, 0, 1, 5, 4, 3} {
		d.Enter(audit.KindReceipt, all[i].r.ID, all[i].b)
	}
	r := mustLog(t, d, verify.LogOptions{})
	if !r.OK() || r.Receipts.Reordered != 3 || r.Receipts.Judged != 6 || r.Receipts.Last != 6 {
		t.Errorf("%+v %v", r.Receipts, r.Problems)
	}
}

// TestLogStops after MaxProblems.
func TestLogStops(t *testing.T) {
	d := verifytest.New(t)
	for i := range 1000 {
		d.EnterRaw(fmt.Appendf(nil, "nonsense %d", i))
	}
	r := mustLog(t, d, verify.LogOptions{})
	if !r.Stopped || len(r.Problems) != verify.MaxProblems || r.OK() {
		t.Errorf("%d problems, stopped %v", len(r.Problems), r.Stopped)
	}
}

// Problems count when they are found: a log of nothing but charters that were
// entered before ends the run, and is not gathered first.
func TestLogStopsAtCharters(t *testing.T) {
	d := verifytest.New(t)
	d.Replace(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "second") })
	r := d.Propose(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "third") })
	for range 1000 {
		d.Enter(audit.KindCharter, r.ID, r.Envelope)
	}
	report := mustLog(t, d, verify.LogOptions{})
	if !report.Stopped || report.Entries > 512 {
		t.Errorf("stopped %v after %d of %d entries", report.Stopped, report.Entries, report.Size)
	}
}

// TestLogSource lets the place fail where the log is read.
func TestLogSource(t *testing.T) {
	d := busy(t)
	ctx, cancel := context.WithCancel(context.Background())
	src := d.Source()
	if _, err := verify.Log(ctx, src, statement.ID{1}, verify.LogOptions{}); err == nil {
		t.Error("another root is accepted")
	}
	if _, err := verify.Log(ctx, verify.LogSource{Founding: d.Founding}, d.Root, verify.LogOptions{}); err == nil {
		t.Error("no source is accepted")
	}
	down := errors.New("down")
	broken := src
	broken.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		if strings.HasPrefix(path, "tile/entries") {
			return nil, down
		}
		return src.Fetch(ctx, path)
	}
	if _, err := verify.Log(ctx, broken, d.Root, verify.LogOptions{}); !errors.Is(err, down) {
		t.Errorf("a source that is down: %v", err)
	}
	// A server that shows the checker one thing and others another.
	calls := 0
	broken.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		b, err := src.Fetch(ctx, path)
		if strings.HasPrefix(path, "tile/entries") && err == nil {
			if calls++; calls > 1 {
				b[len(b)-1] ^= 1
			}
		}
		return b, err
	}
	r, err := verify.Log(ctx, broken, d.Root, verify.LogOptions{})
	if err != nil || r.OK() || r.Problems[0].Code != verify.ProblemTree {
		t.Errorf("altered entries: %v %v", err, r)
	}
	if _, err := verify.Log(ctx, verify.LogSource{Founding: d.Founding, Fetch: func(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }}, d.Root, verify.LogOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	cancel()
	if _, err := verify.Log(ctx, src, d.Root, verify.LogOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var empty audittest.Memory
	cp := d.SignTree(audit.EmptyTree())
	r, err = verify.Log(context.Background(), verify.LogSource{Founding: d.Founding, Fetch: audittest.Serve(&empty, func() []byte { return cp })}, d.Root, verify.LogOptions{})
	if err != nil || !r.OK() || r.Size != 0 {
		t.Errorf("an empty log: %v %+v", err, r)
	}
}

// TestLogWindow: a number that does not come is a gap once MaxAhead others wait,
// and one that comes after that is too late.
func TestLogWindow(t *testing.T) {
	d := verifytest.New(t)
	r := d.Sign("apps", "dave", item(d, 1))
	_, ref := d.Chain.Head()
	next := func() []byte {
		rc := d.Blank(r, ref)
		rc.Outcome, rc.Code = statement.Refused, "quorum-pending"
		d.Number(rc)
		b := d.SignReceipt(rc)
		d.Chained(b)
		return b
	}
	d.Enter(audit.KindReceipt, r.ID, next())
	late := next()
	for range verify.MaxAhead {
		d.Enter(audit.KindReceipt, r.ID, next())
	}
	in := mustLog(t, d, verify.LogOptions{})
	if len(in.Problems) != 1 || in.Problems[0].Code != verify.ProblemReceiptGap || in.Receipts.Last != verify.MaxAhead+2 {
		t.Errorf("at the end: %v", in.Problems)
	}
	d.Enter(audit.KindReceipt, r.ID, next())
	d.Enter(audit.KindReceipt, r.ID, late)
	out := mustLog(t, d, verify.LogOptions{})
	if len(out.Problems) != 2 || out.Problems[0].Code != verify.ProblemReceiptGap || out.Problems[1].Code != verify.ProblemReceiptTwice {
		t.Errorf("too late: %v", out.Problems)
	}
}
