package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/statement"
)

const requestColumns = `r.id, r.revision, r.envelope, r.command, r.digest, r.policy, r.key, r.requester, r.count, r.upload, r.state, r.code, r.detail, r.created, r.updated, r.expires, r.receipt, r.sent`

type scanner interface{ Scan(...any) error }

func scanRequest(row scanner) (*Request, error) {
	var r Request
	var id []byte
	var command, state string
	var count, upload, created, updated, expires, receipt, sent int64
	if err := row.Scan(&id, &r.Revision, &r.Envelope, &command, &r.Digest, &r.Policy, &r.Key, &r.Requester, &count, &upload,
		&state, &r.Code, &r.Detail, &created, &updated, &expires, &receipt, &sent); err != nil {
		return nil, err
	}
	if len(id) != len(r.ID) {
		return nil, fmt.Errorf("request with an ID of %d bytes", len(id))
	}
	copy(r.ID[:], id)
	r.Command, r.State = statement.CommandName(command), State(state)
	r.Count, r.Upload, r.Receipt, r.Sent = int(count), upload != 0, uint64(receipt), sent != 0
	r.Created, r.Updated, r.Expires = at(created), at(updated), at(expires)
	return &r, nil
}

// collect reads all rows.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Request returns one request with its endorsements.
func (s *SQL) Request(ctx context.Context, id statement.ID) (*Request, error) {
	return s.oneRequest(ctx, `r.id = $1`, id[:])
}

// OpenRequest returns the open request for a command's digest.
func (s *SQL) OpenRequest(ctx context.Context, digest string) (*Request, error) {
	return s.oneRequest(ctx, `r.digest = $1 AND r.state IN ('pending', 'endorsed')`, digest)
}

func (s *SQL) oneRequest(ctx context.Context, where string, arg any) (*Request, error) {
	out, err := s.wholeRequests(ctx, where, `e.seq`, arg)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, ErrNotFound
	}
	return out[0], nil
}

// wholeRequests returns requests with their endorsements. The order has those of one
// request together, by seq.
func (s *SQL) wholeRequests(ctx context.Context, where, order string, args ...any) ([]*Request, error) {
	// One statement, so that requests and their endorsements are of one moment.
	rows, err := s.rows(ctx, `SELECT `+requestColumns+`, e.id, e.envelope, e.endorser, e.verdict, e.arrived
		FROM requests r LEFT JOIN endorsements e ON e.request = r.id WHERE `+where+` ORDER BY `+order, args...)
	if err != nil {
		return nil, s.wrap(err)
	}
	defer rows.Close()
	var out []*Request
	for rows.Next() {
		var eid, envelope []byte
		var endorser, verdict sql.NullString
		var arrived sql.NullInt64
		r, err := scanRequest(scanWith{rows, []any{&eid, &envelope, &endorser, &verdict, &arrived}})
		if err != nil {
			return nil, s.wrap(err)
		}
		if n := len(out); n == 0 || out[n-1].ID != r.ID {
			out = append(out, r)
		}
		if endorser.Valid {
			e := Endorsement{Envelope: envelope, Endorser: endorser.String, Verdict: statement.Verdict(verdict.String), Arrived: at(arrived.Int64)}
			copy(e.ID[:], eid)
			last := out[len(out)-1]
			last.Endorsements = append(last.Endorsements, e)
		}
	}
	return out, s.wrap(rows.Err())
}

// scanWith scans more columns behind those that its caller names.
type scanWith struct {
	row  scanner
	more []any
}

func (s scanWith) Scan(dst ...any) error { return s.row.Scan(append(dst, s.more...)...) }

// Requests lists requests, newest first.
func (s *SQL) Requests(ctx context.Context, f Filter) ([]*Request, error) {
	var where []string
	var args []any
	and := func(cond string, vals ...any) {
		for _, v := range vals {
			if s, ok := v.(string); ok {
				v = text(s)
			}
			args = append(args, v)
			cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, cond)
	}
	if len(f.States) > 0 {
		// Written out, so that the indexes of some states serve.
		var vals []string
		for _, st := range f.States {
			if slices.Contains(States(), st) {
				vals = append(vals, "'"+string(st)+"'")
			}
		}
		switch {
		case len(vals) == 0:
			return nil, nil
		case slices.Contains(vals, "'"+string(Executed)+"'"):
			and("r.state IN (" + strings.Join(vals, ", ") + ")")
		default:
			and("r.state <> 'executed' AND r.state IN (" + strings.Join(vals, ", ") + ")")
		}
	}
	if a := f.Awaiting; a != nil {
		if len(a.Policies)+len(a.Commands) == 0 {
			return nil, nil
		}
		var vals []any
		for _, p := range a.Policies {
			vals = append(vals, p)
		}
		cond := "r.state = 'pending' AND r.policy IN (" + places(len(vals)+1) + ")"
		vals = append(vals, "") // of commands that sign nothing
		if n := len(a.Commands); n > 0 {
			cond += " AND (r.policy <> '' OR r.command IN (" + places(n) + "))"
			for _, c := range a.Commands {
				vals = append(vals, string(c))
			}
		} else {
			cond += " AND r.policy <> ''"
		}
		and(cond, vals...)
		if len(a.Actors) > 0 {
			var actors []any
			for _, n := range a.Actors {
				actors = append(actors, n)
			}
			and("r.requester NOT IN ("+places(len(actors))+") AND NOT EXISTS (SELECT 1 FROM endorsements e WHERE e.request = r.id AND e.endorser IN ("+places(len(actors))+"))", append(actors, actors...)...)
		}
	}
	for _, eq := range []struct{ column, value string }{
		{"command", string(f.Command)}, {"policy", f.Policy}, {"key", f.Key}, {"requester", f.Requester},
	} {
		if eq.value != "" {
			and("r."+eq.column+" = ?", eq.value)
		}
	}
	if f.Command != "" && f.Command != statement.Sign {
		and("r.command <> 'sign'") // what the index is of
	}
	if f.Endorser != "" {
		and("EXISTS (SELECT 1 FROM endorsements e WHERE e.request = r.id AND e.endorser = ?)", f.Endorser)
	}
	if f.Name != "" {
		op := "LIKE" // of SQLite: capital letters are small ones
		if s.pool != nil {
			op = "ILIKE"
		}
		named := `EXISTS (SELECT 1 FROM files f WHERE f.request = r.id AND f.name ` + op + ` ? ESCAPE '\')`
		switch few, known, err := s.requestsNamed(ctx, f.Name); {
		case err != nil:
			return nil, s.wrap(err)
		case !known:
			and(named, like(f.Name))
		case len(few) == 0:
			and(`r.state <> 'executed' AND `+named, like(f.Name))
		default:
			and(`(r.id IN (`+places(len(few))+`) OR r.state <> 'executed' AND `+named+`)`, append(few, like(f.Name))...)
		}
	}
	if len(f.Content) > 0 {
		and("EXISTS (SELECT 1 FROM files f WHERE f.request = r.id AND f.content = ?)", f.Content)
	}
	if f.Prefix != "" {
		low, high, err := idRange(f.Prefix)
		if err != nil {
			return nil, err
		}
		and("r.id >= ? AND r.id <= ?", low, high)
	}
	if !f.Since.IsZero() {
		and("r.created >= ?", ms(f.Since))
	}
	if !f.Until.IsZero() {
		and("r.created < ?", ms(f.Until))
	}
	switch {
	case f.Before.IsZero():
	case f.BeforeID.IsZero():
		and("r.created < ?", ms(f.Before))
	default:
		and("(r.created < ? OR r.created = ? AND r.id > ?)", ms(f.Before), ms(f.Before), f.BeforeID[:])
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	q := `SELECT ` + requestColumns + ` FROM requests r`
	if len(where) > 0 {
		q += ` WHERE ` + strings.Join(where, " AND ")
	}
	q += fmt.Sprintf(` ORDER BY r.created DESC, r.id LIMIT %d`, min(limit, 1000))
	rows, err := s.read.QueryContext(ctx, q, args...)
	out, err := collect(rows, err, scanRequest)
	return out, s.wrap(err)
}

// places is n question marks.
func places(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// like turns a pattern with '*' into one of LIKE.
func like(p string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`).Replace(text(p))
}

// idRange is the span of IDs that begin with a hexadecimal prefix.
func idRange(prefix string) (low, high []byte, err error) {
	if len(prefix) > 64 {
		return nil, nil, fmt.Errorf("store: %q is longer than an ID", prefix)
	}
	l, err1 := statement.ParseID(prefix + strings.Repeat("0", 64-len(prefix)))
	h, err2 := statement.ParseID(prefix + strings.Repeat("f", 64-len(prefix)))
	if err1 != nil || err2 != nil {
		return nil, nil, fmt.Errorf("store: %q is not the beginning of an ID: want hexadecimal digits in lower case", prefix)
	}
	return l[:], h[:], nil
}

// Items returns the encoded items of a request, in order.
func (s *SQL) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	rows, err := s.rows(ctx, `SELECT data FROM items WHERE request = $1 ORDER BY chunk`, id[:])
	chunks, err := collect(rows, err, func(r scanner) ([][]byte, error) {
		var data []byte
		if err := r.Scan(&data); err != nil {
			return nil, err
		}
		var items [][]byte
		err := cbor.Unmarshal(data, &items)
		return items, err
	})
	if err != nil {
		return nil, s.wrap(err)
	}
	var out [][]byte
	for _, c := range chunks {
		out = append(out, c...)
	}
	return out, nil
}

func scanFile(r scanner) (File, error) {
	var f File
	var id []byte
	var index int64
	var also string
	err := r.Scan(&id, &index, &f.Name, &f.Format, &f.Digest, &f.Content, &f.Size, &f.Version, &f.Product, &f.Publisher, &also)
	copy(f.Request[:], id)
	f.Index, f.Also = int(index), digestsOf(also)
	return f, err
}

const fileColumns = `f.request, f.idx, f.name, f.format, f.digest, f.content, f.size, f.version, f.product, f.publisher, f.also`

// Files returns the items of a request as they are searched, in order.
func (s *SQL) Files(ctx context.Context, id statement.ID) ([]File, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+fileColumns+` FROM files f WHERE f.request = $1 ORDER BY f.idx`, id[:])
	out, err := collect(rows, err, scanFile)
	return out, s.wrap(err)
}

// FilesByContent finds executed files by their digest, the latest first.
func (s *SQL) FilesByContent(ctx context.Context, content []byte) ([]File, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+fileColumns+`
		FROM files f JOIN requests r ON r.id = f.request WHERE f.content = $1 AND r.state = 'executed' ORDER BY r.receipt DESC LIMIT 1000`, content)
	out, err := collect(rows, err, scanFile)
	return out, s.wrap(err)
}

// Result returns what Change.Result kept.
func (s *SQL) Result(ctx context.Context, id statement.ID) ([]byte, error) {
	var b []byte
	err := s.read.QueryRowContext(ctx, `SELECT data FROM results WHERE request = $1`, id[:]).Scan(&b)
	return b, s.wrap(err)
}

const receiptColumns = `number, request, outcome, time, envelope`

func (s *SQL) scanReceipt(row scanner) (*Receipt, error) {
	var r Receipt
	var number, t int64
	var id []byte
	var outcome string
	if err := row.Scan(&number, &id, &outcome, &t, &r.Envelope); err != nil {
		return nil, s.wrap(err)
	}
	copy(r.Request[:], id)
	r.Number, r.Outcome, r.Time = uint64(number), statement.Outcome(outcome), at(t)
	return &r, nil
}

// Receipt returns one receipt.
func (s *SQL) Receipt(ctx context.Context, number uint64) (*Receipt, error) {
	return s.scanReceipt(s.row(ctx, `SELECT `+receiptColumns+` FROM receipts WHERE number = $1`, int64(number)))
}

// LastReceipt returns the receipt with the highest number.
func (s *SQL) LastReceipt(ctx context.Context) (*Receipt, error) {
	return s.scanReceipt(s.read.QueryRowContext(ctx, `SELECT `+receiptColumns+` FROM receipts ORDER BY number DESC LIMIT 1`))
}

// MissingReceipts returns the first numbers above after, up to last, that are not
// here.
func (s *SQL) MissingReceipts(ctx context.Context, after, last uint64, limit int) ([]uint64, error) {
	var out []uint64
	next := after + 1
	for next <= last && len(out) < limit {
		rows, err := s.read.QueryContext(ctx, `SELECT number FROM receipts WHERE number >= $1 AND number <= $2 ORDER BY number LIMIT 10000`, int64(next), int64(last))
		have, err := collect(rows, err, func(r scanner) (n int64, err error) {
			err = r.Scan(&n)
			return n, err
		})
		if err != nil {
			return nil, s.wrap(err)
		}
		have = append(have, int64(last)+1)
		if len(have) > 10000 {
			have = have[:10000] // the last page ends the list, the others go on
		}
		for _, n := range have {
			for ; next < uint64(n) && len(out) < limit; next++ {
				out = append(out, next)
			}
			if len(out) == limit {
				break
			}
			next = uint64(n) + 1
		}
	}
	return out, nil
}

// Stuck returns requests that have been endorsed since before t. The open states
// are named so that the index of open requests serves.
func (s *SQL) Stuck(ctx context.Context, t time.Time, skip, limit int) ([]statement.ID, error) {
	return s.ids(ctx, `SELECT id FROM requests WHERE state IN ('pending', 'endorsed') AND state = 'endorsed' AND updated < $1
		ORDER BY updated, id LIMIT $2 OFFSET $3`, ms(t), int64(limit), int64(skip))
}

// Due returns open requests that have expired at t.
func (s *SQL) Due(ctx context.Context, t time.Time, limit int) ([]statement.ID, error) {
	return s.ids(ctx, `SELECT id FROM requests WHERE state IN ('pending', 'endorsed') AND sent = 0 AND expires <= $1 ORDER BY expires LIMIT $2`, ms(t), int64(limit))
}

// DueRequests returns the requests of Due, with their endorsements.
func (s *SQL) DueRequests(ctx context.Context, t time.Time, limit int) ([]*Request, error) {
	return s.wholeRequests(ctx, `r.id IN (SELECT id FROM requests WHERE state IN ('pending', 'endorsed') AND sent = 0 AND expires <= $1 ORDER BY expires LIMIT $2)`,
		`r.expires, r.id, e.seq`, ms(t), int64(limit))
}

func (s *SQL) ids(ctx context.Context, q string, args ...any) ([]statement.ID, error) {
	rows, err := s.read.QueryContext(ctx, q, args...)
	out, err := collect(rows, err, func(r scanner) (id statement.ID, err error) {
		var b []byte
		err = r.Scan(&b)
		copy(id[:], b)
		return id, err
	})
	return out, s.wrap(err)
}

// exec runs one statement on its own.
func (s *SQL) exec(ctx context.Context, q string, args ...any) (int64, error) {
	r, err := s.write.ExecContext(ctx, q, args...)
	if err != nil {
		return 0, s.wrap(err)
	}
	return r.RowsAffected()
}

// SetTimestamp keeps the token of one item's signature.
func (s *SQL) SetTimestamp(ctx context.Context, id statement.ID, index int, token []byte) error {
	_, err := s.exec(ctx, `INSERT INTO timestamps (request, idx, token) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, id[:], int64(index), token)
	return err
}

// Timestamps returns the tokens of a request by index.
func (s *SQL) Timestamps(ctx context.Context, id statement.ID) (map[int][]byte, error) {
	type row struct {
		index int64
		token []byte
	}
	rows, err := s.read.QueryContext(ctx, `SELECT idx, token FROM timestamps WHERE request = $1`, id[:])
	list, err := collect(rows, err, func(r scanner) (t row, err error) {
		err = r.Scan(&t.index, &t.token)
		return t, err
	})
	if err != nil {
		return nil, s.wrap(err)
	}
	out := make(map[int][]byte, len(list))
	for _, t := range list {
		out[int(t.index)] = t.token
	}
	return out, nil
}
