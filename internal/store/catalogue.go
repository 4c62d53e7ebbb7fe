package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// Catalogue is what was signed, file by file, as it is searched. It follows what is
// executed: [Catalogue.Search] brings it up to date first, as far as that is quick.
type Catalogue interface {
	// Search finds files of executed requests, the latest signed first.
	Search(ctx context.Context, f FileFilter) (*FoundPage, error)
	// Enter enters up to limit files that were signed and are not in the catalogue
	// yet. It returns how many; 0 when all are in it.
	Enter(ctx context.Context, limit int) (int, error)
}

// The facts of plans that are kept as File.Version, Product and Publisher, the
// better ones first.
var (
	factsVersion   = [...]string{"file-version", "version", "product-version", "bundle-version"}
	factsProduct   = [...]string{"product-name", "display-name", "title", "package", "id", "identifier", "bundle", "name"}
	factsPublisher = [...]string{"company-name", "manufacturer", "publisher", "vendor", "maintainer", "authors", "author", "team"}
)

// maxFact is how many characters of a product, a publisher or a version are kept.
const maxFact = 200

// FileOf describes item i of a request for searching.
func FileOf(id statement.ID, i int, it *format.Item, p *format.Plan) File {
	f := File{Request: id, Index: i, Name: it.Name, Format: p.Format, Digest: p.Digest, Content: p.Content, Size: p.Size}
	fact := func(names []string) string {
		for _, n := range names {
			for _, x := range p.Facts {
				if x.Name == n && x.Value != "" {
					return cut(x.Value, maxFact)
				}
			}
		}
		return ""
	}
	f.Version, f.Product, f.Publisher = fact(factsVersion[:]), fact(factsProduct[:]), fact(factsPublisher[:])
	for _, x := range p.Facts {
		_, v, found := strings.Cut(x.Value, ":") // "sha256:…"
		if !found {
			v = x.Value
		}
		if d, ok := digestOf(v); ok && len(f.Also) < maxAlso && !bytes.Equal(d, f.Content) && !slices.ContainsFunc(f.Also, func(b []byte) bool { return bytes.Equal(b, d) }) {
			f.Also = append(f.Also, d)
		}
	}
	return f
}

// maxAlso is the number of further digests of one file that are searched.
const maxAlso = 16

// digestOf reads a value that is as long as a digest and nothing but hexadecimal
// digits.
func digestOf(v string) ([]byte, bool) {
	switch len(v) {
	case 40, 56, 64, 96, 128:
	default:
		return nil, false
	}
	b, err := hex.DecodeString(v)
	return b, err == nil
}

func digestsText(list [][]byte) string {
	var s []string
	for _, d := range list {
		s = append(s, hex.EncodeToString(d))
	}
	return strings.Join(s, " ")
}

func digestsOf(s string) [][]byte {
	var out [][]byte
	for _, v := range strings.Fields(s) {
		if b, err := hex.DecodeString(v); err == nil {
			out = append(out, b)
		}
	}
	return out
}

func cut(s string, runes int) string {
	n := 0
	for i := range s {
		if n == runes {
			return s[:i]
		}
		n++
	}
	return s
}

// fold is text as it is compared: small letters.
func fold(s string) string { return text(strings.ToLower(text(s))) }

// grams are the runs of three letters of s, each once.
func grams(s string) []string {
	r := []rune(s)
	seen := map[string]bool{}
	out := []string{}
	for i := 0; i+3 <= len(r); i++ {
		if g := string(r[i : i+3]); !seen[g] {
			seen[g] = true
			out = append(out, g)
		}
	}
	return out
}

const (
	enterRequests = 256 // of one look at what waits
	enterFiles    = 512
)

// Enter enters files that were signed into the catalogue.
func (s *SQL) Enter(ctx context.Context, limit int) (int, error) {
	// Nothing waits, most of the time: seen without a transaction.
	var seq int64
	if err := s.read.QueryRowContext(ctx, `SELECT seq FROM catalogue_waiting ORDER BY seq LIMIT 1`).Scan(&seq); errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, s.wrap(err)
	}
	n := 0
	for n < limit {
		entered, done, err := s.enterSome(ctx, min(enterFiles, limit-n))
		if err != nil {
			return n, err
		}
		n += entered
		if done {
			break
		}
	}
	return n, nil
}

// enterSome is one transaction of Enter. done: nothing waits any more.
func (s *SQL) enterSome(ctx context.Context, limit int) (n int, done bool, err error) {
	err = s.inSQLTx(ctx, func(t tx) error {
		st := t.(sqlTx)
		n, done = 0, false
		if s.pool != nil {
			const lock = 0x67736563 // "gsec": one at a time gives numbers
			if _, err := st.tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lock)); err != nil {
				return err
			}
		}
		rows, err := st.query(ctx, `SELECT seq FROM catalogue_waiting ORDER BY seq LIMIT $1`, int64(enterRequests))
		waiting, err := collect(rows, err, func(r scanner) (seq int64, err error) { err = r.Scan(&seq); return seq, err })
		if err != nil {
			return err
		}
		if len(waiting) == 0 {
			done = true
			return nil
		}
		type row struct {
			seq, receipt, signed   int64
			policy, key, requester string
			file                   File
		}
		rows, err = st.query(ctx, `SELECT w.seq, r.receipt, r.updated, r.policy, r.key, r.requester, `+fileColumns+`
			FROM catalogue_waiting w JOIN requests r ON r.id = w.request JOIN files f ON f.request = w.request AND f.idx >= w.next
			WHERE w.seq IN (`+numbers(waiting)+`) AND r.state = 'executed' ORDER BY w.seq, f.idx LIMIT $1`, int64(limit))
		list, err := collect(rows, err, func(r scanner) (x row, err error) {
			x.file, err = scanFile(scanBefore{r, []any{&x.seq, &x.receipt, &x.signed, &x.policy, &x.key, &x.requester}})
			return x, err
		})
		if err != nil {
			return err
		}
		var last int64
		if err := st.tx.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM catalogue`).Scan(&last); err != nil {
			return err
		}
		in := inserts{texts: &s.texts}
		for _, x := range list {
			last++
			f, low := &x.file, fold(x.file.Name)
			columns, args := `seq, request, idx, signed, name, fold, format, digest, content, size, version, product, publisher, maker, thing, policy, key, requester, receipt`,
				[]any{last, f.Request[:], int64(f.Index), x.signed, f.Name, low, f.Format, f.Digest, f.Content, f.Size, f.Version, f.Product, f.Publisher,
					fold(f.Publisher), fold(f.Product), x.policy, x.key, x.requester, x.receipt}
			if s.pool != nil {
				columns, args = columns+", grams", append(args, grams(low))
			} else {
				in.add(`INSERT INTO catalogue_grams (rowid, fold)`, "", small, last, low)
			}
			in.add(`INSERT INTO catalogue (`+columns+`)`, "", small, args...)
			for _, d := range append([][]byte{f.Content}, f.Also...) {
				in.add(`INSERT INTO catalogue_digests (digest, seq)`, " ON CONFLICT DO NOTHING", small, d, last)
			}
		}
		n = len(list)
		ss := in.stmts()
		ended := waiting
		if n == limit { // perhaps there is more of the last one
			at := list[n-1]
			ended = waiting[:slices.Index(waiting, at.seq)]
			ss = append(ss, stmt{`UPDATE catalogue_waiting SET next = $1 WHERE seq = $2`, []any{int64(at.file.Index) + 1, at.seq}})
		}
		if len(ended) > 0 {
			ss = append(ss, stmt{`DELETE FROM catalogue_waiting WHERE seq IN (` + numbers(ended) + `)`, nil})
		}
		_, err = st.run(ctx, ss)
		return err
	})
	return n, done, s.wrap(err)
}

// numbers writes numbers for a list of SQL. They are ours, not a caller's.
func numbers(list []int64) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// scanBefore scans more columns before those that its caller names.
type scanBefore struct {
	row  scanner
	more []any
}

func (s scanBefore) Scan(dst ...any) error {
	return s.row.Scan(append(slices.Clone(s.more), dst...)...)
}

// catchUp is how many files a search enters at the most before it looks.
const catchUp = 4096

// few is how many files a part of a search may find that is not in order of time:
// these are all looked at. Of more, the newest are looked through.
const few = 1000

// requestsNamed are the executed requests with a file of this name, when they are
// few and the catalogue knows them all: known.
func (s *SQL) requestsNamed(ctx context.Context, pattern string) (ids []any, known bool, err error) {
	if n, err := s.Enter(ctx, catchUp); err != nil || n == catchUp {
		return nil, false, err
	}
	seqs, found, err := s.named(ctx, pattern)
	if err != nil || !found {
		return nil, false, err
	}
	if len(seqs) == 0 {
		return nil, true, nil
	}
	in, arg := s.among("c.seq", 1, seqs)
	rows, err := s.read.QueryContext(ctx, `SELECT DISTINCT c.request FROM catalogue c WHERE `+in+` AND c.fold LIKE $2 ESCAPE '\'`, arg, like(fold(pattern)))
	list, err := collect(rows, err, func(r scanner) (b []byte, err error) { err = r.Scan(&b); return b, err })
	for _, b := range list {
		ids = append(ids, b)
	}
	return ids, err == nil, err
}

// among is the condition that a column of numbers is in a list, with its argument:
// one text for all lists.
func (s *SQL) among(column string, place int, list []int64) (string, any) {
	if s.pool != nil {
		return fmt.Sprintf("%s = ANY($%d)", column, place), list
	}
	b, _ := json.Marshal(list) // numbers
	return fmt.Sprintf("%s IN (SELECT value FROM json_each($%d))", column, place), string(b)
}

// named finds the files whose name can match a pattern, if they are few: found.
// Whoever asks compares the names.
func (s *SQL) named(ctx context.Context, pattern string) (seqs []int64, found bool, err error) {
	low := fold(pattern)
	head, _, star := strings.Cut(low, "*")
	var q string
	var args []any
	switch {
	case !star || len([]rune(head)) >= 3: // the name begins with head
		from := cut(head, 100)
		q, args = `SELECT seq FROM catalogue WHERE substr(fold, 1, 100) = $1 LIMIT `, []any{from}
		if star {
			q, args = `SELECT seq FROM catalogue WHERE substr(fold, 1, 100) >= $1 AND substr(fold, 1, 100) < $2 LIMIT `, []any{from, from + "\U0010FFFF"}
			if s.pool != nil {
				q = `SELECT seq FROM catalogue WHERE substr(fold, 1, 100) ~>=~ $1 AND substr(fold, 1, 100) ~<~ $2 LIMIT `
			}
		}
	default:
		var gs []string
		for _, part := range strings.Split(low, "*") {
			gs = append(gs, grams(part)...)
		}
		if len(gs) == 0 {
			return nil, false, nil
		}
		// Each costs reading where it stands, and those with a digit stand in few
		// names: the rest is left to whoever compares the names.
		slices.SortStableFunc(gs, func(x, y string) int { return digits(y) - digits(x) })
		gs = gs[:min(len(gs), askedGrams)]
		if s.pool != nil {
			q, args = `SELECT seq FROM catalogue WHERE grams @> $1 LIMIT `, []any{gs}
			break
		}
		for i, g := range gs {
			gs[i] = `"` + strings.ReplaceAll(g, `"`, `""`) + `"`
		}
		q, args = `SELECT rowid FROM catalogue_grams WHERE catalogue_grams MATCH $1 LIMIT `, []any{strings.Join(gs, " AND ")}
	}
	return s.seqs(ctx, q, args...)
}

// askedGrams is how many runs of letters are looked up for one name.
const askedGrams = 8

// digits counts the digits of s.
func digits(s string) (n int) {
	for _, r := range s {
		if r >= '0' && r <= '9' {
			n++
		}
	}
	return n
}

// seqs runs a query for numbers of files up to a limit; found is false when there
// are more than few.
func (s *SQL) seqs(ctx context.Context, q string, args ...any) ([]int64, bool, error) {
	rows, err := s.read.QueryContext(ctx, q+fmt.Sprint(few+1), args...)
	list, err := collect(rows, err, func(r scanner) (n int64, err error) { err = r.Scan(&n); return n, err })
	if err != nil || len(list) > few {
		return nil, false, err
	}
	return list, true, nil
}
