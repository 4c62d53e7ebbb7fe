// Package sqlite is the platform of SQLite. Greatseal's tables begin with greatseal_
// and stand beside the application's in the same file.
//
// SQLite's columns hold values of any type: docs/spec/platforms.md says which text is
// canonical, and which values are refused because two different ones would have the
// same. Readers and writers are short, because in a file without a write-ahead log one
// holds up the other.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	driversqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// driver implements sqlplatform.Driver.
type driver struct {
	*sqlplatform.Std
	utf8 bool // the file's texts are in UTF-8
}

// Open opens a file that is there.
func Open(ctx context.Context, path string, o platform.Options) (*sqlplatform.Platform, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if _, err := os.Stat(abs); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: "mode=rw&_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=foreign_keys(1)&_pragma=trusted_schema(0)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	d := &driver{Std: &sqlplatform.Std{DB: db, Dynamic: true, Early: true, Rows: 50}}
	d.Insert = func(root int64, rows []sqlplatform.SignatureRow) *sqlplatform.Stmt {
		return sqlplatform.InsertRows(d, root, rows)
	}
	d.Count = func(root, rows int64) *sqlplatform.Stmt { return sqlplatform.CountRows(d, root, rows) }
	var encoding string
	if err := db.QueryRowContext(ctx, "PRAGMA encoding").Scan(&encoding); err != nil {
		db.Close()
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	d.utf8 = encoding == "UTF-8"
	p, err := sqlplatform.New(d, o)
	if err != nil {
		db.Close()
		return nil, err
	}
	return p, nil
}

func (d *driver) Name() string               { return "sqlite" }
func (d *driver) Quote(name string) string   { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
func (d *driver) Own(table string) string    { return "main." + d.Quote(table) }
func (d *driver) Dialect() condition.Dialect { return condition.SQLite }
func (d *driver) Pages() bool                { return true }
func (d *driver) NewestBatch() int           { return 200 }
func (d *driver) Lock() string               { return "" } // a transaction that writes is alone
func (d *driver) Ignore() (verb, end string) { return "INSERT INTO", " ON CONFLICT DO NOTHING" }

// Newest implements sqlplatform.Driver.
func (d *driver) Newest(records [][]byte, limit int) *sqlplatform.Stmt {
	return sqlplatform.NewestWindow(d, records, limit)
}

// Explain gives SQLite's errors names.
func (d *driver) Explain(err error) error {
	var e *driversqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch code := e.Code(); code {
	case lib.SQLITE_CONSTRAINT_PRIMARYKEY, lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_ROWID:
		return fmt.Errorf("%w: a row with a unique column is there (%d)", platform.ErrExists, code)
	case lib.SQLITE_TOOBIG:
		return fmt.Errorf("%w: (%d)", platform.ErrLimit, code)
	case lib.SQLITE_MISMATCH:
		return fmt.Errorf("%w: the database refuses it (%d)", platform.ErrValue, code)
	default:
		switch code & 0xff {
		case lib.SQLITE_CONSTRAINT:
			return fmt.Errorf("%w: the database refuses it (%d)", platform.ErrValue, code)
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
			return fmt.Errorf("%w: others hold the file (%d)", platform.ErrConflict, code)
		}
	}
	return err
}

// Prepare makes Greatseal's tables.
func (d *driver) Prepare(ctx context.Context) error {
	for _, s := range []string{
		`CREATE TABLE IF NOT EXISTS main.greatseal_root (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT UNIQUE, imported BLOB UNIQUE, digest BLOB, root BLOB, leaves INTEGER, rows_count INTEGER NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS main.greatseal_root_digest ON greatseal_root (digest)`,
		`CREATE TABLE IF NOT EXISTS main.greatseal_signature (root INTEGER NOT NULL, idx INTEGER NOT NULL, revision INTEGER NOT NULL, record BLOB NOT NULL, statement BLOB NOT NULL, path BLOB, PRIMARY KEY (root, idx)) WITHOUT ROWID`,
		`CREATE INDEX IF NOT EXISTS main.greatseal_signature_record ON greatseal_signature (record, revision)`,
		`CREATE TABLE IF NOT EXISTS main.greatseal_tile (root INTEGER NOT NULL, level INTEGER NOT NULL, idx INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (root, level, idx)) WITHOUT ROWID`,
		`CREATE TABLE IF NOT EXISTS main.greatseal_watcher (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, tbl BLOB NOT NULL, primed INTEGER NOT NULL, position TEXT, UNIQUE (name, tbl))`,
		`CREATE TABLE IF NOT EXISTS main.greatseal_fingerprint (watcher INTEGER NOT NULL, record BLOB NOT NULL, digest BLOB NOT NULL, ref BLOB NOT NULL, PRIMARY KEY (watcher, record)) WITHOUT ROWID`,
	} {
		if _, err := d.Exec(ctx, sqlplatform.NewStmt(d, s)); err != nil {
			return err
		}
	}
	return nil
}
