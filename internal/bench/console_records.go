package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/order"
	grecord "github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

// What a town's instances have to show.
const (
	townEnrolments = 30
	townJobs       = 100
	townSkipped    = 20_000 // records that one job left out
	townSets       = 100
	townUpdates    = 1_000 // of a set
	townRecords    = 1_000

	townWorkshop = "workshop" // the trusted instance
	townProd     = "prod"     // the protected one
	townPlatform = "erp"
	townTopic    = "JDBCProbe"
)

// business is how many there are of what grows with a town.
type business struct{ Agents, Orders, Rejections, Findings int }

// businessOf is of 1 000 agents and 10 000 orders with 100 000 requests.
func businessOf(requests int) business {
	n := min(max(requests/10, 400), 10_000)
	return business{Agents: n / 10, Orders: n, Rejections: n, Findings: n}
}

func townRef(i int) grecord.Ref {
	return grecord.Ref{Table: recordsTable, Key: []string{fmt.Sprintf("%032x", i)}}
}

func townAgent(i int) string { return fmt.Sprintf("agent-%04d", i) }

// premises are the two instances of a town over one database: what either shows is
// there, and more than either would have.
type premises struct {
	trusted, protected *instance.Instance
}

func (p *premises) close() error {
	var errs []error
	for _, i := range []*instance.Instance{p.trusted, p.protected} {
		if i != nil {
			errs = append(errs, i.Close())
		}
	}
	return errors.Join(errs...)
}

// townBelief is what both believe: nobody has come with a circle of trust's statements,
// whose judging is no page's work.
type townBelief struct{ authority []byte }

func (b townBelief) at(now time.Time) (records.Belief, error) { return believed{b, now}, nil }

type believed struct {
	townBelief
	now time.Time
}

func (b believed) Enforcement(string) trust.Enforcement { return trust.On }

func (b believed) Records(name string) *grecord.Trust {
	return &grecord.Trust{Instance: name, Issuers: []string{townWorkshop}, Configurations: recordsConfiguration(), Now: b.now,
		Anchors: []grecord.Anchor{{Name: "authority", Certificate: b.authority, Purposes: []string{grecord.Queue}}}}
}

// openPremises opens the instances as a server does, with a platform in dir.
func openPremises(ctx context.Context, t *town, st *store.SQL, s *server.Server, dir string) (p *premises, err error) {
	p = &premises{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	app, key := filepath.Join(dir, "app.db"), filepath.Join(dir, "machine.key")
	if err := application(ctx, app); err != nil {
		return p, err
	}
	_, priv, err := ed25519.GenerateKey(crand.Reader)
	if err != nil {
		return p, fmt.Errorf("bench: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return p, fmt.Errorf("bench: %w", err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		return p, fmt.Errorf("bench: %w", err)
	}
	platforms := map[string]config.Platform{townPlatform: {Database: "sqlite:" + app}}
	log := slog.New(slog.DiscardHandler)
	p.trusted, err = instance.Open(ctx, instance.Config{Store: st, Server: s, Root: t.Root, Clock: time.Now, Logger: log, Config: &config.Instance{
		Name: townWorkshop, Role: string(records.Trusted), State: filepath.Join(dir, "trusted.state"), Platforms: platforms, Machine: &config.Machine{Name: "ci", Key: key}}})
	if err != nil {
		return p, err
	}
	authority, err := x509.ParsePKCS8PrivateKey(t.Authority)
	if err != nil {
		return p, fmt.Errorf("bench: %w", err)
	}
	signer, ok := authority.(crypto.Signer)
	if !ok {
		return p, errors.New("bench: the agents' authority has no key")
	}
	p.protected, err = instance.Open(ctx, instance.Config{Store: st, Clock: time.Now, Logger: log,
		Keys: func(context.Context, *config.Agents) (*ecc.Keys, func() error, error) {
			return &ecc.Keys{Runtime: priv, Authority: signer}, func() error { return nil }, nil
		}, Config: &config.Instance{Name: townProd, Role: string(records.Protected), State: filepath.Join(dir, "protected.state"), Platforms: platforms,
			Sides: []config.Side{{Root: t.Root}}, Agents: &config.Agents{}}})
	if err != nil {
		return p, err
	}
	b := townBelief{t.Anchor}
	p.trusted.Part.Believe, p.protected.Part.Believe = b.at, b.at
	return p, nil
}

// application is a database with records in it.
func application(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	q := []string{"BEGIN", "CREATE TABLE IF NOT EXISTS " + recordsTable + " (sys_id varchar(32) NOT NULL PRIMARY KEY, name text, " + strings.Join(signedColumns, " text, ") + " text)", "DELETE FROM " + recordsTable}
	for i := range townRecords {
		q = append(q, fmt.Sprintf("INSERT INTO %s (sys_id, name, sql_statement, query_mode, jdbc_server) VALUES ('%s', 'source %d', 'SELECT * FROM orders_%d', 'specific', 'db.example.com')", recordsTable, townRef(i).Key[0], i, i))
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for _, x := range append(q, "COMMIT") {
		if _, err := c.ExecContext(ctx, x); err != nil {
			return fmt.Errorf("bench: application: %w", err)
		}
	}
	return nil
}

// authorities are the key of the agents' authority, and the certificate of the records'.
func (f *founder) authorities() error {
	k, err1 := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	anchor, err2 := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Town records"}, NotBefore: f.now.AddDate(-2, 0, 0), NotAfter: f.now.AddDate(8, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var err3 error
	f.Authority, err1 = x509.MarshalPKCS8PrivateKey(k)
	f.Anchor, err3 = x509.CreateCertificate(crand.Reader, t, t, anchor.Public(), anchor)
	if err := errors.Join(err1, err3); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// operate has a year of records behind it: agents, orders in every state, what was
// refused, jobs, sets.
func operate(ctx context.Context, t *town, st *store.SQL, p *premises, now time.Time, say Progress) error {
	now = statement.Seconds(now)
	t.Business = businessOf(t.Requests)
	b := &t.Business
	t.Samples.Middle = b.Orders / 2
	say.say("%d agents", b.Agents)
	if err := agentsOf(ctx, st, b, now); err != nil {
		return err
	}
	say.say("%d orders, %d rejections", b.Orders, b.Rejections)
	if err := orders(ctx, t, st, p.protected.Queue, now); err != nil {
		return err
	}
	say.say("%d findings, %d jobs, %d sets", b.Findings, townJobs, townSets)
	var fs []store.Finding
	for i := range b.Findings {
		ref := townRef(i % townRecords)
		fs = append(fs, store.Finding{At: now.Add(-time.Duration(b.Findings-i) * time.Minute), Source: []string{"watch", "import"}[i%2], Table: ref.Table, Ref: []byte(ref.ID()),
			Code: string(refusals[i%len(refusals)]), Subject: "sql_statement", Detail: "the record is not what was signed"})
	}
	for len(fs) > 0 {
		n := min(1000, len(fs))
		if err := st.AddFindings(ctx, fs[:n]...); err != nil {
			return err
		}
		fs = fs[n:]
	}
	return errors.Join(jobs(ctx, t, st, now), sets(ctx, t, st, now))
}

var refusals = []rejection.Code{rejection.RecordMismatch, rejection.SigInvalid, rejection.TrustStoreStale, rejection.NotProtected}

func agentsOf(ctx context.Context, st *store.SQL, b *business, now time.Time) error {
	beats := make([]store.AgentBeat, 0, b.Agents)
	for i := range b.Agents {
		name := townAgent(i)
		a := &store.Agent{Name: name, Key: sha256.Sum256([]byte(name)), Certificate: []byte{0x30, 0}, NotAfter: now.Add(time.Duration(5+i%60) * 24 * time.Hour), Version: "1.4.2", OS: "linux", Arch: "amd64",
			Topics: []string{townTopic, "Command"}, Created: now.AddDate(0, -6, 0), Validated: now.AddDate(0, -6, 0), Validator: townPeople[0]}
		if err := st.PutAgent(ctx, a); err != nil {
			return err
		}
		at := now
		if i%25 == 0 { // has not been heard of today
			at = now.Add(-12 * time.Hour)
		}
		beats = append(beats, store.AgentBeat{Name: name, Version: "1.4.2", Running: int64(i % 4), Spooled: int64(max(0, i%50-45)), Draining: i%200 == 3, Circle: "sha256:00", TrustUntil: now.Add(time.Hour), At: at})
	}
	if err := st.Beat(ctx, beats); err != nil {
		return err
	}
	for i := 0; i < b.Agents; i += 40 {
		if err := st.InvalidateAgent(ctx, townAgent(i), "the machine was sold", now); err != nil {
			return err
		}
	}
	for i := range townEnrolments {
		name := fmt.Sprintf("new-%02d", i)
		e := &store.AgentEnrolment{Key: sha256.Sum256([]byte(name)), Name: name, Request: []byte{0x30, 0}, Version: "1.4.2", OS: "linux", Arch: "arm64", Topics: []string{townTopic}, Address: "192.0.2.7", Created: now}
		if _, err := st.Enrol(ctx, e, townEnrolments, townEnrolments); err != nil {
			return err
		}
	}
	return nil
}

// orders has six of ten processed, one in error, one at work, and the rest ready.
func orders(ctx context.Context, t *town, st *store.SQL, q *ecc.Service, now time.Time) error {
	var list []ecc.Job
	for i := range t.Business.Orders {
		n := i % t.Business.Agents
		if n%40 == 0 { // is gone
			n++
		}
		list = append(list, ecc.Job{Agent: townAgent(n), Topic: townTopic, Name: fmt.Sprintf("load orders %d", i), Source: "nightly", Priority: order.Standard, Repeatable: true,
			Records: []ecc.Ask{{Ref: townRef(i % townRecords), Purpose: grecord.Queue}}, Params: map[string]string{"since": "yesterday", "limit": "1000"}})
	}
	if _, err := q.Submit(ctx, list...); err != nil {
		return err
	}
	var asks []store.QueueAsk
	for i := range t.Business.Agents {
		if i%40 != 0 {
			asks = append(asks, store.QueueAsk{Agent: townAgent(i), Topics: []string{townTopic}, Max: 8, Token: fmt.Sprintf("%032x", i+1), Now: now, Until: now.Add(24 * time.Hour)})
		}
	}
	got, err := st.LeaseWork(ctx, asks)
	if err != nil {
		return err
	}
	var leases []store.QueueLease
	for _, l := range got {
		for _, r := range l {
			leases = append(leases, store.QueueLease{Job: r.ID, Agent: r.Agent, Attempt: r.Attempt, Token: r.Token})
		}
	}
	if len(leases) < t.Business.Orders/2 {
		return fmt.Errorf("bench: %d orders were taken", len(leases))
	}
	each := func(errs []error, err error) error { return errors.Join(append(errs, err)...) }
	if err := each(st.StartWork(ctx, leases, now, now.Add(24*time.Hour))); err != nil {
		return err
	}
	var ends []store.QueueFinish
	for i, l := range leases {
		if i%8 == 0 {
			continue
		}
		e := store.QueueFinish{QueueLease: l, Now: now}
		if i%8 == 1 {
			e.Error = "the database does not answer"
		}
		ends = append(ends, e)
	}
	if err := each(st.FinishWork(ctx, ends)); err != nil {
		return err
	}
	t.Samples.Agent, t.Samples.Order = leases[0].Agent, leases[0].Job
	return refuse(ctx, t, st, leases, now)
}

// refuse has agents refuse what they had, long ago and now.
func refuse(ctx context.Context, t *town, st *store.SQL, leases []store.QueueLease, now time.Time) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range t.Business.Rejections {
		l := leases[i*7%len(leases)]
		refs, err := json.Marshal([]grecord.Ref{townRef(i % townRecords), townRef((i + 1) % townRecords)})
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		r := &store.AgentRejection{ID: fmt.Sprintf("%032x", i+1), Time: now.Add(-time.Duration(t.Business.Rejections-i) * time.Minute), Agent: l.Agent, Job: l.Job, Attempt: l.Attempt, Topic: townTopic,
			Code: string(refusals[i%len(refusals)]), Subject: "sql_statement", Detail: "the record is not what was signed", Records: refs}
		g.Go(func() error {
			_, err := st.RejectWork(gctx, l, r, nil, nil)
			return err
		})
	}
	t.Samples.Rejection = fmt.Sprintf("%032x", t.Business.Rejections)
	return g.Wait()
}

// jobs are security jobs in every state; the newest has left out many records.
func jobs(ctx context.Context, t *town, st *store.SQL, now time.Time) error {
	states := []records.State{records.Done, records.Done, records.Failed, records.Cancelled, records.Waiting}
	for i := range townJobs {
		spec := records.Spec{Kind: records.SignRecords, Name: fmt.Sprintf("data sources of week %d", i), Platform: townPlatform, Policy: t.Samples.Policy, Configurations: []string{"data-sources"}, Reason: "the weekly change"}
		b, err := json.Marshal(spec)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		at := now.Add(-time.Duration(townJobs-i) * 24 * time.Hour)
		j := &store.SecurityJob{ID: fmt.Sprintf("%032x", i+1), Kind: string(spec.Kind), Name: spec.Name, State: string(records.New), Platform: spec.Platform, Requester: townPeople[4], Spec: b, Total: -1, Created: at, Updated: at}
		// Nothing works on it: it is only looked at.
		if err := st.PutSecurityJob(ctx, j, now.AddDate(100, 0, 0)); err != nil {
			return err
		}
		j.State, j.Count, j.Total, j.Busy, j.Started, j.Request = string(states[i%len(states)]), 200_000, 250_000, 40*time.Second, at, t.Samples.Executed
		if i%len(states) == 2 {
			j.Error = "the database does not answer"
		}
		if records.State(j.State).Final() {
			j.Finished = at.Add(time.Hour)
		}
		var chunks []store.SecurityChunk
		if i == townJobs-1 {
			for n := 0; n < townSkipped; n += townSkipped / 10 {
				var es []records.Entry
				for k := range townSkipped / 10 {
					es = append(es, records.Entry{Ref: townRef(n + k), Configuration: "data-sources", Reason: "it does not meet the condition"})
				}
				data, err := json.Marshal(es)
				if err != nil {
					return fmt.Errorf("bench: %w", err)
				}
				chunks = append(chunks, store.SecurityChunk{First: int64(n), Count: int64(len(es)), Data: data})
			}
		}
		if err := st.StepSecurityJob(ctx, j, store.KeepChunks, chunks...); err != nil {
			return err
		}
		t.Samples.Job = j.ID
	}
	return nil
}

func sets(ctx context.Context, t *town, st *store.SQL, now time.Time) error {
	for i := range townSets {
		p := &records.Preview{Counts: map[updateset.Status]int{}, Findings: []updateset.Finding{}, Problems: []updateset.Problem{}, At: now}
		for k := range townUpdates {
			s := updateset.Valid
			var why *rejection.Error
			if k%10 == 0 {
				s, why = updateset.Invalid, rejection.New(rejection.SigInvalid, "sql_statement", "the record is not what was signed")
			}
			p.Counts[s]++
			p.Findings = append(p.Findings, updateset.Finding{Index: k, Update: fmt.Sprintf("%s_%032x", recordsTable, k), Table: recordsTable, SysID: townRef(k).Key[0], Action: updateset.Upsert, Status: s, Reason: why, Configuration: "data-sources"})
		}
		b, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		at := now.Add(-time.Duration(townSets-i) * time.Hour)
		r := &store.RetrievedSet{ID: fmt.Sprintf("%032x", i+1), Name: fmt.Sprintf("Release %d", i), State: records.Previewed, Platform: townPlatform, Who: townPeople[5], Data: []byte("<unload/>"), Preview: b, Created: at, Updated: at}
		if err := st.PutSet(ctx, r); err != nil {
			return err
		}
		t.Samples.Set = r.ID
	}
	return nil
}
