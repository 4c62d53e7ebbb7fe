// Package mariadb is the platform of MariaDB, and of MySQL as far as they agree.
// Greatseal's tables begin with greatseal_ and stand beside the application's.
//
// Values are read under settings of the session that this package makes;
// docs/spec/platforms.md has their canonical texts. Tables whose engine has no
// transactions are read, and never written.
package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// driver implements sqlplatform.Driver.
type driver struct{ *sqlplatform.Std }

// Open connects to a database: dsn is as github.com/go-sql-driver/mysql has it,
// user:password@tcp(host:port)/database or user@unix(socket)/database.
func Open(ctx context.Context, dsn string, o platform.Options) (*sqlplatform.Platform, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("mariadb: the address cannot be read") // it may hold a password
	}
	if c.DBName == "" {
		return nil, errors.New("mariadb: the address names no database")
	}
	c.MultiStatements, c.InterpolateParams, c.ParseTime, c.AllowAllFiles, c.ClientFoundRows = false, false, false, false, true
	c.Loc, c.Collation, c.MaxAllowedPacket = time.UTC, "utf8mb4_bin", 0
	c.Logger = log.New(io.Discard, "", 0)
	if c.Params == nil {
		c.Params = map[string]string{}
	}
	// net_write_timeout: a scan waits for whoever reads it.
	c.Params["sql_mode"] = "'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'"
	c.Params["time_zone"], c.Params["net_write_timeout"], c.Params["wait_timeout"] = "'+00:00'", "86400", "86400"
	c.Params["character_set_results"], c.Params["lc_time_names"] = "utf8mb4", "'en_US'"
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("mariadb: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(32)
	db.SetMaxIdleConns(8)
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("mariadb: %w", err)
	}
	d := &driver{&sqlplatform.Std{DB: db, Options: &sql.TxOptions{Isolation: sql.LevelReadCommitted}, Rows: 200}}
	d.Insert = func(root int64, rows []sqlplatform.SignatureRow) *sqlplatform.Stmt {
		return sqlplatform.InsertRows(d, root, rows)
	}
	d.Count = func(root, rows int64) *sqlplatform.Stmt { return sqlplatform.CountRows(d, root, rows) }
	p, err := sqlplatform.New(d, o)
	if err != nil {
		db.Close()
		return nil, err
	}
	return p, nil
}

func (d *driver) Name() string               { return "mariadb" }
func (d *driver) Quote(name string) string   { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
func (d *driver) Own(table string) string    { return d.Quote(table) }
func (d *driver) Dialect() condition.Dialect { return condition.MariaDB }
func (d *driver) Pages() bool                { return false }
func (d *driver) NewestBatch() int           { return 200 }
func (d *driver) Lock() string               { return " FOR UPDATE" }
func (d *driver) Ignore() (verb, end string) { return "INSERT IGNORE INTO", "" }

// Newest implements sqlplatform.Driver.
func (d *driver) Newest(records [][]byte, limit int) *sqlplatform.Stmt {
	return sqlplatform.NewestWindow(d, records, limit)
}

// Explain gives MariaDB's errors names. Their texts may hold values, and do not travel.
func (d *driver) Explain(err error) error {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Number {
	case 1062, 1586:
		return fmt.Errorf("%w: a row with a unique column is there (%d)", platform.ErrExists, e.Number)
	case 1205, 1213:
		return fmt.Errorf("%w: others hold what is needed (%d)", platform.ErrConflict, e.Number)
	case 1048, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1416, 1451, 1452, 1267, 3819, 4025, 1054, 1690:
		return fmt.Errorf("%w: the database refuses it (%d)", platform.ErrValue, e.Number)
	case 1153, 1301:
		return fmt.Errorf("%w: larger than a packet (%d)", platform.ErrLimit, e.Number)
	case 1142, 1143, 1044, 1045, 1227:
		return fmt.Errorf("mariadb: not permitted (%d)", e.Number)
	}
	return fmt.Errorf("mariadb: error %d (%s)", e.Number, e.SQLState)
}

// Prepare makes Greatseal's tables.
func (d *driver) Prepare(ctx context.Context) error {
	const end = ") ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
	for _, s := range []string{
		`CREATE TABLE IF NOT EXISTS greatseal_root (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, job VARBINARY(200) UNIQUE, imported BINARY(32) UNIQUE,
			digest BINARY(32), root MEDIUMBLOB, leaves BIGINT, rows_count BIGINT NOT NULL, INDEX greatseal_root_digest (digest)` + end,
		`CREATE TABLE IF NOT EXISTS greatseal_signature (root BIGINT NOT NULL, idx BIGINT NOT NULL, revision BIGINT NOT NULL, record VARBINARY(80) NOT NULL,
			statement MEDIUMBLOB NOT NULL, path BLOB, PRIMARY KEY (root, idx), INDEX greatseal_signature_record (record, revision)` + end,
		`CREATE TABLE IF NOT EXISTS greatseal_tile (root BIGINT NOT NULL, level SMALLINT NOT NULL, idx BIGINT NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (root, level, idx)` + end,
		`CREATE TABLE IF NOT EXISTS greatseal_watcher (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARBINARY(200) NOT NULL, tbl VARBINARY(8) NOT NULL,
			primed SMALLINT NOT NULL, position VARCHAR(200), UNIQUE (name, tbl)` + end,
		`CREATE TABLE IF NOT EXISTS greatseal_fingerprint (watcher BIGINT NOT NULL, record VARBINARY(80) NOT NULL, digest BINARY(32) NOT NULL, ref MEDIUMBLOB NOT NULL,
			PRIMARY KEY (watcher, record)` + end,
	} {
		if _, err := d.Exec(ctx, sqlplatform.NewStmt(d, s)); err != nil {
			return err
		}
	}
	return nil
}
