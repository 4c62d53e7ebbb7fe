package road

import (
	"bytes"
	"crypto/rand"
	"encoding/json/v2"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/exec/javascript"
	"github.com/greatseal-io/greatseal/internal/agent/exec/sql"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/platform/mariatemp"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

const (
	sourceID  = "9c573169c611228700193229fff72400"
	includeID = "1be9c0d7c0a80164001ae1d9d4b4d2b5"
	schema    = `CREATE TABLE sys_data_source (sys_id char(32) PRIMARY KEY, connection_url text, credential text, database_name text, database_port integer, format text,
		instance_name text, jdbc_server text, last_run_database_field text, last_run_datetime timestamp, name text, properties text, query text, sql_statement text, table_name text, type text);
		CREATE TABLE ecc_agent_script_include (sys_id char(32) PRIMARY KEY, includes text, name text, script text)`
)

func sourceRef() record.Ref { return record.Ref{Table: "sys_data_source", Key: []string{sourceID}} }
func includeRef() record.Ref {
	return record.Ref{Table: "ecc_agent_script_include", Key: []string{includeID}}
}

// maria is a MariaDB with a shop in it: the data source's target.
type maria struct {
	*mariatemp.Server
	dsn  string
	port uint16
}

func newMaria(t testing.TB) *maria {
	t.Helper()
	s, err := mariatemp.Start()
	ok(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &maria{Server: s}
	m.dsn, err = s.Database()
	ok(t, err)
	_, err = s.SQL(m.dsn, "CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2)); INSERT INTO orders VALUES (1,'Ada',12.50),(2,'Grace',80.00),(3,'Edsger',200.10);"+
		"CREATE TABLE salaries (who VARCHAR(40), amount INT); INSERT INTO salaries VALUES ('Ada', 100000);"+
		"CREATE USER 'agent'@'localhost' IDENTIFIED BY 'hunter2'; GRANT SELECT ON "+m.name()+".* TO 'agent'@'localhost'")
	ok(t, err)
	m.port = agenttest.Forward(t, s.Socket())
	return m
}

func (m *maria) name() string {
	_, n, _ := strings.Cut(m.dsn, ")/")
	n, _, _ = strings.Cut(n, "?")
	return n
}

// source is the data source's row.
func (m *maria) source(sql string) map[string]string {
	return map[string]string{"name": "Large orders", "type": "JDBC", "format": "mariadb", "jdbc_server": "127.0.0.1", "database_port": fmt.Sprint(m.port), "database_name": m.name(),
		"credential": "shop", "properties": "encryption=none", "query": "Specific SQL", "sql_statement": sql}
}

// executors are those of an agent's host: databases, and JavaScript in a sandbox.
func (m *maria) executors(t testing.TB) func(*agent.Config) []exec.Executor {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	ok(t, err)
	file := filepath.Join(dir, "credentials.yaml")
	ok(t, os.WriteFile(file, []byte("shop: {user: agent, password: hunter2}\n"), 0o600))
	creds, err := credentials.Open(file, os.Geteuid())
	ok(t, err)
	box, err := sandbox.New(t.Context(), sandbox.Config{})
	ok(t, err)
	return func(*agent.Config) []exec.Executor {
		return []exec.Executor{&sql.Executor{Credentials: creds, Resolver: net.DefaultResolver}, &javascript.Executor{Sandbox: box}}
	}
}

func (m *maria) firewall() string {
	return fmt.Sprintf("version: 1\nrules:\n  - {name: shop, action: accept, topics: [JDBCProbe], instances: [%s], targets: [\"127.0.0.1:%d\"], credentials: [shop]}\n  - {name: scripts, action: accept, topics: [JavascriptProbe], instances: [%s]}\n", prod, m.port, prod)
}

// set writes an update set, as the application's developers export it.
func set(t testing.TB, name string, rows ...*updateset.Row) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := updateset.NewWriter(&b, name, fmt.Sprintf("%032x", time.Now().UnixNano()), time.Now().UTC().Truncate(time.Second), "bob")
	ok(t, err)
	for _, r := range rows {
		r.Action, r.At, r.By = updateset.Upsert, time.Now().UTC().Truncate(time.Second), "bob"
		ok(t, w.Add(r))
	}
	ok(t, w.Close())
	return b.Bytes()
}

func sourceRow(fields map[string]string) *updateset.Row {
	return &updateset.Row{Table: "sys_data_source", SysID: sourceID, Target: "Large orders", Kind: "Data Source", Fields: fields}
}

func includeRow(script string) *updateset.Row {
	return &updateset.Row{Table: "ecc_agent_script_include", SysID: includeID, Target: "Totals", Kind: "Script Include", Fields: map[string]string{"name": "Totals", "script": script}}
}

// signed has the quorum sign a set under a policy, and returns it with its signatures.
func (s *side) signed(policy, name string, b []byte) []byte {
	s.Helper()
	v := s.sign(&records.Spec{Kind: records.SignSet, Name: name, Policy: policy, Set: b, Reason: "release 12"})
	var out bytes.Buffer
	ok(s, s.instance.Jobs.SignedSet(s.Context(), v.ID, &out))
	return out.Bytes()
}

// bring imports a set: load, preview, commit.
func (p *site) bring(b []byte) {
	p.Helper()
	ctx := p.Context()
	v, err := p.instance.Guard.Load(ctx, rand.Reader, erp, b, "ann")
	ok(p, err)
	v, err = p.instance.Guard.Preview(ctx, v.ID)
	ok(p, err)
	if open := v.Preview.Open(); len(open) > 0 || len(v.Preview.Findings) == 0 {
		p.Fatalf("the preview has open points: %v\n%+v\n%+v", open, v.Preview.Findings, v.Preview.Problems)
	}
	v, err = p.instance.Guard.Commit(ctx, v.ID)
	ok(p, err)
	if v.State != records.Committed {
		p.Fatalf("the set is %s", v.State)
	}
}

// submit puts a job about one record into the queue.
func (p *site) submit(agent, topic string, ref record.Ref, params map[string]string) string {
	p.Helper()
	ids, err := p.instance.Queue.Submit(p.Context(), ecc.Job{Agent: agent, Topic: topic, Name: "test", Source: "ann", Records: []ecc.Ask{{Ref: ref, Purpose: record.Queue}}, Params: params})
	ok(p, err)
	return ids[0]
}

// rows are those that a job of a data source brought.
func (p *site) rows(id string) [][]any {
	p.Helper()
	var got struct {
		Rows [][]any `json:"rows"`
	}
	if err := json.Unmarshal(p.pages(id), &got); err != nil {
		p.Fatalf("%v: %s", err, p.pages(id))
	}
	return got.Rows
}

// refused wants a job to have ended with a reason that the instance keeps, shows and
// has in its log.
func (p *site) refused(id string, code rejection.Code, subject string) {
	p.Helper()
	r := p.ended(id)
	if r.State != store.QueueError || !strings.Contains(r.ErrorString, string(code)) {
		p.Fatalf("the job is %s (%s): want %s", r.State, r.ErrorString, code)
	}
	l, err := p.instance.Queue.Rejections(p.Context(), "", id, 0, 10)
	ok(p, err)
	if !slices.ContainsFunc(l, func(x store.AgentRejection) bool { return x.Code == string(code) && x.Subject == subject }) {
		p.Fatalf("the instance's rejections of the job are %+v: want %s(%s)", l, code, subject)
	}
}

// told wants an agent's own file to have the reason.
func (w *worker) told(t testing.TB, job string, code rejection.Code, subject string) {
	t.Helper()
	until(t, fmt.Sprintf("%s notes %s(%s)", w.name, code, subject), func() bool {
		l, err := agent.Explain(w.state, job)
		ok(t, err)
		return slices.ContainsFunc(l, func(x agent.Refusal) bool { return x.Reason.Code == code && x.Reason.Subject == subject })
	})
}

// TestRoad tells one story from the endorsement of a record to the rows that come
// back, and then what somebody does who has the protected instance's database, its
// host, or the wire to an agent.
func TestRoad(t *testing.T) {
	pg := pgtest.Start(t)
	devApp, prodApp := pg.Database(), pg.Database()
	pg.SQL(devApp, schema)
	pg.SQL(prodApp, schema)
	shop := newMaria(t)

	// A trusted instance signs, with its quorum, and shows its circle.
	s := newSide(t, pg.Database(), devApp)
	p := newSite(t, s, pg.Database(), prodApp)
	s.publish(p.instance.Runtime)
	p.believes(1)

	// The first release: a data source and a script include, in one update set.
	const query = "SELECT id, customer, total FROM orders WHERE total >= :least ORDER BY id"
	first := s.signed("authors", "release 12", set(t, "Release 12", sourceRow(shop.source(query)), includeRow("({sum: Number(params.least) + 1})")))
	// What is not signed is not committed.
	v, err := p.instance.Guard.Load(t.Context(), rand.Reader, erp, set(t, "Unsigned", sourceRow(shop.source(query))), "mallory")
	ok(t, err)
	v, err = p.instance.Guard.Preview(t.Context(), v.ID)
	ok(t, err)
	if len(v.Preview.Open()) == 0 {
		t.Fatal("an unsigned set has no open points")
	}
	if _, err := p.instance.Guard.Commit(t.Context(), v.ID); err == nil {
		t.Fatal("an unsigned set was committed")
	}
	p.bring(first)

	// An agent: its key is compared by a person, and it runs what it has verified.
	w := p.work("mid-1", shop.firewall(), shop.executors(t))
	p.validate(w)
	job := p.submit(w.name, "JDBCProbe", sourceRef(), map[string]string{"least": "50"})
	if r := p.ended(job); r.State != store.QueueProcessed {
		t.Fatalf("the job is %s: %s", r.State, r.ErrorString)
	}
	if got, want := fmt.Sprint(p.rows(job)), "[[2 Grace 80.00] [3 Edsger 200.10]]"; got != want {
		t.Fatalf("rows %s, want %s", got, want)
	}
	script := p.submit(w.name, "JavascriptProbe", includeRef(), nil)
	if r := p.ended(script); r.State != store.QueueProcessed {
		t.Fatalf("the script include is %s: %s", r.State, r.ErrorString)
	}

	t.Run("signing on the protected instance", func(t *testing.T) { signingRefused(t, p) })

	saved := "CREATE TABLE public.saved AS SELECT * FROM greatseal.greatseal_signature; CREATE TABLE public.saved_root AS SELECT * FROM greatseal.greatseal_root"
	pg.SQL(prodApp, saved)

	// A watch compares with what it saw when it first looked.
	until(t, "the watch has seen both tables", func() bool {
		return pg.SQL(prodApp, "SELECT count(*) FROM greatseal.greatseal_watcher WHERE primed = 1") == "2"
	})

	// Somebody edits the SQL in the protected database. The instance hands nothing out,
	// and finds it where it watches.
	const theft = "SELECT who, amount, 1 FROM salaries"
	pg.SQL(prodApp, "UPDATE sys_data_source SET sql_statement = '"+theft+"'")
	p.refused(p.submit(w.name, "JDBCProbe", sourceRef(), nil), rejection.FieldChanged, "sql_statement")
	until(t, "the watch finds the change", func() bool {
		l, err := p.store.Findings(t.Context(), 0, 100)
		ok(t, err)
		return slices.ContainsFunc(l, func(f store.Finding) bool {
			return f.Table == "sys_data_source" && f.Code == string(rejection.FieldChanged) && f.Subject == "sql_statement"
		})
	})
	rep, err := p.instance.Guard.Scan(t.Context(), records.ScanOptions{}, nil)
	ok(t, err)
	if !slices.ContainsFunc(rep.Counts, func(c records.ScanCount) bool { return c.Configuration == "sources" && c.Invalid == 1 }) {
		t.Fatalf("the scan counts %+v", rep.Counts)
	}

	// Somebody owns the instance's host: its keys sign whatever its database holds. The
	// agent judges by itself.
	lying := p.serve(p.stolen(t))
	p.front.to(lying)
	p.refused(p.submit(w.name, "JDBCProbe", sourceRef(), nil), rejection.FieldChanged, "sql_statement")
	last := p.last(t)
	w.told(t, last, rejection.FieldChanged, "sql_statement")

	// The next release repairs it, and then the first one is put back with its valid
	// signatures.
	p.bring(s.signed("authors", "release 13", set(t, "Release 13", sourceRow(shop.source("SELECT id FROM orders WHERE total > :least")))))
	job = p.submit(w.name, "JDBCProbe", sourceRef(), map[string]string{"least": "100"})
	if r := p.ended(job); r.State != store.QueueProcessed || fmt.Sprint(p.rows(job)) != "[[3]]" {
		t.Fatalf("the job is %s: %s", r.State, r.ErrorString)
	}
	pg.SQL(prodApp, "UPDATE sys_data_source SET sql_statement = '"+query+"'; DELETE FROM greatseal.greatseal_signature; INSERT INTO greatseal.greatseal_signature SELECT * FROM public.saved")
	old := p.submit(w.name, "JDBCProbe", sourceRef(), map[string]string{"least": "0"})
	p.refused(old, rejection.RevisionRollback, "")
	w.told(t, old, rejection.RevisionRollback, "")

	// Somebody on the wire hands an order of before out again.
	w.tap.again(t, job)
	w.told(t, job, rejection.OrderReplayed, "")
	if r := p.ended(job); r.State != store.QueueProcessed || fmt.Sprint(p.rows(job)) != "[[3]]" {
		t.Fatalf("a replay changed its job: %s %s", r.State, r.ErrorString)
	}
}

// last is the newest job of the queue.
func (p *site) last(t testing.TB) string {
	t.Helper()
	l, err := p.instance.Queue.Jobs(t.Context(), store.QueueFilter{Limit: 1})
	ok(t, err)
	return l[0].ID
}

// signingRefused asks the protected instance for signatures in every way that there is.
func signingRefused(t *testing.T, p *site) {
	if p.instance.Jobs != nil {
		t.Error("a protected instance has security jobs")
	}
	if err := p.instance.Part.MaySign(); rejection.Of(err) == nil || rejection.Of(err).Code != rejection.NotProtected {
		t.Errorf("it may sign: %v", err)
	}
	h, err := api.NewProtected(api.ProtectedConfig{Instance: p.instance, Health: p.store.Health, Logger: logTo(t, "api"), Version: "test"})
	ok(t, err)
	srv := httptest.NewServer(h) // on loopback: whoever reaches it is an administrator
	defer srv.Close()
	spec, err := json.Marshal(records.Spec{Kind: records.SignRecords, Name: "all", Platform: erp, Policy: "authors", Configurations: []string{"sources"}})
	ok(t, err)
	for path, want := range map[string]int{"/v1/security-jobs": 403, "/v1/requests": 404, "/v1/endorsements": 404} {
		res, err := http.Post(srv.URL+path, "application/json", bytes.NewReader(spec))
		ok(t, err)
		b, err := io.ReadAll(res.Body)
		ok(t, err)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("POST %s: %d %s", path, res.StatusCode, b)
		}
	}
}
