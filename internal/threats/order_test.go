package threats

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

// An order that was begun, or is old.
func TestThreat07Replay(t *testing.T) {
	w := newWorld(t, options{})
	j := w.job(delivery{})
	t.Run("honest", func(t *testing.T) {
		if got := w.jobRuns(j); got != honest {
			t.Error(got)
		}
	})
	again := func(t *testing.T, change func(*agent.Job)) {
		t.Helper()
		x := w.lease(j)
		change(&x)
		w.jobRefused(t, x, rejection.OrderReplayed, "")
	}
	t.Run("the same order again", func(t *testing.T) { again(t, func(*agent.Job) {}) })
	t.Run("as a later attempt", func(t *testing.T) { again(t, func(x *agent.Job) { x.Lease.Attempt = 9 }) })
	t.Run("after a restart", func(t *testing.T) {
		w.restart()
		again(t, func(*agent.Job) {})
	})
	t.Run("run again, with a new nonce and attempt", func(t *testing.T) {
		o := w.order(probe, w.source(), asked())
		one := w.lease(agent.Job{Topic: probe, Records: j.Records, Order: w.signed(o, w.instance)})
		w.jobRuns(one)
		o.Attempt, o.Nonce, o.IssuedAt = 2, bytes.Repeat([]byte{7}, order.NonceSize), o.IssuedAt+1
		two := w.lease(agent.Job{Topic: probe, Records: j.Records, Order: w.signed(o, w.instance)})
		w.jobRefused(t, two, rejection.OrderReplayed, "")
	})
	t.Run("an attempt that may be repeated, twice", func(t *testing.T) {
		o := w.order(probe, w.source(), asked())
		o.Repeatable = true
		for o.Attempt = 1; o.Attempt < 3; o.Attempt++ {
			x := w.lease(agent.Job{Topic: probe, Records: j.Records, Order: w.signed(o, w.instance)})
			w.jobRuns(x)
			w.jobRefused(t, w.lease(x), rejection.OrderReplayed, "")
		}
	})
	t.Run("duplicates of a fail-over, at the same time", func(t *testing.T) {
		one := w.job(delivery{})
		copies := []agent.Job{one, w.lease(one), w.lease(one), w.lease(one)}
		ran := 0
		for i, e := range w.up.put(t, copies...) {
			if e.rejected == nil {
				ran++
				continue
			}
			w.judged(t, e, copies[i], rejection.OrderReplayed, "", e.started)
			if e.started > 0 && len(e.pages) > 0 {
				t.Error("a duplicate brought something")
			}
		}
		if ran != 1 {
			t.Errorf("%d of the copies ran", ran)
		}
	})
	for name, c := range map[string]struct {
		shift int64
		code  rejection.Code
	}{"an order of yesterday": {-24 * 3600, rejection.OrderExpired}, "one that expires now": {-300, rejection.OrderExpired}, "an order of tomorrow": {24 * 3600, rejection.NotYetValid}} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, delivery{order: func(o *order.Order) { o.IssuedAt += c.shift; o.Expires += c.shift }}, c.code, "")
		})
	}
	t.Run("an order without end", func(t *testing.T) {
		w.refused(t, delivery{order: func(o *order.Order) { o.Expires += 365 * 24 * 3600 }}, rejection.OrderMalformed, "")
	})
}

// What is ordered of one agent, brought to another.
func TestThreat08AnotherAgent(t *testing.T) {
	w := newWorld(t, options{})
	t.Run("honest", w.plain)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	for name, c := range map[string]struct {
		d    delivery
		code rejection.Code
		subj string
	}{
		"of another agent":             {delivery{order: func(o *order.Order) { o.Agent = "agent-2" }}, rejection.WrongAgent, "agent"},
		"of every agent":               {delivery{order: func(o *order.Order) { o.Agent = "*" }}, rejection.OrderMalformed, "agent"},
		"of no agent":                  {delivery{order: func(o *order.Order) { o.Agent = "" }}, rejection.OrderMalformed, "agent"},
		"of a cluster's other member":  {delivery{order: func(o *order.Order) { o.Agent, o.Cluster = "agent-2", "dmz" }}, rejection.WrongAgent, "agent"},
		"of a cluster that it is not":  {delivery{order: func(o *order.Order) { o.Cluster = "dmz" }}, rejection.WrongAgent, "cluster"},
		"of another instance":          {delivery{order: func(o *order.Order) { o.Instance = "test" }}, rejection.OrderUnsigned, "instance"},
		"by another instance's key":    {delivery{key: stranger}, rejection.OrderUnsigned, "signature"},
		"of a topic that it has not":   {delivery{order: func(o *order.Order) { o.Topic = "WMIProbe" }}, rejection.WrongAgent, "topic"},
		"with the name written anew":   {delivery{order: func(o *order.Order) { o.Agent = "agent-2" }, after: w.rename("agent-2", agentName)}, rejection.OrderUnsigned, "signature"},
		"a script's topic for a query": {delivery{order: func(o *order.Order) { o.Topic = script }}, rejection.WrongAgent, "topic"},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, c.d, c.code, c.subj) })
	}
}

// rename changes a signed order's bytes.
func (w *world) rename(old, new string) func(*agent.Job) {
	return func(j *agent.Job) {
		if !bytes.Contains(j.Order, []byte(old)) {
			w.Fatalf("%s is not in the order", old)
		}
		j.Order = bytes.Replace(j.Order, []byte(old), []byte(new), 1)
	}
}

// Parameters come from the instance: whoever has taken it over chooses them.
func TestThreat09Parameters(t *testing.T) {
	w := newWorld(t, options{scripts: true})
	main := include("main", "", "params.who + '!' // "+word)
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		if got := w.runs(delivery{record: main, params: map[string]string{"who": word}}); got != `"`+word+`!"` {
			t.Error(got)
		}
	})
	t.Run("bound, never spliced", func(t *testing.T) {
		for _, v := range []string{"' OR '1'='1", "one' --", "one'; DROP TABLE orders; --", "one' UNION SELECT v FROM orders --", ":name", "one\x00", `one\'`} {
			if got := w.runs(delivery{params: map[string]string{"name": v}}); strings.Contains(got, word) {
				t.Errorf("%q: %s", v, got)
			}
		}
		if got := w.runs(delivery{record: main, params: map[string]string{"who": "' + params + '"}}); got != `"' + params + '!"` {
			t.Error(got)
		}
		w.plain(t)
	})
	t.Run("the order's name overrides nothing", func(t *testing.T) {
		for _, n := range []string{"sql_statement", "SELECT 1", "vault.js", "../../x"} {
			if got := w.runs(delivery{order: func(o *order.Order) { o.Name = n }}); got != honest {
				t.Errorf("%q: %s", n, got)
			}
		}
	})
	js := func(p map[string]string) delivery { return delivery{record: main, params: p} }
	db := func(p map[string]string) delivery {
		return delivery{record: w.source(), params: p}
	}
	for name, c := range map[string]struct {
		d    delivery
		code rejection.Code
		subj string
	}{
		"one that nobody signed":                 {js(map[string]string{"who": word, "mode": word}), rejection.ParamNotAllowed, "mode"},
		"one that nobody signed, of a query":     {db(map[string]string{"name": "one", "limit": word}), rejection.ParamNotAllowed, "limit"},
		"the name of a signed field":             {db(map[string]string{"name": "one", "sql_statement": "SELECT " + word}), rejection.ParamNotAllowed, "sql_statement"},
		"the name of an unsigned field":          {db(map[string]string{"name": "one", "credential": word}), rejection.ParamNotAllowed, "credential"},
		"a script":                               {js(map[string]string{"who": word, "script": "evil('" + word + "')"}), rejection.ParamNotAllowed, "script"},
		"listed, and the name of a signed field": {js(map[string]string{"who": word, "name": word}), rejection.ParamNotAllowed, "name"},
		"listed, and not of this statement":      {db(map[string]string{"name": "one", "since": word}), rejection.ParamNotAllowed, "since"},
		"missing":                                {db(map[string]string{}), rejection.ParamMissing, "name"},
		"in another case":                        {db(map[string]string{"Name": "one"}), rejection.ParamNotAllowed, "Name"},
		"a name that is none":                    {db(map[string]string{"name; DROP": word}), rejection.OrderMalformed, "params"},
		"a value that is too long":               {db(map[string]string{"name": strings.Repeat(word, order.MaxParam)}), rejection.OrderMalformed, "params"},
		"invalid UTF-8":                          {db(map[string]string{"name": word + "\xff"}), rejection.OrderMalformed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "invalid") { // the encoding itself refuses it
				o := w.order(probe, w.source(), map[string]string{"name": word + "QQ"})
				raw := bytes.Replace(w.signed(o, w.instance), []byte("QQ"), []byte("\xff\xfe"), 1)
				w.refused(t, delivery{after: func(j *agent.Job) { j.Order = raw }}, rejection.OrderUnsigned, "")
				return
			}
			w.refused(t, c.d, c.code, c.subj)
		})
	}
}

// What is checked is one thing, what runs another.
func TestThreat10Swap(t *testing.T) {
	w := newWorld(t, options{scripts: true})
	good, evil := []byte("echo "+word+"-good\n"), []byte("echo "+word+"-evil\n")
	file := func(name string, b []byte) record.Attachment {
		return record.Attachment{Name: name, Type: "text/x-sh", Size: int64(len(b)), SHA256: sha256.Sum256(b)}
	}
	attached := func(atts ...record.Attachment) *record.Record {
		return &record.Record{Ref: record.Ref{Table: files, Key: []string{"f1"}}, Attachments: atts,
			Fields: map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh"}}
	}
	serve := func(f func(n int) []byte) {
		w.up.set(func() { w.up.fetched, w.up.files = 0, func(n int, _ record.Attachment) []byte { return f(n) } })
	}
	run := attached(file("run.sh", good))
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		serve(func(int) []byte { return good })
		if got := w.runs(delivery{record: run}); got != word+"-good\n" {
			t.Error(got)
		}
	})
	t.Run("an attachment's bytes", func(t *testing.T) {
		for _, b := range [][]byte{evil, good[:len(good)-1], append(bytes.Clone(good), '\n'), nil} {
			serve(func(int) []byte { return b })
			j := w.job(delivery{record: run})
			e := w.up.put(t, j)[0]
			w.judged(t, e, j, rejection.AttachmentChanged, "run.sh", 1)
		}
	})
	t.Run("an attachment between two readings", func(t *testing.T) {
		serve(func(n int) []byte {
			if n > 1 {
				return evil
			}
			return good
		})
		if got := w.runs(delivery{record: run}); got != word+"-good\n" {
			t.Error(got)
		}
		w.up.set(func() {
			if w.up.fetched != 1 {
				t.Errorf("it was read %d times", w.up.fetched)
			}
		})
	})
	t.Run("the record after it was judged", func(t *testing.T) {
		j := w.job(delivery{})
		w.up.set(func() {
			w.up.onStart = func() {
				j.Records[0].Record.Fields["sql_statement"] = "SELECT 'evil' -- " + word
				j.Records[0].Record.Fields["database_name"] = w.path("vault-" + word + ".db")
				clear(j.Order)
			}
		})
		defer w.up.set(func() { w.up.onStart = nil })
		if got := w.jobRuns(j); got != honest {
			t.Error(got)
		}
	})
	t.Run("the database for a link to another", func(t *testing.T) {
		j := w.job(delivery{})
		moved := w.shop + ".moved"
		w.up.set(func() {
			w.up.onStart = func() {
				if os.Rename(w.shop, moved) != nil || os.Symlink(w.path("vault-"+word+".db"), w.shop) != nil {
					t.Error("the file cannot be swapped")
				}
			}
		})
		e := w.up.put(t, j)[0]
		w.up.set(func() { w.up.onStart = nil })
		w.must(os.Rename(moved, w.shop))
		if e.rejected != nil || e.outcome.Error == "" || len(e.pages) > 0 {
			t.Errorf("%v %+v %s", e.rejected, e.outcome, output(e))
		}
		w.plain(t)
	})
	for name, c := range map[string]struct {
		d    delivery
		code rejection.Code
		subj string
	}{
		"the last attachment of a name wins": {delivery{record: attached(file("run.sh", good), file("run.sh", evil)), sigs: w.sign(run)}, rejection.AttachmentExtra, "run.sh"},
		"two of a name, both signed":         {delivery{record: sorted(attached(file("run.sh", good), file("run.sh", evil)))}, rejection.AttachmentExtra, "run.sh"},
		"another attachment in its place":    {delivery{record: attached(file("run.sh", evil)), sigs: w.sign(run)}, rejection.AttachmentChanged, "run.sh"},
		"one more attachment":                {delivery{record: attached(file("lib.jar", evil), file("run.sh", good)), sigs: w.sign(run)}, rejection.AttachmentExtra, "lib.jar"},
		"renamed":                            {delivery{record: attached(file("RUN.SH", good)), sigs: w.sign(run)}, rejection.AttachmentMissing, "run.sh"},
		"taken away":                         {delivery{record: attached(), sigs: w.sign(run)}, rejection.AttachmentMissing, "run.sh"},
		"signed without":                     {delivery{record: attached()}, rejection.AttachmentMissing, "run.sh"},
		"a script beside the attachment":     {delivery{record: with(run, "script", string(evil))}, rejection.PayloadMalformed, "script"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(func(int) []byte { return evil })
			if len(c.d.record.Attachments) == 2 {
				c.d.record = sorted(c.d.record)
			}
			w.refused(t, c.d, c.code, c.subj)
		})
	}
	t.Run("an include that is loaded later", func(t *testing.T) {
		for _, text := range []string{"eval('6 * 7') // " + word, "new Function('return 42')() // " + word, "require('lib') // " + word, "(function () {}).constructor('return 42')() // " + word,
			"load('lib.js') // " + word, "gs.include('lib') // " + word} {
			e := w.up.put(t, w.job(delivery{record: include("later", "", text)}))[0]
			if e.rejected != nil || e.outcome.ExitCode == 0 || strings.Contains(output(e), "42") {
				t.Errorf("%s: %v %+v %s", text, e.rejected, e.outcome, output(e))
			}
		}
	})
}

// sorted is a record with its attachments as deliveries have them.
func sorted(r *record.Record) *record.Record {
	c := recordtest.Copy(r)
	if len(c.Attachments) == 2 && (c.Attachments[0].Name > c.Attachments[1].Name ||
		c.Attachments[0].Name == c.Attachments[1].Name && bytes.Compare(c.Attachments[0].SHA256[:], c.Attachments[1].SHA256[:]) > 0) {
		c.Attachments[0], c.Attachments[1] = c.Attachments[1], c.Attachments[0]
	}
	return c
}
