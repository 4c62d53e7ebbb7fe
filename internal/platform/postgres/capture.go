package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record"
)

// channel is what the triggers notify, and the beginning of their names.
const channel = "greatseal_change"

var kinds = []string{"insert", "update", "delete", "truncate"}

// literal quotes a text for statements that take no arguments.
func literal(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

func (d *driver) function(table string) string {
	h := sha256.Sum256([]byte(d.schema + "\x00" + table))
	return d.Own(fmt.Sprintf("%s_%x", channel, h[:8]))
}

// Capture implements platform.Capturer. The triggers are of statements, so that a bulk
// load costs one insertion, and fire for replicated changes too.
func (p *Platform) Capture(ctx context.Context, tables []string) error {
	return p.alter(ctx, tables, func(t *sqlplatform.Table) []string {
		d := p.d
		keys := func(alias string) string {
			var k []string
			for _, c := range t.Key {
				k = append(k, alias+"."+d.Quote(c.Name)+"::text")
			}
			return "to_json(ARRAY[" + strings.Join(k, ", ") + "])::text"
		}
		into := "INSERT INTO " + d.Own(channel) + " (tbl, key, op) SELECT " + literal(t.Name) + ", "
		// The body stands in quotes whose tag no name has: it is checked below.
		body := `BEGIN
			IF TG_OP = 'TRUNCATE' THEN ` + into + `NULL, 't';
			ELSIF TG_OP = 'INSERT' THEN ` + into + keys("n") + `, 'c' FROM greatseal_new n;
			ELSIF TG_OP = 'DELETE' THEN ` + into + keys("o") + `, 'd' FROM greatseal_old o;
			ELSE ` + into + `x.key, 'd' FROM (SELECT ` + keys("o") + ` AS key FROM greatseal_old o EXCEPT SELECT ` + keys("n") + ` FROM greatseal_new n) x;
			` + into + keys("n") + `, 'c' FROM greatseal_new n;
			END IF;
			PERFORM pg_notify('` + channel + `', '');
			RETURN NULL;
		END`
		out := append(d.release(t), "CREATE OR REPLACE FUNCTION "+d.function(t.Name)+`() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
			SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'iso_8601'
			SET bytea_output = 'hex' SET extra_float_digits = '1' SET lc_monetary = 'C' AS `+literal(body))
		for _, k := range kinds {
			refs := map[string]string{"insert": "REFERENCING NEW TABLE AS greatseal_new", "delete": "REFERENCING OLD TABLE AS greatseal_old",
				"update": "REFERENCING OLD TABLE AS greatseal_old NEW TABLE AS greatseal_new"}[k]
			name := d.Quote(channel + "_" + k)
			out = append(out, "CREATE TRIGGER "+name+" AFTER "+strings.ToUpper(k)+" ON "+t.SQL+" "+refs+" FOR EACH STATEMENT EXECUTE FUNCTION "+d.function(t.Name)+"()",
				"ALTER TABLE "+t.SQL+" ENABLE ALWAYS TRIGGER "+name)
		}
		return out
	})
}

// Release implements platform.Capturer.
func (p *Platform) Release(ctx context.Context, tables []string) error {
	return p.alter(ctx, tables, p.d.release)
}

func (d *driver) release(t *sqlplatform.Table) (out []string) {
	for _, k := range kinds {
		out = append(out, "DROP TRIGGER IF EXISTS "+d.Quote(channel+"_"+k)+" ON "+t.SQL)
	}
	return append(out, "DROP FUNCTION IF EXISTS "+d.function(t.Name)+"()")
}

func (p *Platform) alter(ctx context.Context, tables []string, statements func(*sqlplatform.Table) []string) error {
	tx, err := p.d.Begin(ctx)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	for _, n := range tables {
		t, err := p.d.Table(ctx, tx, n)
		if err == nil {
			for _, s := range statements(t) {
				if _, err = tx.Exec(ctx, sqlplatform.NewStmt(p.d, s)); err != nil {
					break
				}
			}
		}
		if err != nil {
			_ = tx.Rollback() // err says more
			return fmt.Errorf("postgres: table %.80q: %w", n, p.d.Explain(err))
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("postgres: %w", p.d.Explain(err))
	}
	return nil
}

// Captured implements sqlplatform.Capture.
func (d *driver) Captured(ctx context.Context, tables []*sqlplatform.Table) (bool, error) {
	for _, t := range tables {
		var n int64
		err := d.Query(ctx, sqlplatform.NewStmt(d, `SELECT count(*) FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1::pg_catalog.text AND c.relname = $2::pg_catalog.text AND g.tgenabled = 'A' AND g.tgfoid = pg_catalog.to_regprocedure($3)
			AND g.tgname IN ('greatseal_change_insert', 'greatseal_change_update', 'greatseal_change_delete', 'greatseal_change_truncate')`, d.schema, t.Name, d.function(t.Name)+"()"),
			func(v [][]byte, _ []sqlplatform.Kind) (err error) {
				n, err = strconv.ParseInt(string(v[0]), 10, 64)
				return err
			})
		if err != nil || n != int64(len(kinds)) {
			return false, err
		}
	}
	return true, nil
}

// Mark implements sqlplatform.Capture. A position is the number of a transaction and a
// number within it. Numbers are given out before a transaction commits: only what is
// older than every transaction that runs is complete, and only that is read.
func (d *driver) Mark(ctx context.Context) (position string, err error) {
	err = d.Query(ctx, sqlplatform.NewStmt(d, "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text"),
		func(v [][]byte, _ []sqlplatform.Kind) error { position = string(v[0]) + " 0"; return nil })
	return position, err
}

func parse(position string) (xid string, seq int64, err error) {
	x, n, ok := strings.Cut(position, " ")
	if _, err := strconv.ParseUint(x, 10, 64); err != nil || !ok {
		return "", 0, errors.New("postgres: a stored position is damaged")
	}
	if seq, err = strconv.ParseInt(n, 10, 64); err != nil {
		return "", 0, errors.New("postgres: a stored position is damaged")
	}
	return x, seq, nil
}

// Changes implements sqlplatform.Capture.
func (d *driver) Changes(ctx context.Context, tables []*sqlplatform.Table, after string, limit int) ([]platform.Event, string, error) {
	xid, seq, err := parse(after)
	if err != nil {
		return nil, "", err
	}
	by := map[string]*sqlplatform.Table{}
	for _, t := range tables {
		by[t.Name] = t
	}
	var events []platform.Event
	now := time.Now().UTC()
	s := sqlplatform.NewStmt(d, `SELECT xid::pg_catalog.text, seq, tbl, key, op FROM `+d.Own(channel)+`
		WHERE (xid, seq) > ($1::pg_catalog.xid8, $2::pg_catalog.int8) AND xid < pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
		ORDER BY xid, seq LIMIT `+strconv.Itoa(limit), xid, seq)
	err = d.Query(ctx, s, func(v [][]byte, _ []sqlplatform.Kind) error {
		after = string(v[0]) + " " + string(v[1])
		t := by[string(v[2])]
		if t == nil {
			return nil
		}
		e := platform.Event{Ref: record.Ref{Table: t.Name}, Op: platform.Changed, At: now}
		if v[4][0] != 'c' {
			e.Op = platform.Deleted
		}
		if v[3] != nil {
			var key []string
			if err := json.Unmarshal(v[3], &key); err != nil || len(key) != len(t.Key) {
				return fmt.Errorf("postgres: a noted key of %.80q is damaged", t.Name)
			}
			for i, c := range t.Key {
				if c.Read != nil {
					k, err := c.Read([]byte(key[i]), sqlplatform.Text)
					if err != nil {
						return err
					}
					key[i] = k
				}
			}
			e.Ref.Key = key
		}
		events = append(events, e)
		return nil
	})
	return events, after, err
}

// Forget implements sqlplatform.Capture.
func (d *driver) Forget(ctx context.Context, positions []string) error {
	var args []any
	var least []string
	for _, p := range positions {
		xid, seq, err := parse(p)
		if err != nil {
			return err
		}
		args = append(args, xid, seq)
		least = append(least, fmt.Sprintf("($%d::pg_catalog.xid8, $%d::pg_catalog.int8)", len(args)-1, len(args)))
	}
	if len(least) == 0 {
		return nil
	}
	_, err := d.Exec(ctx, sqlplatform.NewStmt(d, "DELETE FROM "+d.Own(channel)+" WHERE (xid, seq) <= ALL (VALUES "+strings.Join(least, ", ")+")", args...))
	return err
}

// Wait implements sqlplatform.Capture.
func (d *driver) Wait(ctx context.Context, longest time.Duration) error {
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	pg := c.Conn().PgConn()
	if _, err := pg.Exec(ctx, "LISTEN "+channel).ReadAll(); err != nil {
		return err
	}
	// What came between the last look and LISTEN is seen at the next look, which is
	// short after: a notification may be missed, a change never.
	short, cancel := context.WithTimeout(ctx, min(longest, listenTime))
	defer cancel()
	err = pg.WaitForNotification(short)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !pgconn.Timeout(err) {
		return err
	}
	if !pg.IsClosed() {
		if _, err := pg.Exec(ctx, "UNLISTEN *").ReadAll(); err != nil {
			return err
		}
	}
	return nil
}
