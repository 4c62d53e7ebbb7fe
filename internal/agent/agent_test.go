package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/exec/script"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

// The whole way, with real executors.
func TestJobs(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.dir, "shop.db")
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE o (n TEXT, v INTEGER); INSERT INTO o VALUES ('a', 1), ('b', 2)"); err != nil {
		t.Fatal(err)
	}
	text := []byte("echo attached\n")
	w.up.attachments["run.sh"] = text
	attached := agenttest.Record("ecc_agent_script_file", "f", map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh"})
	attached.Attachments = []record.Attachment{{Name: "run.sh", Type: "text/x-sh", Size: int64(len(text)), SHA256: sha256.Sum256(text)}}
	w.start(w.all()...)
	for _, c := range []struct {
		r    request
		typ  string
		want string
	}{
		{request{topic: "JDBCProbe", params: map[string]string{"name": "b"}, records: []*record.Record{agenttest.Record("sys_data_source", "d", map[string]string{
			"format": "sqlite", "database_name": file, "sql_statement": "SELECT v FROM o WHERE n = :name"})}}, exec.JSON, `{"columns":[{"name":"v","type":"INTEGER"}],"rows":[[2]]}`},
		{request{topic: "Command", params: map[string]string{"name": "$(id)"}, records: []*record.Record{agenttest.Record("ecc_agent_script_file", "c", map[string]string{
			"language": "shell", "script": `echo "<$PARAM_name>"`})}}, script.Stdout, "<$(id)>\n"},
		{request{topic: "Command", records: []*record.Record{attached}}, script.Stdout, "attached\n"},
		{request{topic: "JavascriptProbe", records: []*record.Record{agenttest.Record("ecc_agent_script_include", "m", map[string]string{"name": "m", "includes": "lib", "script": "f(20)"})},
			others: []*record.Record{agenttest.Record("ecc_agent_script_include", "l", map[string]string{"name": "lib", "script": "function f(x) { return x + 1 }"})}}, exec.JSON, "21"},
	} {
		j := w.job(c.r)
		if r := w.refusal(j); r != nil {
			t.Fatalf("%s: %v", c.r.topic, r)
		}
		w.up.mu.Lock()
		o := w.up.outcomes[j.Lease.Job]
		got, sum := "", sha256.New()
		for i := range o.Pages {
			p := w.up.pages[j.Lease.Job][i]
			sum.Write(p.Body)
			if p.Type == c.typ {
				got += string(p.Body)
			}
		}
		w.up.mu.Unlock()
		if got != c.want || o.Error != "" || [32]byte(sum.Sum(nil)) != o.Digest {
			t.Errorf("%s: %q %+v", c.r.topic, got, o)
		}
	}
	if left, err := os.ReadDir(filepath.Join(w.cfg.State, "spool")); err != nil || len(left) > 0 {
		w.wait("an empty spool", func(*memory) bool {
			left, err = os.ReadDir(filepath.Join(w.cfg.State, "spool"))
			return err == nil && len(left) == 0
		})
	}
}

// What a compromised instance, a network or a former author may try. None of it runs.
func TestAttacks(t *testing.T) {
	w := newWorld(t)
	w.start(w.all()...)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := source("SELECT 1")
	signed := w.author.Sign(t, good)
	evil := source("DROP TABLE orders")
	elsewhere := source("SELECT 1")
	elsewhere.Ref.Key = []string{"s2"}
	unsignedField := source("SELECT 1")
	foreign := agenttest.NewAuthor(t, tables())
	include := agenttest.Record("ecc_agent_script_include", "lib", map[string]string{"name": "lib", "script": "1"})
	attached := agenttest.Record("ecc_agent_script_file", "f", map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh"})
	attached.Attachments = []record.Attachment{{Name: "run.sh", Type: "text/x-sh", Size: 4, SHA256: sha256.Sum256([]byte("true"))}}
	w.up.attachments["run.sh"] = []byte("evil")
	minute := int64(60)
	for name, c := range map[string]struct {
		r    request
		want rejection.Error
	}{
		"changed SQL":                {request{records: []*record.Record{evil}, sigs: map[int][]record.Signature{0: signed}}, rejection.Error{Code: rejection.FieldChanged, Subject: "sql_statement"}},
		"signature of another":       {request{records: []*record.Record{elsewhere}, sigs: map[int][]record.Signature{0: signed}}, rejection.Error{Code: rejection.RecordMismatch}},
		"no signature":               {request{records: []*record.Record{unsignedField}, sigs: map[int][]record.Signature{0: {}}}, rejection.Error{Code: rejection.SigMissing}},
		"an unknown author":          {request{sigs: map[int][]record.Signature{0: foreign.Sign(t, good)}}, rejection.Error{Code: rejection.CertUnknown}},
		"another purpose":            {request{change: func(o *order.Order) { o.Records[0].Purpose = "other" }}, rejection.Error{Code: rejection.PurposeMismatch}},
		"another instance's key":     {request{key: other}, rejection.Error{Code: rejection.OrderUnsigned}},
		"another instance's order":   {request{change: func(o *order.Order) { o.Instance = "test" }}, rejection.Error{Code: rejection.OrderUnsigned}},
		"another agent":              {request{change: func(o *order.Order) { o.Agent = "agent-2" }}, rejection.Error{Code: rejection.WrongAgent}},
		"a cluster":                  {request{change: func(o *order.Order) { o.Cluster = "dmz" }}, rejection.Error{Code: rejection.WrongAgent}},
		"no executor":                {request{change: func(o *order.Order) { o.Topic = "WMIProbe" }}, rejection.Error{Code: rejection.WrongAgent, Subject: "topic"}},
		"an expired order":           {request{change: func(o *order.Order) { o.IssuedAt -= 10 * minute; o.Expires = o.IssuedAt + minute }}, rejection.Error{Code: rejection.OrderExpired}},
		"an order of tomorrow":       {request{change: func(o *order.Order) { o.IssuedAt += 600 * minute; o.Expires = o.IssuedAt + minute }}, rejection.Error{Code: rejection.NotYetValid}},
		"a changed order":            {request{after: func(j *Job) { j.Order[len(j.Order)/2] ^= 1 }}, rejection.Error{}},
		"no order":                   {request{after: func(j *Job) { j.Order = nil }}, rejection.Error{Code: rejection.OrderMalformed}},
		"another record delivered":   {request{after: func(j *Job) { j.Records[0] = Item{Record: *evil, Signatures: signed} }}, rejection.Error{Code: rejection.RecordMismatch}},
		"a parameter":                {request{params: map[string]string{"limit": "1"}}, rejection.Error{Code: rejection.ParamNotAllowed, Subject: "limit"}},
		"a parameter for a field":    {request{params: map[string]string{"script": "evil()"}, records: []*record.Record{include}}, rejection.Error{Code: rejection.ParamNotAllowed, Subject: "script"}},
		"an unsigned dependency":     {request{records: []*record.Record{good}, others: []*record.Record{include}, sigs: map[int][]record.Signature{1: {}}}, rejection.Error{Code: rejection.DependencyUnsigned}},
		"a changed dependency":       {request{others: []*record.Record{include}, sigs: map[int][]record.Signature{1: signed}}, rejection.Error{Code: rejection.DependencyUnsigned}},
		"a missing include":          {request{topic: "JavascriptProbe", records: []*record.Record{agenttest.Record("ecc_agent_script_include", "m", map[string]string{"name": "m", "includes": "lib", "script": "1"})}}, rejection.Error{Code: rejection.DependencyUnsigned, Subject: "lib"}},
		"a changed attachment":       {request{topic: "Command", records: []*record.Record{attached}}, rejection.Error{Code: rejection.AttachmentChanged, Subject: "run.sh"}},
		"a database behind the wall": {request{topic: "JDBCProbe"}, rejection.Error{Code: rejection.FirewallDenied, Subject: "default"}},
		"a topic behind the wall":    {request{topic: "RESTProbe"}, rejection.Error{Code: rejection.FirewallDenied, Subject: "default"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := w.job(c.r)
			r := w.refusal(j)
			if r == nil || c.want.Code != "" && !errors.Is(r, &c.want) {
				t.Fatalf("%v", r)
			}
			// Invariant 6: the same everywhere.
			es, err := Explain(w.cfg.State, j.Lease.Job)
			if err != nil || len(es) != 1 || es[0].Reason.Code != r.Code || es[0].Reason.Subject != r.Subject {
				t.Errorf("%+v %v", es, err)
			}
		})
	}
	if n := w.spy.count(); n != 0 {
		t.Errorf("%d jobs ran", n)
	}
	w.logMu.Lock()
	defer w.logMu.Unlock()
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "DROP TABLE") || strings.Contains(line, "evil()") {
			t.Errorf("a value is logged: %s", line)
		}
	}
	for _, j := range []string{"FIELD_CHANGED", "ORDER_EXPIRED", "FIREWALL_DENIED"} {
		if !strings.Contains(w.log.String(), "code="+j) {
			t.Errorf("%s is not in the log", j)
		}
	}
}

// Threat 6: what is older than what ran before does not run, after a restart neither.
func TestRollback(t *testing.T) {
	w := newWorld(t)
	_, stop := w.start()
	c := w.author.Configurations["sys_data_source"]
	sign := func(r *record.Record, revision uint64) map[int][]record.Signature {
		return map[int][]record.Signature{0: recordtest.Signing{Signer: w.author.Signer, ID: "sys_data_source", Configuration: c, Revision: revision}.Sign(t, r)}
	}
	first, second := source("SELECT 1"), source("SELECT 2")
	if r := w.refusal(w.job(request{records: []*record.Record{first}, sigs: sign(first, 1)})); r != nil {
		t.Fatal(r)
	}
	if r := w.refusal(w.job(request{records: []*record.Record{second}, sigs: sign(second, 2)})); r != nil {
		t.Fatal(r)
	}
	for range 2 {
		if r := w.refusal(w.job(request{records: []*record.Record{first}, sigs: sign(first, 1)})); !errors.Is(r, &rejection.Error{Code: rejection.RevisionRollback}) {
			t.Fatal(r)
		}
		stop()
		_, stop = w.start()
	}
}

// Invariant 2, and threats 7 and 16.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	_, stop := w.start()
	j := w.job(request{})
	if r := w.refusal(j); r != nil {
		t.Fatal(r)
	}
	again := func(change func(*Job)) *rejection.Error {
		x := j
		change(&x)
		delete(w.up.outcomes, x.Lease.Job)
		w.wait("the spool", func(*memory) bool {
			_, err := os.Stat(filepath.Join(w.cfg.State, "spool", fmt.Sprintf("%s-%d", x.Lease.Job, x.Lease.Attempt)))
			return os.IsNotExist(err)
		})
		return w.refusal(x)
	}
	replayed := &rejection.Error{Code: rejection.OrderReplayed}
	w.up.set(func() { delete(w.up.outcomes, j.Lease.Job) })
	if r := again(func(*Job) {}); !errors.Is(r, replayed) {
		t.Error(r)
	}
	if r := again(func(x *Job) { x.Lease.Job, x.Lease.Attempt = id(), 9 }); !errors.Is(r, replayed) { // under another name
		t.Error(r)
	}
	stop()
	_, stop = w.start()
	if r := again(func(x *Job) { x.Lease.Job = id() }); !errors.Is(r, replayed) {
		t.Errorf("after a restart: %v", r)
	}
	stop()
	w.setNow(w.now().Add(2 * time.Minute))
	_, stop = w.start()
	w.wait("a heartbeat's tick", func(*memory) bool { return true })
	if r := w.refusal(w.job(request{})); r != nil {
		t.Error(r)
	}
	stop()
	if n := w.spy.count(); n != 2 {
		t.Errorf("%d jobs ran", n)
	}
}

// The clock guard survives a restart, and so does what is too old to be believed.
func TestClockAndTrust(t *testing.T) {
	w := newWorld(t)
	a, stop := w.start()
	if err := a.seen.tick(w.now()); err != nil {
		t.Fatal(err)
	}
	stop()
	w.setNow(w.now().Add(-10 * time.Minute))
	w.start()
	if r := w.refusal(w.job(request{})); !errors.Is(r, &rejection.Error{Code: rejection.ClockBackwards}) {
		t.Error(r)
	}
	w.setNow(w.now().Add(10 * time.Minute))
	if r := w.refusal(w.job(request{})); r != nil {
		t.Error(r)
	}
	w.belief.mu.Lock()
	w.belief.stale = rejection.New(rejection.TrustStoreStale, "", "")
	w.belief.mu.Unlock()
	if r := w.refusal(w.job(request{})); !errors.Is(r, &rejection.Error{Code: rejection.TrustStoreStale}) {
		t.Error(r)
	}
}

// Invariant 4: a revocation holds from the next pull on, and nothing is restarted.
func TestRevocation(t *testing.T) {
	w := newWorld(t)
	a, _ := w.start()
	if r := w.refusal(w.job(request{})); r != nil {
		t.Fatal(r)
	}
	w.up.set(func() { w.up.bundles = [][]byte{[]byte("revoke")} })
	a.PullCircle()
	w.wait("the pull", func(*memory) bool {
		w.belief.mu.Lock()
		defer w.belief.mu.Unlock()
		return len(w.belief.trust.Revocations) > 0
	})
	if r := w.refusal(w.job(request{})); !errors.Is(r, &rejection.Error{Code: rejection.CertRevoked}) {
		t.Error(r)
	}
}

// Invariant 4: whoever controls the instance cannot have a job run that must not any more
// by answering late, neither to the start nor with an attachment.
func TestLateAnswers(t *testing.T) {
	text := []byte("echo attached\n")
	attached := agenttest.Record("ecc_agent_script_file", "f", map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh"})
	attached.Attachments = []record.Attachment{{Name: "run.sh", Type: "text/x-sh", Size: int64(len(text)), SHA256: sha256.Sum256(text)}}
	for call, job := range map[string]request{"start": {}, "attachment": {topic: "Command", records: []*record.Record{attached}}} {
		for _, x := range []struct {
			what string
			late func(w *world, a *Agent) error
			want rejection.Code
		}{
			{"nothing", func(*world, *Agent) error { return nil }, ""},
			{"a revocation", func(w *world, _ *Agent) error { return w.belief.Apply(t.Context(), []byte("revoke"), w.now()) }, rejection.CertRevoked},
			{"another circle, which trusts the author too", func(w *world, _ *Agent) error {
				w.belief.mu.Lock()
				defer w.belief.mu.Unlock()
				w.belief.n++
				return nil
			}, ""},
			{"other rules", func(w *world, a *Agent) error {
				w.rules("version: 1\nrules: []")
				return a.Reload()
			}, rejection.FirewallDenied},
			{"trust that is too old", func(w *world, _ *Agent) error {
				w.belief.mu.Lock()
				defer w.belief.mu.Unlock()
				w.belief.stale = rejection.New(rejection.TrustStoreStale, "", "")
				return nil
			}, rejection.TrustStoreStale},
			{"two minutes", func(w *world, _ *Agent) error {
				w.setNow(w.now().Add(2 * time.Minute))
				return nil
			}, ""},
			{"the order's end", func(w *world, _ *Agent) error {
				w.setNow(w.now().Add(5 * time.Minute))
				return nil
			}, rejection.OrderExpired},
		} {
			t.Run(call+", "+x.what, func(t *testing.T) {
				w := newWorld(t)
				w.up.attachments["run.sh"] = text
				a, _ := w.start(w.all()...)
				met := make(chan error, 1)
				w.up.set(func() {
					w.up.late = func(c string) {
						if c == call {
							met <- x.late(w, a)
						}
					}
				})
				j := w.job(job)
				r := w.refusal(j)
				if err := <-met; err != nil {
					t.Fatal(err)
				}
				if x.want == "" {
					if r != nil {
						t.Errorf("refused: %v", r)
					}
					return
				}
				if r == nil || r.Code != x.want {
					t.Errorf("%v, not %s", r, x.want)
				}
				w.up.mu.Lock()
				defer w.up.mu.Unlock()
				if w.spy.count() > 0 || len(w.up.pages[j.Lease.Job]) > 0 {
					t.Error("it ran")
				}
			})
		}
	}
}

// Invariant 5.
func TestFirewallFile(t *testing.T) {
	w := newWorld(t)
	a, stop := w.start()
	w.rules("version: 1\nrules: [{name: x, action: maybe}]")
	if err := a.Reload(); !errors.Is(err, firewall.ErrFile) {
		t.Error(err)
	}
	if r := w.refusal(w.job(request{})); r != nil { // the old rules stay
		t.Error(r)
	}
	w.rules("version: 1\nrules: []")
	if err := a.Reload(); err != nil {
		t.Error(err)
	}
	if r := w.refusal(w.job(request{})); !errors.Is(r, &rejection.Error{Code: rejection.FirewallDenied, Subject: "default"}) {
		t.Error(r)
	}
	stop()
	w.rules("nothing")
	if _, err := Open(w.cfg, Deps{}); !errors.Is(err, firewall.ErrFile) {
		t.Errorf("an agent starts without a firewall: %v", err)
	}
}

// Invariant 7: results outlive the connection and the process.
func TestSpool(t *testing.T) {
	w := newWorld(t)
	w.spy.pages = [][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)}
	w.spy.block = make(chan struct{})
	_, stop := w.start()
	done, cut := w.job(request{}), w.job(request{})
	w.up.put(done)
	w.wait("the start", func(m *memory) bool { return len(m.started) == 1 && w.spy.count() == 1 })
	w.up.set(func() { w.up.down = true })
	close(w.spy.block)
	dir := filepath.Join(w.cfg.State, "spool", done.Lease.Job+"-1")
	w.wait("the outcome", func(*memory) bool { _, err := os.Stat(filepath.Join(dir, outcomeFile)); return err == nil })
	stop()
	// A second job is what a kill leaves while it runs: its folder, without an end.
	s, err := openSpool(filepath.Join(w.cfg.State, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.begin(cut.Lease)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Write(t.Context(), exec.JSON, []byte("half")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "page-00000001.new"), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "empty-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.up.set(func() { w.up.down = false })
	w.start()
	w.wait("the results", func(m *memory) bool { return len(m.outcomes) == 2 })
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	o, p := w.up.outcomes[done.Lease.Job], w.up.pages[done.Lease.Job]
	if o.Error != "" || o.Pages != 2 || o.Rows != 7 || len(p) != 2 || string(p[1].Body) != `{"b":2}` {
		t.Errorf("%+v %v", o, p)
	}
	if o, p := w.up.outcomes[cut.Lease.Job], w.up.pages[cut.Lease.Job]; !strings.Contains(o.Error, "ended while") || o.Pages != 1 || len(p) != 1 {
		t.Errorf("%+v %v", o, p)
	}
}

// What runs ends; what waits is left.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	w.spy.block = make(chan struct{})
	a, stop := w.start()
	j := w.job(request{})
	w.up.put(j)
	w.wait("the start", func(*memory) bool { return w.spy.count() == 1 })
	a.Drain()
	a.Drain()
	w.up.put(w.job(request{}))
	close(w.spy.block)
	w.wait("the end", func(m *memory) bool { _, ok := m.outcomes[j.Lease.Job]; return ok })
	stop()
	// A call for work that was under way may still have brought some: it is not started.
	if w.up.outcomes[j.Lease.Job].Error != "" || w.spy.count() != 1 || len(w.up.started) != 1 {
		t.Errorf("%+v %d %v", w.up.outcomes, w.spy.count(), w.up.started)
	}
}

// Bounds per topic, and room that is kept for people who wait.
func TestRoom(t *testing.T) {
	w := newWorld(t)
	w.cfg.Topics = map[string]int{"SSHCommand": 1}
	w.spy.block = make(chan struct{})
	w.start()
	for range 2 {
		w.up.put(w.job(request{topic: "SSHCommand"}))
	}
	w.wait("the first", func(*memory) bool { return w.spy.count() == 1 })
	for range 3 {
		w.up.put(w.job(request{}))
	}
	w.wait("three of four", func(*memory) bool { return w.spy.count() == 3 })
	j := w.job(request{})
	j.Priority = Interactive
	w.up.set(func() { w.up.queue = append([]Job{j}, w.up.queue...) })
	nudge(w.up.more)
	w.wait("the interactive one", func(*memory) bool { return w.spy.count() == 4 })
	w.spy.mu.Lock()
	ssh := 0
	for _, x := range w.spy.ran {
		if x.Topic == "SSHCommand" {
			ssh++
		}
	}
	w.spy.mu.Unlock()
	if ssh != 1 {
		t.Errorf("%d SSH jobs at once", ssh)
	}
	close(w.spy.block)
	w.wait("all", func(m *memory) bool { return len(m.outcomes) == 6 })
}

// A job that moved to another agent does not run here.
func TestLost(t *testing.T) {
	w := newWorld(t)
	w.start()
	j := w.job(request{})
	w.up.set(func() { w.up.lost[j.Lease.Job] = true })
	w.up.put(j)
	if r := w.refusal(w.job(request{})); r != nil {
		t.Fatal(r)
	}
	w.wait("the spool", func(*memory) bool {
		_, err := os.Stat(filepath.Join(w.cfg.State, "spool", j.Lease.Job+"-1"))
		return os.IsNotExist(err)
	})
	if n := w.spy.count(); n != 1 {
		t.Errorf("%d ran", n)
	}
}

// The key is made once, is the agent's alone, and waits for an administrator; a
// certificate for another key or name is refused; rekeying changes both together.
func TestIdentity(t *testing.T) {
	w := newWorld(t)
	waiting := 2
	w.up.enrolled = func(e *Enrolment) *Enrolled {
		if waiting--; waiting >= 0 {
			return &Enrolled{State: EnrolWaiting, RetryAfter: time.Millisecond}
		}
		return &Enrolled{State: EnrolValidated, Certificates: [][]byte{certify(t, e, e.Name)}}
	}
	a, stop := w.start()
	if r := w.refusal(w.job(request{})); r != nil {
		t.Fatal(r)
	}
	path := filepath.Join(w.cfg.State, identityFile)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	before, err := a.id.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	w.up.set(func() { w.up.pulse.Rekey = true })
	a.heartbeat(t.Context())
	after, err := a.id.Fingerprint()
	if err != nil || before == after || !w.up.enrolments[len(w.up.enrolments)-1].Rekey {
		t.Errorf("%s %s %v", before, after, err)
	}
	stop()
	id, err := OpenIdentity(w.cfg.State, agentName)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := id.Fingerprint(); err != nil || f != after || id.Certificate() == nil {
		t.Errorf("%s %v", f, err)
	}
	foreign := certify(t, &w.up.enrolments[0], agentName)
	if err := id.renew([][]byte{foreign}); err == nil {
		t.Error("a certificate for another key")
	}
	w.up.enrolled = func(e *Enrolment) *Enrolled {
		return &Enrolled{State: EnrolValidated, Certificates: [][]byte{certify(t, e, "agent-2")}}
	}
	if _, err := id.enrol(t.Context(), w.up, Enrolment{}); err == nil {
		t.Error("a certificate for another name")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIdentity(w.cfg.State, agentName); err == nil {
		t.Error("a key that others may read")
	}
}

// Two agents on one state folder would each miss what the other has begun.
func TestOneProcess(t *testing.T) {
	w := newWorld(t)
	w.start()
	if _, err := Open(w.cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
}

// beginUntilKilled is an agent that begins orders, and says so, until it is killed.
func beginUntilKilled(path string) {
	s, err := openSeen(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range 1_000_000 {
		key := sha256.Sum256(fmt.Append(nil, i))
		if err := s.begin(key, time.Now().Add(time.Minute), time.Now()); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// Invariant 2: whatever was begun before a kill -9 is known after it.
func TestSeenSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "orders.log")
	begun := 0
	for range 3 {
		c := osexec.Command(os.Args[0])
		c.Env = append(os.Environ(), "AGENT_TEST_SEEN="+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(200*time.Millisecond, func() { _ = c.Process.Kill() })
		b, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		begun = max(begun, strings.Count(string(b), "\n"))
		s, err := openSeen(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range strings.Count(string(b), "\n") {
			if _, err := s.claim(sha256.Sum256(fmt.Append(nil, i))); !errors.Is(err, &rejection.Error{Code: rejection.OrderReplayed}) {
				t.Fatalf("%d of %d is forgotten", i, begun)
			}
		}
		if err := s.j.close(); err != nil {
			t.Fatal(err)
		}
	}
	if begun == 0 {
		t.Fatal("nothing was begun")
	}
}

// A line that was cut off goes; any other damage stops the start.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	read := func() (lines []string, err error) {
		j, err := openJournal(path, func(b []byte) error { lines = append(lines, string(b)); return nil })
		if err == nil {
			err = j.close()
		}
		return lines, err
	}
	j, err := openJournal(path, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := j.append([]byte("one"), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := j.append([]byte("a\nb")); err == nil {
		t.Error("two lines in one")
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		want := strings.Count(string(whole[:n]), "\n")
		if got, err := read(); err != nil || len(got) != want {
			t.Errorf("%d bytes: %v %v", n, got, err)
		}
	}
	for i := range whole {
		b := []byte(string(whole))
		b[i] ^= 0x40
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		// Damage to the last line's end makes it one that is cut off.
		if got, err := read(); err == nil && i != len(whole)-1 {
			t.Errorf("byte %d: %v", i, got)
		}
	}
}

// Keys are kept a day longer than any order with them can live, and then forgotten.
func TestForget(t *testing.T) {
	s, err := openSeen(filepath.Join(t.TempDir(), "orders.log"))
	if err != nil {
		t.Fatal(err)
	}
	start := recordtest.At
	for i := range 6000 {
		s.until[sha256.Sum256(fmt.Append(nil, i))] = start.Add(forgetAfter)
	}
	s.lines = 13_000
	if err := s.tick(start.Add(forgetAfter - time.Minute)); err != nil {
		t.Fatal(err)
	}
	if len(s.until) != 6000 {
		t.Errorf("%d are left too early", len(s.until))
	}
	s.lines = 13_000
	if err := s.tick(start.Add(forgetAfter + time.Minute)); err != nil {
		t.Fatal(err)
	}
	if len(s.until) != 0 || s.lines != 1 {
		t.Errorf("%d are left", len(s.until))
	}
	if err := s.clock(start); !errors.Is(err, &rejection.Error{Code: rejection.ClockBackwards}) {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	good := "name: a\ninstance: prod\nstate: /s\nfirewall: /f\nroots: [" + strings.Repeat("ab", 32) + "]\n"
	c, err := ParseConfig([]byte(good))
	if err != nil || c.Jobs != 8 || c.Reserve != 2 {
		t.Fatalf("%+v %v", c, err)
	}
	for name, s := range map[string]string{
		"empty": "", "unknown": good + "x: 1\n", "two": good + "---\n{}\n", "relative": strings.Replace(good, "/s", "s", 1), "roots": "name: a\ninstance: prod\nstate: /s\nfirewall: /f\n",
		"a root": strings.Replace(good, "abab", "xyab", 1), "name": strings.Replace(good, "name: a", "name: ../a", 1), "jobs": good + "jobs: -1\n", "reserve": good + "jobs: 2\nreserve: 2\n",
		"duration": good + "heartbeat: -5m\n", "number": good + "heartbeat: 5\n", "interpreter": good + "interpreters: {perl: /usr/bin/perl}\n",
	} {
		if _, err := ParseConfig([]byte(s)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
