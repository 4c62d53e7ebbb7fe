package mariadb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// Names lists tables with a primary key.
func (d *driver) Names(ctx context.Context) (names []string, err error) {
	err = d.Query(ctx, sqlplatform.NewStmt(d, `SELECT DISTINCT t.TABLE_NAME FROM information_schema.TABLES t
		JOIN information_schema.STATISTICS s ON s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME AND s.INDEX_NAME = 'PRIMARY'
		WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')`),
		func(v [][]byte, _ []sqlplatform.Kind) error { names = append(names, string(v[0])); return nil })
	return names, err
}

// Table reads a table's description.
func (d *driver) Table(ctx context.Context, r sqlplatform.Runner, name string) (*sqlplatform.Table, error) {
	t := &sqlplatform.Table{Name: name, SQL: d.Quote(name)}
	var key []string
	err := r.Query(ctx, sqlplatform.NewStmt(d, `SELECT t.TABLE_NAME, COALESCE(e.TRANSACTIONS, 'NO'), s.COLUMN_NAME FROM information_schema.TABLES t
		JOIN information_schema.STATISTICS s ON s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME AND s.INDEX_NAME = 'PRIMARY'
		LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
		WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_NAME = ? AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY s.SEQ_IN_INDEX`, name),
		func(v [][]byte, _ []sqlplatform.Kind) error {
			if string(v[0]) == name { // not only to a collation
				key = append(key, string(v[2]))
			}
			if string(v[1]) != "YES" {
				t.ReadOnly = "its engine has no transactions"
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	if len(key) == 0 {
		return nil, fmt.Errorf("%w: %.80q", platform.ErrTable, name)
	}
	err = r.Query(ctx, sqlplatform.NewStmt(d, `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, EXTRA, COALESCE(GENERATION_EXPRESSION, ''), COALESCE(CHARACTER_SET_NAME, ''),
		COALESCE(NUMERIC_PRECISION, 0), COALESCE(NUMERIC_SCALE, 0), TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`, name),
		func(v [][]byte, _ []sqlplatform.Kind) error {
			if string(v[9]) != name {
				return nil
			}
			c := d.column(string(v[0]), string(v[1]), string(v[2]), string(v[6]), string(v[7]), string(v[8]))
			extra := strings.ToLower(string(v[4]))
			c.Nullable, c.Auto = string(v[3]) == "YES", strings.Contains(extra, "auto_increment")
			if len(v[5]) > 0 || strings.Contains(extra, "generated") || strings.Contains(extra, "row start") || strings.Contains(extra, "row end") {
				c.Written = false
			}
			t.Columns = append(t.Columns, c)
			return nil
		})
	if err != nil {
		return nil, err
	}
	for _, k := range key {
		c := t.Column(k)
		if c == nil {
			return nil, fmt.Errorf("%w: %.80q", platform.ErrTable, name)
		}
		t.Key = append(t.Key, c)
	}
	return t, nil
}

// column says how to deal with a column.
func (d *driver) column(name, data, full, charset, precision, scale string) *sqlplatform.Column {
	q := d.Quote(name)
	chars := "CAST(" + q + " AS CHAR CHARACTER SET utf8mb4)"
	binary := func(text string) string { return "CAST(COALESCE(" + text + ", '') AS BINARY)" }
	c := &sqlplatform.Column{Select: q, Order: q, Bytes: "CAST(" + q + " AS BINARY)"}
	c.Name, c.Type, c.Written = name, full, true
	plain := !strings.Contains(strings.ToLower(full), "zerofill")
	switch data {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		if c.Cond.Text = binary("CONVERT(" + q + " USING utf8mb4)"); charset == "utf8mb4" {
			c.Cond.Index = q
		}
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		d.integer(c, q, full, plain)
	case "decimal":
		c.Select = chars
		c.Param = "CAST(% AS DECIMAL(" + precision + "," + scale + "))"
		if plain {
			c.Cond.Text = binary(chars)
		} else {
			c.Select = "CAST(" + q + " + 0 AS CHAR CHARACTER SET utf8mb4)"
		}
	case "float", "double":
		c.Order = "CAST(" + q + " AS DOUBLE)"
		c.Select = "CAST(CAST(" + q + " AS DOUBLE) AS CHAR CHARACTER SET utf8mb4)"
		c.Arg = func(s string) (any, error) {
			f, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return nil, fmt.Errorf("%w: a number is expected in %.80q", platform.ErrValue, name)
			}
			return f, nil
		}
	case "datetime", "timestamp", "time":
		c.Select, c.Read = chars, readTime
	case "date", "year":
		c.Select = chars
		c.Cond.Text = binary(chars)
	case "bit":
		c.Order = "(" + q + " + 0)"
		c.Select = "CAST(" + q + " + 0 AS CHAR CHARACTER SET utf8mb4)"
		c.Arg = func(s string) (any, error) { return unsigned(name, s) }
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		c.Bytes = q
		c.Read = func(v []byte, _ sqlplatform.Kind) (string, error) { return sqlplatform.Hex(v), nil }
		c.Arg = func(s string) (any, error) {
			h, ok := strings.CutPrefix(s, `\x`)
			b, err := hex.DecodeString(h)
			if s != "" && !ok || err != nil {
				return nil, fmt.Errorf("%w: \\x and hexadecimal digits are expected in %.80q", platform.ErrValue, name)
			}
			return b, nil
		}
	case "enum", "set":
		c.Select, c.Order = chars, chars // by their texts: a comparison with a text is not by their numbers
		c.Cond.Text = binary(chars)
	case "uuid", "inet4", "inet6":
		c.Select = chars
		c.Cond.Text = binary(chars)
	default: // geometries: bytes that this package does not write
		c.Written = false
		c.Read = func(v []byte, _ sqlplatform.Kind) (string, error) { return sqlplatform.Hex(v), nil }
	}
	return c
}

func unsigned(name, s string) (any, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: a number is expected in %.80q", platform.ErrValue, name)
	}
	return n, nil
}

// integer deals with an integer. One digit wide, it is a boolean.
func (d *driver) integer(c *sqlplatform.Column, q, full string, plain bool) {
	c.Number = true
	name := c.Name
	if strings.Contains(full, "unsigned") {
		c.Arg = func(s string) (any, error) { return unsigned(name, s) }
	} else {
		c.Arg = func(s string) (any, error) {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%w: a number is expected in %.80q", platform.ErrValue, name)
			}
			return n, nil
		}
		if plain {
			c.Cond.Int = "COALESCE(" + q + ", 0)"
		}
	}
	if plain {
		c.Cond.Text = "CAST(COALESCE(CAST(" + q + " AS CHAR CHARACTER SET utf8mb4), '') AS BINARY)"
	}
	if !strings.HasPrefix(full, "tinyint(1)") {
		return
	}
	number := c.Arg
	c.Number = false
	c.Read = func(v []byte, _ sqlplatform.Kind) (string, error) {
		switch string(v) {
		case "0":
			return "false", nil
		case "1":
			return "true", nil
		}
		return string(v), nil
	}
	c.Arg = func(s string) (any, error) {
		switch s {
		case "true":
			return int64(1), nil
		case "false":
			return int64(0), nil
		case "0", "1":
			return nil, fmt.Errorf("%w: true or false is expected in %.80q", platform.ErrValue, name)
		}
		return number(s)
	}
	c.Cond = condition.Column{}
	if plain && !strings.Contains(full, "unsigned") {
		c.Cond.Text = "CAST(CASE " + q + " WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE COALESCE(CAST(" + q + " AS CHAR CHARACTER SET utf8mb4), '') END AS BINARY)"
		c.Cond.Int = "(CASE WHEN " + q + " IN (0, 1) THEN 0 ELSE COALESCE(" + q + ", 0) END)"
	}
}

// readTime takes the zeros off a fraction of a second: how many there are is a matter
// of the column, not of the value.
func readTime(v []byte, _ sqlplatform.Kind) (string, error) {
	s := string(v)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s, nil
}
