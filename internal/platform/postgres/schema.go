package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// rollbackTime is how long a rollback may take before the connection is dropped.
const rollbackTime = 5 * time.Second

// listenTime is how long a change that came without a notification may stay unseen.
const listenTime = 2 * time.Second

// Prepare makes Greatseal's tables.
func (d *driver) Prepare(ctx context.Context) error {
	t, err := d.Begin(ctx)
	if err != nil {
		return err
	}
	for _, s := range []string{
		"SELECT pg_catalog.pg_advisory_xact_lock(7149562610231943169)", // two that prepare at the same moment
		"CREATE SCHEMA IF NOT EXISTS " + d.Quote(d.own),
		"CREATE TABLE IF NOT EXISTS " + d.Own("greatseal_root") + ` (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			job text COLLATE "C" UNIQUE, imported bytea UNIQUE, digest bytea, root bytea, leaves bigint, rows_count bigint NOT NULL)`,
		"CREATE INDEX IF NOT EXISTS greatseal_root_digest ON " + d.Own("greatseal_root") + " (digest)",
		"CREATE TABLE IF NOT EXISTS " + d.Own("greatseal_signature") + ` (
			root bigint NOT NULL, idx bigint NOT NULL, revision bigint NOT NULL, record bytea NOT NULL, statement bytea NOT NULL, path bytea, PRIMARY KEY (root, idx))`,
		"CREATE INDEX IF NOT EXISTS greatseal_signature_record ON " + d.Own("greatseal_signature") + " (record, revision)",
		"CREATE TABLE IF NOT EXISTS " + d.Own("greatseal_tile") + ` (
			root bigint NOT NULL, level smallint NOT NULL, idx bigint NOT NULL, hashes bytea NOT NULL, PRIMARY KEY (root, level, idx))`,
		"CREATE TABLE IF NOT EXISTS " + d.Own("greatseal_watcher") + ` (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL, tbl bytea NOT NULL, primed smallint NOT NULL, position text, UNIQUE (name, tbl))`,
		"CREATE TABLE IF NOT EXISTS " + d.Own("greatseal_fingerprint") + ` (
			watcher bigint NOT NULL, record bytea NOT NULL, digest bytea NOT NULL, ref bytea NOT NULL, PRIMARY KEY (watcher, record))`,
		"CREATE TABLE IF NOT EXISTS " + d.Own("greatseal_change") + ` (
			xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(), seq bigint GENERATED ALWAYS AS IDENTITY, tbl text COLLATE "C" NOT NULL, key text, op "char" NOT NULL, PRIMARY KEY (xid, seq))`,
		// Statements are digests: trying to compress them costs and gains nothing.
		"ALTER TABLE " + d.Own("greatseal_signature") + " ALTER COLUMN statement SET STORAGE EXTERNAL",
		"ALTER TABLE " + d.Own("greatseal_tile") + " ALTER COLUMN hashes SET STORAGE EXTERNAL",
	} {
		if _, err := t.Exec(ctx, sqlplatform.NewStmt(d, s)); err != nil {
			_ = t.Rollback() // err says more
			return err
		}
	}
	return t.Commit(ctx)
}

// Names lists tables with a primary key.
func (d *driver) Names(ctx context.Context) (names []string, err error) {
	err = d.Query(ctx, sqlplatform.NewStmt(d, `SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1::pg_catalog.text AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		AND EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)`, d.schema),
		func(v [][]byte, _ []sqlplatform.Kind) error { names = append(names, string(v[0])); return nil })
	return names, err
}

// Table reads a table's description.
func (d *driver) Table(ctx context.Context, r sqlplatform.Runner, name string) (*sqlplatform.Table, error) {
	t := &sqlplatform.Table{Name: name, SQL: pgx.Identifier{d.schema, name}.Sanitize()}
	keys := map[string]*sqlplatform.Column{}
	if strings.ContainsRune(name, 0) {
		return nil, platform.ErrTable
	}
	err := r.Query(ctx, sqlplatform.NewStmt(d, `SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
		a.attnotnull OR t.typnotnull, a.attgenerated <> '' OR a.attidentity = 'a', a.attidentity <> '' OR a.atthasdef,
		(WITH RECURSIVE b AS (SELECT oid, typtype, typbasetype FROM pg_catalog.pg_type WHERE oid = a.atttypid
			UNION ALL SELECT u.oid, u.typtype, u.typbasetype FROM pg_catalog.pg_type u JOIN b ON u.oid = b.typbasetype AND b.typtype = 'd')
			SELECT b.oid::pg_catalog.text || b.typtype::pg_catalog.text FROM b WHERE typtype <> 'd'),
		array_position(i.indkey::pg_catalog.int2[], a.attnum)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		WHERE n.nspname = $1::pg_catalog.text AND c.relname = $2::pg_catalog.text AND c.relkind IN ('r', 'p') ORDER BY a.attnum`, d.schema, name),
		func(v [][]byte, _ []sqlplatform.Kind) error {
			c := d.column(string(v[0]), string(v[1]), string(v[5]))
			c.Nullable, c.Written, c.Auto = v[2][0] == 'f', v[3][0] == 'f', v[4][0] == 't'
			t.Columns = append(t.Columns, c)
			if v[6] != nil {
				keys[string(v[6])] = c
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	if len(t.Columns) == 0 {
		return nil, fmt.Errorf("%w: %.80q", platform.ErrTable, name)
	}
	for i := 0; len(t.Key) < len(keys); i++ {
		if c := keys[fmt.Sprint(i)]; c != nil {
			t.Key = append(t.Key, c)
		}
		if i > 1000 {
			return nil, fmt.Errorf("%w: %.80q", platform.ErrTable, name)
		}
	}
	return t, nil
}

// column says how to deal with a column. base is the number of its type, domains
// taken off, and the letter of its kind.
func (d *driver) column(name, typ, base string) *sqlplatform.Column {
	q := d.Quote(name)
	c := &sqlplatform.Column{Select: q, Order: q, Bytes: "pg_catalog.convert_to(" + q + "::pg_catalog.text, 'UTF8')"}
	c.Name, c.Type = name, typ
	text := "COALESCE(" + q + `::pg_catalog.text, '') COLLATE "C"`
	switch base {
	case "16b": // boolean
		c.Read = readBool
		c.Cond.Text = "(CASE " + q + ` WHEN true THEN 'true'::pg_catalog.text WHEN false THEN 'false'::pg_catalog.text ELSE '' END) COLLATE "C"`
	case "17b": // bytea
		c.Read = readBytea
		c.Bytes = q
	case "1184b": // timestamp with time zone
		c.Read = readInstant
	case "1042b": // character: padding is not stored, it is made
		c.Read = func(v []byte, _ sqlplatform.Kind) (string, error) { return strings.TrimRight(string(v), " "), nil }
		c.Cond.Text = text
	case "25b", "1043b": // text, varying
		c.Cond = condition.Column{Text: text, Index: q}
	case "20b", "21b", "23b": // integers
		c.Number = true
		c.Cond = condition.Column{Text: text, Int: "COALESCE(" + q + ", 0)::pg_catalog.int8"}
	case "2950b", "1700b", "114b", "3802b": // uuid, numeric, json, jsonb
		c.Cond.Text = text
	default:
		if strings.HasSuffix(base, "e") { // enumerations
			c.Cond.Text = text
		}
	}
	return c
}

func readBool(v []byte, _ sqlplatform.Kind) (string, error) {
	switch string(v) {
	case "t", "true":
		return "true", nil
	case "f", "false":
		return "false", nil
	}
	return "", fmt.Errorf("a boolean is expected")
}

func readBytea(v []byte, _ sqlplatform.Kind) (string, error) {
	if string(v) == `\x` {
		return "", nil
	}
	return string(v), nil
}

// readInstant takes the offset off a time, which is in UTC.
func readInstant(v []byte, _ sqlplatform.Kind) (string, error) {
	s := string(v)
	era := ""
	if t, ok := strings.CutSuffix(s, " BC"); ok {
		s, era = t, " BC"
	}
	if s == "infinity" || s == "-infinity" {
		return s, nil
	}
	t, ok := strings.CutSuffix(s, "+00")
	if !ok {
		return "", fmt.Errorf("a time that is not in UTC")
	}
	return t + era, nil
}
