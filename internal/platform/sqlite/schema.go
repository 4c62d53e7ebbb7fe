package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// Names lists tables with a primary key.
func (d *driver) Names(ctx context.Context) (names []string, err error) {
	err = d.Query(ctx, sqlplatform.NewStmt(d, `SELECT t.name FROM pragma_table_list AS t WHERE t.schema = 'main' AND t.type = 'table' AND substr(t.name, 1, 7) <> 'sqlite_'
		AND EXISTS (SELECT 1 FROM pragma_table_xinfo(t.name) AS c WHERE c.pk > 0)`),
		func(v [][]byte, _ []sqlplatform.Kind) error { names = append(names, string(v[0])); return nil })
	return names, err
}

// affinity of a column, as SQLite works it out of the declared type.
type affinity uint8

const (
	none affinity = iota
	text
	integer
	real
	numeric
)

func affinityOf(declared string) affinity {
	s := strings.ToUpper(declared)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(s, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("INT"):
		return integer
	case has("CHAR", "CLOB", "TEXT"):
		return text
	case s == "" || s == "ANY" || has("BLOB"):
		return none
	case has("REAL", "FLOA", "DOUB"):
		return real
	}
	return numeric
}

// Table reads a table's description.
func (d *driver) Table(ctx context.Context, r sqlplatform.Runner, name string) (*sqlplatform.Table, error) {
	t := &sqlplatform.Table{Name: name, SQL: "main." + d.Quote(name)}
	keys := map[int]*sqlplatform.Column{}
	err := r.Query(ctx, sqlplatform.NewStmt(d, `SELECT t.name, c.name, c.type, c."notnull", c.pk, c.hidden FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c
		WHERE t.schema = 'main' AND t.type = 'table' AND t.name = ? AND substr(t.name, 1, 7) <> 'sqlite_' AND c.hidden <> 1 ORDER BY c.cid`, name),
		func(v [][]byte, _ []sqlplatform.Kind) error {
			if string(v[0]) != name {
				return nil
			}
			pk, err := strconv.Atoi(string(v[4]))
			if err != nil {
				return err
			}
			c := d.column(string(v[1]), string(v[2]), pk > 0)
			c.Nullable, c.Written = string(v[3]) == "0" && pk == 0, string(v[5]) == "0"
			t.Columns = append(t.Columns, c)
			if pk > 0 {
				keys[pk] = c
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	for i := 1; i <= len(keys); i++ {
		t.Key = append(t.Key, keys[i])
	}
	if len(t.Key) == 0 {
		return nil, fmt.Errorf("%w: %.80q", platform.ErrTable, name)
	}
	if len(t.Key) == 1 {
		t.Key[0].Auto = strings.EqualFold(t.Key[0].Type, "INTEGER")
	}
	return t, nil
}

// column says how to deal with a column.
func (d *driver) column(name, declared string, key bool) *sqlplatform.Column {
	q := d.Quote(name)
	// The sign takes the declared type off, by which the driver would convert.
	c := &sqlplatform.Column{Select: "+" + q, Order: q, Bytes: "CAST(" + q + " AS BLOB)"}
	c.Name, c.Type = name, declared
	a := affinityOf(declared)
	boolean := strings.Contains(strings.ToUpper(declared), "BOOL") && a == numeric
	c.Number = a == integer
	c.Read = func(v []byte, k sqlplatform.Kind) (string, error) { return read(v, k, a, boolean, key) }
	c.Arg = func(s string) (any, error) { return argument(s, a, boolean, key) }
	if !d.utf8 {
		return c
	}
	switch a {
	case text:
		c.Cond = condition.Column{Text: "CAST(COALESCE(" + q + ", '') AS BLOB)", Index: q}
	case integer:
		c.Cond.Int = "(CASE typeof(" + q + ") WHEN 'integer' THEN " + q + " ELSE 0 END)"
	}
	return c
}

var (
	errBytes = errors.New("it holds bytes where a text or a number is declared")
	errText  = errors.New("it holds a text that reads like another value")
)

// read makes the canonical text. Where two values would have the same text, one of
// them is refused.
func read(v []byte, k sqlplatform.Kind, a affinity, boolean, key bool) (string, error) {
	s := string(v)
	switch k {
	case sqlplatform.Blob:
		if a != none && len(v) > 0 {
			return "", errBytes
		}
		return sqlplatform.Hex(v), nil
	case sqlplatform.Text:
		switch {
		case a == none && strings.HasPrefix(s, `\x`), boolean && (s == "true" || s == "false"):
			return "", errText
		case a == none && key:
			if _, err := strconv.ParseFloat(s, 64); err == nil {
				return "", errText
			}
		}
	case sqlplatform.Integer:
		if boolean && s == "1" {
			return "true", nil
		}
		if boolean && s == "0" {
			return "false", nil
		}
	}
	return s, nil
}

// argument undoes read.
func argument(s string, a affinity, boolean, key bool) (any, error) {
	if a == text {
		return s, nil
	}
	if boolean && s == "true" {
		return int64(1), nil
	}
	if boolean && s == "false" {
		return int64(0), nil
	}
	if boolean && (s == "0" || s == "1") {
		return nil, fmt.Errorf("%w: true or false is expected", platform.ErrValue)
	}
	if h, ok := strings.CutPrefix(s, `\x`); ok && a == none {
		b, err := hex.DecodeString(h)
		if err != nil {
			return nil, fmt.Errorf("%w: hexadecimal digits are expected", platform.ErrValue)
		}
		return b, nil
	}
	if a == none && !key {
		return s, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s {
		return n, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && sqlplatform.FormatReal(f) == s {
		return f, nil
	}
	return s, nil
}
