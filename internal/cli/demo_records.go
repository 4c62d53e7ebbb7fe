package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// The second half of the demo: the protected instance, its agent, the platform's
// name on both instances, and the data source.
const (
	demoPlant     = "plant"
	demoAgentName = "agent-1"
	demoApp       = "app"
	demoTopic     = "JDBCProbe"
	demoTable     = "sys_data_source"
	demoKey       = "9c573169c611228700193229fff72400"
	demoMinimum   = "100" // the job's parameter
	demoPatience  = 30 * time.Second
	demoFresh     = 15 * time.Minute
)

// demoRecords is what --json prints of the second half.
type demoRecords struct {
	Circle   string        `json:"circle"` // ID of the trust statement
	Agent    string        `json:"agent"`  // fingerprint of its key
	Sets     []string      `json:"sets"`   // signed update sets
	Jobs     []string      `json:"jobs"`   // that ran
	Rows     [][]any       `json:"rows"`   // of the last one
	Refusals []demoRefusal `json:"refusals"`
}

// demoRefusal is one refused attack.
type demoRefusal struct {
	By      string `json:"by"` // instance or agent
	Code    string `json:"code"`
	Subject string `json:"subject,omitzero"`
	Detail  string `json:"detail"`
}

// estate is what the second half stands on.
type estate struct {
	workshop *instance.Instance // trusted, part of the demo's server
	plant    *instance.Instance // protected
	url      string             // where the plant takes agents
	agent    *demoAgent

	closer []func() error
}

func (e *estate) close() error {
	var errs []error
	if e.agent != nil {
		errs = append(errs, e.agent.close())
	}
	for _, f := range slices.Backward(e.closer) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

// target is the database that the data source asks.
func (d *demo) target() string { return d.path("orders.db") }

func (d *demo) ref() record.Ref { return record.Ref{Table: demoTable, Key: []string{demoKey}} }

// until asks again and again whether something has happened.
func until(ctx context.Context, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("for %s it was not so: %s", demoPatience, what)
		case <-t.C:
		}
	}
}

// edit runs statements on a SQLite file, as somebody does who has it.
func edit(ctx context.Context, path string, f func(*sql.Conn) error) error {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "_pragma=busy_timeout(20000)&_txlock=immediate"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

func script(statements ...string) func(*sql.Conn) error {
	return func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), strings.Join(statements, ";\n"))
		return err
	}
}

// circle sets the estate up: databases, two instances, what they believe, the agent.
func (d *demo) circle(ctx context.Context) error {
	d.estate = &estate{}
	for _, n := range []string{"workshop", "plant"} {
		if err := os.MkdirAll(d.path(n), 0o700); err != nil {
			return err
		}
		if err := edit(ctx, d.path(n, "app.db"), script(`CREATE TABLE sys_data_source (sys_id TEXT PRIMARY KEY, name TEXT, type TEXT, format TEXT, database_name TEXT, query TEXT, sql_statement TEXT)`)); err != nil {
			return err
		}
	}
	err := edit(ctx, d.target(), script(`CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total INTEGER, paid INTEGER)`,
		`INSERT INTO orders VALUES (1, 'Meyer', 80, 1), (2, 'Okafor', 120, 0), (3, 'Silva', 310, 1), (4, 'Tanaka', 45, 0), (5, 'Weiss', 990, 0)`,
		`CREATE TABLE accounts (login TEXT, password TEXT)`, `INSERT INTO accounts VALUES ('admin', 'hunter2')`))
	if err != nil {
		return err
	}
	if err := d.instances(ctx); err != nil {
		return err
	}
	if err := d.publish(ctx); err != nil {
		return err
	}
	if err := d.serveAgents(ctx); err != nil {
		return err
	}
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	return d.enrolAgent(ctx)
}

// instances opens both, each with an application's database.
func (d *demo) instances(ctx context.Context) error {
	e := d.estate
	open := func(c *config.Instance, cfg instance.Config) (*instance.Instance, error) {
		c.Platforms = map[string]config.Platform{demoApp: {Database: "sqlite:" + d.path(c.Name, "app.db")}}
		c.State = d.path(c.Name, "circle.state")
		cfg.Config, cfg.Clock, cfg.Logger, cfg.Sender = c, time.Now, slog.New(slog.DiscardHandler), notify.NewSender()
		i, err := instance.Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		e.closer = append(e.closer, i.Close)
		return i, nil
	}
	var err error
	e.workshop, err = open(&config.Instance{Name: trial.Workshop, Role: "trusted", Machine: &config.Machine{Name: trial.Clerk, Key: d.people.KeyFile(trial.Clerk)},
		Freshness: &config.Freshness{Policy: "fresh", Lasts: config.Duration(demoFresh)}}, instance.Config{Store: d.store, Server: d.server, Root: d.people.Root})
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, "sqlite:"+d.path("plant", "greatseal.db"))
	if err != nil {
		return err
	}
	e.closer = append(e.closer, db.Close)
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	if err := file.WriteFile(d.path("plant", "passphrase"), fmt.Appendf(nil, "%x\n", secret), 0o600); err != nil {
		return err
	}
	e.plant, err = open(&config.Instance{Name: demoPlant, Role: "protected", Sides: []config.Side{{Root: d.people.Root}},
		Agents: &config.Agents{Keystore: d.path("plant", "keystore"), PassphraseFile: d.path("plant", "passphrase")}}, instance.Config{Store: db, Keys: keystore.Open})
	if err != nil {
		return err
	}
	d.say("   workshop  trusted: signs the records of %s", d.path("workshop", "app.db"))
	d.say("   plant     protected: has no keeper, signs nothing; its agents run records of %s", d.path("plant", "app.db"))
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { e.plant.Run(run) })
	e.closer = append(e.closer, func() error { stop(); wg.Wait(); return nil })
	return nil
}

// publish has a quorum of officers sign what the circle is to believe, and brings it
// to the plant in one file.
func (d *demo) publish(ctx context.Context) error {
	e := d.estate
	k, err := d.server.Key(ctx, "records")
	if err != nil {
		return err
	}
	b, err := os.ReadFile(d.people.RootFile())
	if err != nil {
		return err
	}
	ca, _ := pem.Decode(b)
	if ca == nil || len(k.Chain) == 0 {
		return errors.New("the key records has no certificate")
	}
	now := statement.Seconds(time.Now())
	said := trust.Statement{
		Deployment: d.people.Charter.Deployment, Version: 1, Created: now, Expires: now.AddDate(0, 3, 0), Freshness: uint64(demoFresh / time.Second),
		Instances: map[string]trust.Instance{
			trial.Workshop: {Role: trust.Trusted},
			demoPlant:      {Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{e.plant.Runtime}},
		},
		Anchors:        []record.Anchor{{Name: "authors", Certificate: k.Chain[0], Purposes: []string{record.Wildcard, record.Queue}}},
		Configurations: d.people.Charter.Records.Configurations, TimestampRoots: [][]byte{ca.Bytes},
	}
	payload, err := said.Encode()
	if err != nil {
		return err
	}
	plan, err := circleformat.New().Plan(ctx, format.BytesArtifact("circle.json", payload), nil)
	if err != nil {
		return err
	}
	item, err := author.Item(plan, "circle.json", nil)
	if err != nil {
		return err
	}
	cmd, err := author.SignCommand(d.people.Charter, "circle", record.Circle, [][]byte{item})
	if err != nil {
		return err
	}
	r, err := d.people.Do(ctx, d.server, d.people.Ref(), "alice", cmd, [][]byte{item}, "carol", "dave")
	if err != nil {
		return err
	}
	ev, err := d.server.Evidence(ctx, r.ID, 0)
	if err != nil {
		return err
	}
	evidence, err := ev.Encode()
	if err != nil {
		return err
	}
	u, err := circle.NewUpdate(evidence)
	if err != nil {
		return err
	}
	if err := e.workshop.Circles.Apply(ctx, &circle.Bundle{Root: d.people.Root, Circles: []circle.Update{*u}}); err != nil {
		return err
	}
	known := e.workshop.Circles.Status()[0]
	if err := e.workshop.Refresh(ctx, &known, statement.Seconds(time.Now()), demoFresh); err != nil {
		return err
	}
	// From here on the workshop works by itself: security jobs, freshness.
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { e.workshop.Run(run) })
	e.closer = append(e.closer, func() error { stop(); wg.Wait(); return nil })
	bundle, err := e.workshop.Circles.Bundle(d.people.Root)
	if err != nil {
		return err
	}
	if err := file.WriteFile(d.path("circle.bundle"), bundle, 0o644); err != nil {
		return err
	}
	x, err := circle.ReadBundle(bytes.NewReader(bundle))
	if err != nil {
		return err
	}
	if err := e.plant.Circles.Apply(ctx, x); err != nil {
		return err
	}
	d.result.Records.Circle = known.ID.String()
	d.say("   circle    %s: alice asked, carol and dave endorsed; enforcement is on at the plant", known.ID.String()[:12])
	d.say("             its freshness lasts %s, signed unattended; one file brings both to the plant, which pins the charter's ID alone", demoFresh)
	return nil
}

// move signs a version of the data source in an update set and brings it to the plant.
func (d *demo) move(ctx context.Context, name, query string) error {
	e := d.estate
	fields := map[string]string{"name": "open orders", "type": "JDBC", "format": "sqlite", "database_name": d.target(), "sql_statement": query}
	args := []any{demoKey, fields["name"], fields["type"], fields["format"], fields["database_name"], query}
	err := edit(ctx, d.path("workshop", "app.db"), func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, `INSERT OR REPLACE INTO sys_data_source (sys_id, name, type, format, database_name, sql_statement) VALUES (?, ?, ?, ?, ?, ?)`, args...)
		return err
	})
	if err != nil {
		return err
	}
	var set bytes.Buffer
	now := time.Now()
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	w, err := updateset.NewWriter(&set, name, fmt.Sprintf("%x", id), now, "bob")
	if err != nil {
		return err
	}
	row := &updateset.Row{Table: demoTable, SysID: demoKey, Target: fields["name"], Kind: "Data Source", Action: updateset.Upsert, Fields: fields, At: now, By: "bob"}
	if err := errors.Join(w.Add(row), w.Close()); err != nil {
		return err
	}
	v, err := e.workshop.Jobs.Create(ctx, &records.Spec{Kind: records.SignSet, Name: name, Policy: "records", Set: set.Bytes(), Audience: []string{demoPlant}}, "bob")
	if err != nil {
		return err
	}
	d.say("   source    %q in the workshop: %s", fields["name"], query)
	if v, err = d.jobIs(ctx, v.ID, records.Waiting); err != nil {
		return err
	}
	request, err := statement.ParseID(v.Request)
	if err != nil {
		return err
	}
	r, err := d.server.Get(ctx, request)
	if err != nil {
		return err
	}
	for _, who := range []string{"bob", "dave"} {
		if _, err := d.endorse(ctx, r.Envelope, who, statement.Endorse); err != nil {
			return err
		}
	}
	if v, err = d.jobIs(ctx, v.ID, records.Done); err != nil {
		return err
	}
	var signed bytes.Buffer
	if err := e.workshop.Jobs.SignedSet(ctx, v.ID, &signed); err != nil {
		return err
	}
	path := d.path(strings.ReplaceAll(name, " ", "-") + ".xml")
	if err := file.WriteFile(path, signed.Bytes(), 0o644); err != nil {
		return err
	}
	d.result.Records.Sets = append(d.result.Records.Sets, path)
	d.say("   signed    %s, %d bytes: the clerk asked for job %s, bob and dave endorsed, the keeper signed", filepath.Base(path), signed.Len(), v.ID[:12])
	s, err := e.plant.Guard.Load(ctx, rand.Reader, demoApp, signed.Bytes(), "ann")
	if err != nil {
		return err
	}
	if s, err = e.plant.Guard.Preview(ctx, s.ID); err != nil {
		return err
	}
	if open := s.Preview.Open(); len(open) > 0 {
		return fmt.Errorf("the preview of %s leaves %d updates open: %+v %+v", name, len(open), s.Preview.Findings, s.Preview.Problems)
	}
	if _, err := e.plant.Guard.Commit(ctx, s.ID); err != nil {
		return err
	}
	d.say("   imported  at the plant by ann: loaded, previewed without a problem, committed")
	return nil
}

// jobIs waits until a security job is in a state.
func (d *demo) jobIs(ctx context.Context, id string, want records.State) (v *records.View, err error) {
	err = until(ctx, "security job "+id[:12]+" is "+string(want), func() (bool, error) {
		v, err = d.estate.workshop.Jobs.Get(ctx, id)
		if err == nil && v.State.Final() && v.State != want {
			err = fmt.Errorf("security job %s is %s: %s", id[:12], v.State, v.Error)
		}
		return err == nil && v.State == want, err
	})
	return v, err
}

// submit asks the plant to have its agent run the data source, and waits.
func (d *demo) submit(ctx context.Context) (*store.QueueRecord, error) {
	q := d.estate.plant.Queue
	ids, err := q.Submit(ctx, ecc.Job{Agent: demoAgentName, Topic: demoTopic, Name: "open orders", Source: "ann", Priority: order.Interactive,
		Records: []ecc.Ask{{Ref: d.ref(), Purpose: record.Queue}}, Params: map[string]string{"minimum": demoMinimum}})
	if err != nil {
		return nil, err
	}
	var r *store.QueueRecord
	err = until(ctx, "job "+ids[0][:12]+" has ended", func() (bool, error) {
		r, err = q.Job(ctx, ids[0])
		return err == nil && (r.State == store.QueueProcessed || r.State == store.QueueError), err
	})
	return r, err
}

// runSource has the data source run, and prints the rows.
func (d *demo) runSource(ctx context.Context) error {
	r, err := d.submit(ctx)
	if err != nil {
		return err
	}
	if r.State != store.QueueProcessed {
		return fmt.Errorf("job %s is %s: %s", r.ID[:12], r.State, r.ErrorString)
	}
	pages, err := d.estate.plant.Queue.Results(ctx, r.ID, 0, 10)
	if err != nil {
		return err
	}
	var rows [][]any
	var head []any
	for _, p := range pages {
		var x struct {
			Columns []struct {
				Name string `json:"name"`
				Type string `json:"type"`
			} `json:"columns"`
			Rows [][]any `json:"rows"`
		}
		if err := json.Unmarshal(p.Payload, &x); err != nil {
			return fmt.Errorf("page of job %s: %w", r.ID[:12], err)
		}
		head = nil
		for _, c := range x.Columns {
			head = append(head, c.Name)
		}
		rows = append(rows, x.Rows...)
	}
	d.result.Records.Jobs, d.result.Records.Rows = append(d.result.Records.Jobs, r.ID), rows
	d.say("   job       %s with minimum = %s: the agent verified order and record itself and ran the SQL; %d rows came back", r.ID[:12], demoMinimum, len(rows))
	for _, row := range append([][]any{head}, rows...) {
		line := ""
		for _, v := range row {
			line += fmt.Sprintf(" %-10v", v)
		}
		d.say("            %s", strings.TrimRight(line, " "))
	}
	return nil
}

// The two versions of the statement.
const (
	demoFirst  = "SELECT id, customer, total FROM orders WHERE total >= :minimum ORDER BY id"
	demoSecond = "SELECT id, customer, total FROM orders WHERE total >= :minimum AND paid = 0 ORDER BY id"
)

// source signs, moves and runs the first version.
func (d *demo) source(ctx context.Context) error {
	if err := d.move(ctx, "release 1", demoFirst); err != nil {
		return err
	}
	if err := d.runSource(ctx); err != nil {
		return err
	}
	if n := len(d.result.Records.Rows); n != 3 {
		return fmt.Errorf("%d rows: want 3", n)
	}
	return nil
}
