// Package recordtest signs records in memory for tests, through format/records as
// everybody does. Its keys are made anew in every run and protect nothing.
package recordtest

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/records"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Trusted and Protected are the names of the two instances.
const (
	Trusted   = "trusted"
	Protected = "protected"
)

// At is the time at which tests sign and verify.
var At = formattest.At

// Job is the ID of the job under which Signing signs when nobody says another one.
const Job = "00112233445566778899aabbccddeeff"

// NewSigner makes a key with a certificate for code signing under an authority of
// its own; change may make something else of the certificate.
func NewSigner(tb testing.TB, kind sigalg.Key, change ...func(*x509.Certificate)) *formattest.Signer {
	tb.Helper()
	return formattest.Identity(tb, kind, change...)
}

// ID and Configuration are those of a data source: see DataSource.
const ID = "data-sources"

// Configuration is one of JDBC data sources, for the queue.
func Configuration() record.Configuration {
	return record.Configuration{
		Version: 3, Table: "sys_data_source", Purpose: record.Queue, Condition: `type == "JDBC"`, Attachments: true,
		Fields: []string{
			"connection_url", "database_name", "database_port", "format", "jdbc_server", "last_run_database_field", "name",
			"properties", "query", "sql_statement", "table_name", "type",
		},
		Parameters: []string{"since"},
	}
}

// Configurations holds Configuration under ID.
func Configurations() map[string]record.Configuration {
	return map[string]record.Configuration{ID: Configuration()}
}

// DataSource is a record that Configuration signs. Its field last_run_datetime is
// not signed.
func DataSource() *record.Record {
	return &record.Record{
		Ref: record.Ref{Table: "sys_data_source", Key: []string{"9c573169c611228700193229fff72400"}},
		Fields: map[string]string{
			"name": "Orders", "type": "JDBC", "jdbc_server": "db.example.com", "database_port": "5432", "database_name": "shop",
			"query": "sql", "sql_statement": "SELECT id, total FROM orders WHERE created > $1", "last_run_datetime": "2026-05-31 23:00:00",
		},
		Attachments: []record.Attachment{
			{Name: "mapping.json", Type: "application/json", Size: 17, SHA256: [32]byte{1}},
			{Name: "readme.txt", Type: "text/plain", Size: 4, SHA256: [32]byte{2}},
		},
	}
}

// Script is a script include, which is signed with the wild card purpose under the
// predefined configuration "script-includes".
func Script() *record.Record {
	return &record.Record{
		Ref:    record.Ref{Table: "sys_script_include", Key: []string{"1be9c0d7c0a80164001ae1d9d4b4d2b5"}},
		Fields: map[string]string{"name": "Helper", "api_name": "global.Helper", "active": "true", "script": "var Helper = 1;"},
	}
}

// Copy is a deep copy of r.
func Copy(r *record.Record) *record.Record {
	c := *r
	c.Ref.Key = append([]string(nil), r.Ref.Key...)
	c.Fields = maps.Clone(r.Fields)
	c.Attachments = append([]record.Attachment(nil), r.Attachments...)
	return &c
}

// Anchor believes the authority of a signer; purposes: none given is Queue and the
// wild card.
func Anchor(s *formattest.Signer, purposes ...string) record.Anchor {
	if len(purposes) == 0 {
		purposes = []string{record.Wildcard, record.Queue}
	}
	return record.Anchor{Name: "test authority", Certificate: s.Root.Root.Raw, Purposes: purposes}
}

// Trust is what Protected believes: the signers' authorities, their timestamps, and
// the data sources' configuration.
func Trust(signers ...*formattest.Signer) *record.Trust {
	t := &record.Trust{Instance: Protected, Issuers: []string{Trusted}, Configurations: Configurations(), Now: At.Add(time.Hour)}
	for _, s := range signers {
		t.Anchors = append(t.Anchors, Anchor(s))
		t.TimestampRoots = append(t.TimestampRoots, s.Root.Root)
	}
	return t
}

// Verifier is a verifier with a trust.
func Verifier(tb testing.TB, t *record.Trust) *record.Verifier {
	tb.Helper()
	v, err := record.NewVerifier(t, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// Signing says how records are signed. Its zero values are those of the comments.
type Signing struct {
	Signer        *formattest.Signer // must be given
	ID            string             // of the configuration; recordtest.ID
	Configuration record.Configuration
	Issuer        string    // Trusted
	Audience      []string  // everybody
	Revision      uint64    // 1
	Deleted       bool      // the records are to be deleted
	At            time.Time // of signing; recordtest.At
	NotBefore     int64
	Expires       int64
	Stamped       time.Time // a timestamp of that time by the signer's authority; zero: none
	Job           string    // recordtest.Job

	// Change may make something else of each statement, as a hostile signer does.
	Change func(*record.Statement)
}

func (g Signing) defaults() Signing {
	if g.ID == "" {
		g.ID = ID
	}
	if g.Configuration.Table == "" {
		if p, ok := record.Predefined()[g.ID]; ok {
			g.Configuration = p
		} else {
			g.Configuration = Configuration()
		}
	}
	if g.Issuer == "" {
		g.Issuer = Trusted
	}
	if g.Revision == 0 {
		g.Revision = 1
	}
	if g.At.IsZero() {
		g.At = At
	}
	if g.Job == "" {
		g.Job = Job
	}
	return g
}

// Statement is what Sign says of a record.
func (g Signing) Statement(tb testing.TB, r *record.Record) *record.Statement {
	tb.Helper()
	g = g.defaults()
	s, err := record.NewStatement(g.ID, &g.Configuration, r, record.StatementOptions{
		Issuer: g.Issuer, Audience: g.Audience, Revision: g.Revision, Deleted: g.Deleted, NotBefore: g.NotBefore, Expires: g.Expires,
	})
	if err != nil {
		tb.Fatal(err)
	}
	if g.Change != nil {
		g.Change(s)
	}
	return s
}

// Sign signs records as one job and returns a signature for each.
func (g Signing) Sign(tb testing.TB, recs ...*record.Record) []record.Signature {
	tb.Helper()
	var list []*record.Statement
	for _, r := range recs {
		list = append(list, g.Statement(tb, r))
	}
	return g.SignStatements(tb, list...)
}

// SignStatements signs statements as one job.
func (g Signing) SignStatements(tb testing.TB, list ...*record.Statement) []record.Signature {
	tb.Helper()
	g = g.defaults()
	head := record.ListHead{Job: g.Job, Issuer: list[0].Issuer, Audience: list[0].Audience}
	var file bytes.Buffer
	w, err := record.NewListWriter(&file, head)
	if err != nil {
		tb.Fatal(err)
	}
	tiles := merkle.MemoryTiles{}
	b, err := record.NewBuilder(head, tiles)
	if err != nil {
		tb.Fatal(err)
	}
	out := make([]record.Signature, len(list))
	for i, s := range list {
		enc, index, err := b.Add(s)
		if err != nil {
			tb.Fatal(err)
		}
		if err := w.Write(enc); err != nil {
			tb.Fatal(err)
		}
		out[i] = record.Signature{Statement: enc, Index: index}
	}
	if _, err := b.Finish(); err != nil {
		tb.Fatal(err)
	}
	root := g.SignList(tb, file.Bytes())
	paths := merkle.NewPaths(int64(len(list)), tiles)
	for i := range out {
		if out[i].Path, err = paths.Path(int64(i)); err != nil {
			tb.Fatal(err)
		}
		out[i].Root = root
	}
	return out
}

// SignList signs a list of statements and returns the signed root.
func (g Signing) SignList(tb testing.TB, list []byte) []byte {
	tb.Helper()
	g = g.defaults()
	a := format.BytesArtifact("list", list)
	plan, err := records.Format{}.Plan(tb.Context(), a, nil)
	if err != nil {
		tb.Fatal(err)
	}
	sigs := formattest.SignAll(tb, records.Format{}, plan, g.Signer, g.At)
	if !g.Stamped.IsZero() {
		sigs[0].Timestamp = g.Signer.Timestamp(tb, sigs[0].Value, g.Stamped)
	}
	patch, err := records.Format{}.Attach(tb.Context(), a, plan, g.Signer.Identity, g.At, sigs)
	if err != nil {
		tb.Fatal(err)
	}
	return patch.Sidecar.Data
}

// Marks are marks in memory; the zero value is ready.
type Marks struct {
	mu   sync.Mutex
	high map[string]uint64
}

// Highest is the mark of a record.
func (m *Marks) Highest(_ context.Context, ref record.Ref) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.high[ref.ID()], nil
}

// Raise sets the mark.
func (m *Marks) Raise(_ context.Context, ref record.Ref, revision uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if high := m.high[ref.ID()]; revision < high {
		return fmt.Errorf("%w: %d", record.ErrLower, high)
	}
	if m.high == nil {
		m.high = map[string]uint64{}
	}
	m.high[ref.ID()] = revision
	return nil
}
