package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/postgres"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
	grecord "github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// RecordsOptions say how many records are signed.
type RecordsOptions struct {
	Records  int    // default 1 000 000
	Temp     string // folder for everything; default the system's
	Progress Progress
}

// RecordsReport compares signing every record of a table with the least that any
// program could do: read the same columns of the same rows and write a row for each.
type RecordsReport struct {
	Records int     `json:"records"`
	Sign    float64 `json:"sign_s"`  // from the job's start to readable signatures
	Floor   float64 `json:"floor_s"` // the mean of one run before and one after
	Ratio   float64 `json:"ratio"`
	PeakRSS int64   `json:"peak_rss_bytes"` // of this process, server and keeper in it
	Cached  float64 `json:"verify_cached_us"`
	Cold    float64 `json:"verify_cold_us"`

	Prepare   float64   `json:"prepare_s"` // of Sign, until the plan is handed in
	Statement int       `json:"statement_bytes"`
	Machine   Machine   `json:"machine"`
	Date      time.Time `json:"date"`
}

// The table of the measurement, and what of it is signed.
var signedColumns = []string{"connection_url", "database_name", "database_port", "format", "jdbc_server", "last_run_database_field", "properties", "query_mode", "sql_statement", "table_name"}

const recordsTable = "sys_data_source"

func recordsConfiguration() map[string]grecord.Configuration {
	return map[string]grecord.Configuration{"data-sources": {Version: 1, Table: recordsTable, Purpose: grecord.Queue, Fields: signedColumns}}
}

const fillTable = `CREATE TABLE sys_data_source (sys_id char(32) PRIMARY KEY, name text, sql_statement text, query_mode text, table_name text, jdbc_server text,
	database_name text, database_port integer, connection_url text, properties text, format text, last_run_database_field text, last_run_datetime timestamp, active boolean);
	INSERT INTO sys_data_source SELECT md5(i::text), 'source ' || i, 'SELECT id, name, amount FROM orders_' || i || ' WHERE region = ''' || (i %% 97) || ''' AND amount > ' || i || repeat(' OR total > 0', i %% 9),
	'specific', 'orders_' || i, 'db' || (i %% 31) || '.example.com', 'erp', 5432, 'jdbc:postgresql://db' || (i %% 31) || '.example.com/erp', NULL, 'jdbc', 'updated_on', now(), true
	FROM generate_series(1, %d) AS i; ANALYZE sys_data_source`

// Records signs every record of a table in a temporary PostgreSQL, by a quorum.
func Records(ctx context.Context, o RecordsOptions) (rep *RecordsReport, err error) {
	if o.Records == 0 {
		o.Records = 1_000_000
	}
	if o.Records < 1 {
		return nil, fmt.Errorf("bench: %d records", o.Records)
	}
	dir, err := os.MkdirTemp(o.Temp, "gsbench")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.Progress.say("starting a temporary PostgreSQL")
	pg, err := pgtemp.Start()
	if err != nil {
		return nil, &MissingError{What: "PostgreSQL", Hint: "apt-get install postgresql", Err: err}
	}
	defer func() { err = errors.Join(err, pg.Close()) }()
	app, err := pg.Database()
	if err != nil {
		return nil, err
	}
	own, err := pg.Database()
	if err != nil {
		return nil, err
	}
	o.Progress.say("making %d records", o.Records)
	if _, err := pg.SQL(app, fmt.Sprintf(fillTable, o.Records)); err != nil {
		return nil, err
	}
	o.Progress.say("founding a deployment")
	d, err := softDeployment(ctx, dir, own, []sigalg.Key{sigalg.P256})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	ca, err := certify(ctx, d)
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, app, platform.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Prepare(ctx); err != nil {
		return nil, err
	}
	rep = &RecordsReport{Records: o.Records, Machine: machine(), Date: statement.Seconds(time.Now())}
	if rep.Statement, err = statementSize(ctx, db); err != nil {
		return nil, err
	}
	var floors []float64
	floor := func() error {
		if _, err := pg.SQL(app, "CHECKPOINT"); err != nil {
			return err
		}
		s, err := recordsFloor(ctx, app, rep.Statement, o.Records)
		if err != nil {
			return err
		}
		o.Progress.say("  reading and writing with plain SQL: %.2f s", s)
		floors = append(floors, s)
		return nil
	}
	if err := floor(); err != nil {
		return nil, err
	}
	if _, err := pg.SQL(app, "CHECKPOINT"); err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	if err := forgetPeak(); err != nil {
		return nil, err
	}
	if err := o.sign(ctx, d, db, rep); err != nil {
		return nil, err
	}
	if rep.PeakRSS, err = ownPeak(); err != nil {
		return nil, err
	}
	o.Progress.say("  signing: %.2f s", rep.Sign)
	if err := floor(); err != nil {
		return nil, err
	}
	rep.Floor = round((floors[0]+floors[1])/2, 3)
	rep.Ratio = round(rep.Sign/rep.Floor, 3)
	return rep, recordsVerify(ctx, ca, db, rep)
}

// certify gives the key that signs a certificate of an authority of this run, whose
// key is of the same kind, P-256, and returns the authority's certificate. (The
// trial's own is P-384: verifying a chain to it costs ten times as much as all the
// rest.)
func certify(ctx context.Context, d *deployment) ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, k.Public(), k)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	st, err := d.server.Key(ctx, "release")
	if err != nil {
		return nil, err
	}
	pub, err := x509.ParsePKIXPublicKey(st.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	subject, err := x509.ParseCertificate(st.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), RawSubject: subject.RawSubject, NotBefore: now.Add(-time.Hour),
		NotAfter: now.AddDate(0, 6, 0), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, ca, pub, k)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	imp := statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: "release", Chain: [][]byte{leaf, der}}}
	_, err = d.trial.Do(ctx, d.server, d.trial.Ref(), requester, imp, nil, "carol")
	return der, err
}

// forgetPeak lets VmHWM begin anew: founding a deployment takes memory of its own to
// derive the key of its keystore.
func forgetPeak() error {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func statementSize(ctx context.Context, db platform.Platform) (int, error) {
	c := recordsConfiguration()["data-sources"]
	size := 0
	err := db.Scan(ctx, platform.Query{Table: recordsTable, Fields: c.Fields, Limit: 1}, func(r *platform.Row) error {
		st, err := grecord.NewStatement("data-sources", &c, &r.Record, grecord.StatementOptions{Issuer: "trusted", Revision: 1})
		if err != nil {
			return err
		}
		b, err := st.Encode()
		size = len(b)
		return err
	})
	return size, err
}

// recordsFloor reads the signed columns of every row in the order of the key and
// writes a row for each into a table like that of the signatures, with its indexes:
// one statement each way, both at once.
func recordsFloor(ctx context.Context, dsn string, size, rows int) (float64, error) {
	from, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer from.Close(ctx)
	to, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer to.Close(ctx)
	if _, err := to.Exec(ctx, "DROP TABLE IF EXISTS floor; CREATE TABLE floor (LIKE greatseal.greatseal_signature INCLUDING ALL)"); err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	start := time.Now()
	rs, err := from.Query(ctx, "SELECT sys_id, "+strings.Join(signedColumns, ", ")+" FROM sys_data_source ORDER BY sys_id")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer rs.Close()
	src := &floorRows{rows: rs, statement: make([]byte, size)}
	if _, err := rand.Read(src.statement); err != nil { // as little compressible as digests are
		return 0, err
	}
	n, err := to.CopyFrom(ctx, pgx.Identifier{"floor"}, floorColumns, src)
	if err == nil {
		err = rs.Err()
	}
	if err == nil && n != int64(rows) {
		err = fmt.Errorf("%d rows were written", n)
	}
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("bench: plain SQL: %w", err)
	}
	_, err = to.Exec(ctx, "DROP TABLE floor")
	return took.Seconds(), err
}

// floorRows hands read rows on to COPY.
type floorRows struct {
	rows      pgx.Rows
	n         int64
	statement []byte
}

func (f *floorRows) Next() bool {
	f.n++
	return f.rows.Next()
}

// floorColumns are those of the signatures' table; "record" is what a record is found
// under.
var floorColumns = []string{"root", "idx", "revision", "record", "statement"}

// Values hands on one row: the columns that were read become no part of it, but they
// are taken out of the driver, as any program would.
func (f *floorRows) Values() ([]any, error) {
	read := make([]string, 1+len(signedColumns))
	for i, v := range f.rows.RawValues() {
		read[i] = string(v)
	}
	return []any{int64(1), f.n, int64(1), []byte(recordsTable + "\x00\x00" + read[0]), f.statement}, nil
}

func (f *floorRows) Err() error { return f.rows.Err() }

// desk asks in Alice's name, and has Bob, Carol and the scanner endorse at once.
type desk struct {
	records.Office
	d *deployment
}

func (k *desk) Submit(ctx context.Context, a records.Ask) (statement.ID, error) {
	id, err := k.Office.Submit(ctx, a)
	if err != nil {
		return id, err
	}
	r, err := k.d.server.Get(ctx, id)
	if err != nil {
		return id, err
	}
	_, req, err := statement.DecodeEnveloped[statement.Request](r.Envelope)
	if err != nil {
		return id, err
	}
	for _, who := range append(append([]string{}, before...), last) {
		b, err := k.d.trial.People[who].Endorsement(ctx, &req, id, statement.Endorse, "", 0, nil)
		if err != nil {
			return id, err
		}
		if _, err := k.d.server.Endorse(ctx, b); err != nil {
			return id, fmt.Errorf("bench: %s: %w", who, err)
		}
	}
	return id, nil
}

// sign runs one security job over the table.
func (o *RecordsOptions) sign(ctx context.Context, d *deployment, db platform.Platform, rep *RecordsReport) error {
	st, ok := d.store.(records.Store)
	if !ok {
		return errors.New("bench: the store keeps no security jobs")
	}
	jobs, err := records.NewJobs(records.Config{
		Instance: &records.Instance{Name: "trusted", Role: records.Trusted}, Store: st, Platforms: map[string]platform.Platform{"app": db},
		Configurations: recordsConfiguration, Signer: &desk{records.Office{Server: d.server, Author: d.trial.People[requester]}, d},
		Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	o.Progress.say("signing")
	start := time.Now()
	v, err := jobs.Create(ctx, &records.Spec{Kind: records.SignRecords, Name: "every data source", Platform: "app", Policy: "release", Configurations: []string{"data-sources"}}, requester)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); jobs.Run(run) }() // ends with run
	defer func() { stop(); <-ended }()
	told := time.Now()
	for !v.State.Final() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if v, err = jobs.Get(ctx, v.ID); err != nil {
			return err
		}
		if rep.Prepare == 0 && v.State != records.New && v.State != records.Preparing {
			rep.Prepare = round(time.Since(start).Seconds(), 3)
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			o.Progress.say("  %s: %d of %d records, %.0f a second, %.0f s left", v.State, v.Count, v.Total, v.Rate, v.Left)
		}
	}
	rep.Sign = round(time.Since(start).Seconds(), 3)
	if v.State != records.Done || v.Count != int64(rep.Records) {
		return fmt.Errorf("bench: the job is %s with %d records: %s", v.State, v.Count, v.Error)
	}
	return nil
}

// recordsVerify measures the verification of one record, as an agent does it.
func recordsVerify(ctx context.Context, ca []byte, db platform.Platform, rep *RecordsReport) error {
	trust := &grecord.Trust{Instance: "protected", Issuers: []string{"trusted"}, Configurations: recordsConfiguration(), Now: time.Now(),
		Anchors: []grecord.Anchor{{Name: "trial", Certificate: ca, Purposes: []string{grecord.Queue}}}}
	var row *platform.Row
	if err := db.Scan(ctx, platform.Query{Table: recordsTable, Fields: signedColumns, Signatures: true, Limit: 1}, func(r *platform.Row) error { row = r; return nil }); err != nil {
		return err
	}
	if row == nil {
		return errors.New("bench: there is no record")
	}
	verify := func(v *grecord.Verifier) error {
		_, err := v.Verify(ctx, &row.Record, grecord.Queue, row.Signatures, noMarks{})
		return err
	}
	warm, err := grecord.NewVerifier(trust, grecord.NewRoots(0))
	if err != nil {
		return err
	}
	if err := verify(warm); err != nil {
		return err
	}
	const many, some = 20_000, 500
	cpu, err := spent(func() error {
		for range many {
			if err := verify(warm); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	rep.Cached = round(float64(cpu.Nanoseconds())/many/1000, 2)
	cold := make([]*grecord.Verifier, some)
	for i := range cold { // each with a cache of its own: nothing is known of the root
		if cold[i], err = grecord.NewVerifier(trust, grecord.NewRoots(0)); err != nil {
			return err
		}
	}
	cpu, err = spent(func() error {
		for _, v := range cold {
			if err := verify(v); err != nil {
				return err
			}
		}
		return nil
	})
	rep.Cold = round(float64(cpu.Nanoseconds())/some/1000, 2)
	return err
}

// spent is the processor time that f takes, everything in this process counted.
func spent(f func() error) (time.Duration, error) {
	a, err := processTime()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	b, err := processTime()
	return b - a, err
}

// noMarks remembers nothing: what a database of marks costs is not the verifier's.
type noMarks struct{}

func (noMarks) Highest(context.Context, grecord.Ref) (uint64, error) { return 0, nil }
func (noMarks) Raise(context.Context, grecord.Ref, uint64) error     { return nil }
