package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// FileFilter selects files that were signed; zero members select everything.
type FileFilter struct {
	Digest    string // any digest of the plan, hexadecimal, or 8 digits or more of its beginning
	Name      string // '*' matches anything, a letter its capital
	Product   string // a letter matches its capital, in the next one too
	Publisher string
	Policy    string
	Key       string
	Format    string
	Requester string
	Endorser  string // who endorsed the request
	Person    string // requester or endorser
	Since     time.Time
	Until     time.Time
	After     Place // page on: what comes after this file
	Limit     int   // default 50, at most 1000
}

// Place is where a file stands in the order of a search: the latest first.
type Place struct {
	Signed time.Time
	Number int64
}

// IsZero reports whether p is no place.
func (p Place) IsZero() bool { return p.Number == 0 }

// String is a place in an address.
func (p Place) String() string {
	if p.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d-%d", ms(p.Signed), p.Number)
}

// ParsePlace is the inverse of String.
func ParsePlace(s string) (Place, error) {
	if s == "" {
		return Place{}, nil
	}
	var t, n int64
	if _, err := fmt.Sscanf(s, "%d-%d", &t, &n); err != nil || n <= 0 || t < 0 || fmt.Sprintf("%d-%d", t, n) != s {
		return Place{}, fmt.Errorf("store: %.40q is no place in a search", s)
	}
	return Place{at(t), n}, nil
}

// Found is one file that was signed.
type Found struct {
	File
	Place
	Policy    string
	Key       string
	Requester string
	Receipt   uint64
	Entry     int64 // the receipt's in the log; -1: not in it yet
}

// FoundPage is one page of a search.
type FoundPage struct {
	Files []Found
	Next  Place // where the next page begins; zero at the end
	// Stopped says that the page may be short, or empty, because enough files were
	// looked at for one page: the next one looks on.
	Stopped bool
	// Behind says that files which were just signed are not in the catalogue yet.
	Behind bool
}

// ErrManyDigests says that too many digests begin with so few digits.
var ErrManyDigests = errors.New("store: many digests begin like this: more digits are wanted")

// MinDigest is how many digits of a digest are enough to search for it.
const MinDigest = 8

const foundColumns = `c.request, c.idx, c.name, c.format, c.digest, c.content, c.size, c.version, c.product, c.publisher, c.signed, c.seq, c.policy, c.key, c.requester, c.receipt`

func scanFound(r scanner) (x Found, err error) {
	var id []byte
	var index, signed, receipt int64
	err = r.Scan(&id, &index, &x.Name, &x.Format, &x.Digest, &x.Content, &x.Size, &x.Version, &x.Product, &x.Publisher,
		&signed, &x.Number, &x.Policy, &x.Key, &x.Requester, &receipt)
	copy(x.File.Request[:], id)
	x.Index, x.Signed, x.Receipt, x.Entry = int(index), at(signed), uint64(receipt), -1
	return x, err
}

// conditions are parts of a WHERE with their arguments.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) and(cond string, vals ...any) {
	for _, v := range vals {
		if s, ok := v.(string); ok {
			v = text(s)
		}
		c.args = append(c.args, v)
		cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(c.args)), 1)
	}
	c.parts = append(c.parts, cond)
}

func (c *conditions) where() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

func (c *conditions) clone() *conditions {
	return &conditions{append([]string(nil), c.parts...), append([]any(nil), c.args...)}
}

// How many files are looked at for one page, first and at the most: a first look
// finds a page of what is frequent.
const (
	firstLook = 500
	lastLook  = 2500
)

// Search finds files of executed requests. What a filter finds in no order (a name,
// a digest, an endorser) is looked at whole when it is little; otherwise the newest
// files are looked through, along the index of another filter if there is one, a
// bounded number for each page.
func (s *SQL) Search(ctx context.Context, f FileFilter) (*FoundPage, error) {
	entered, err := s.Enter(ctx, catchUp)
	if err != nil && !errors.Is(err, ErrBusy) { // what is there can be searched all the same
		return nil, err
	}
	out := &FoundPage{Files: []Found{}, Behind: entered == catchUp || err != nil}
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 1000)
	// ordered are the conditions that an index in order of time serves, rest all.
	ordered, rest := &conditions{}, &conditions{}
	served := false
	for _, c := range []struct{ column, value string }{
		{"thing", fold(f.Product)}, {"maker", fold(f.Publisher)}, {"requester", f.Requester}, {"key", f.Key}, {"policy", f.Policy}, {"format", f.Format},
	} {
		if c.value == "" {
			continue
		}
		cond := "c." + c.column + " = ?"
		if c.column == "thing" || c.column == "maker" {
			cond += " AND c." + c.column + " <> ''" // what the index is of
		}
		if !served {
			ordered.and(cond, c.value)
			served = true
		}
		rest.and(cond, c.value)
	}
	if !f.Since.IsZero() {
		ordered.and("c.signed >= ?", ms(f.Since))
	}
	if !f.Until.IsZero() {
		ordered.and("c.signed < ?", ms(f.Until))
	}
	if f.Name != "" {
		rest.and(`c.fold LIKE ? ESCAPE '\'`, like(fold(f.Name)))
	}
	const endorsed = "EXISTS (SELECT 1 FROM endorsements e WHERE e.request = c.request AND e.endorser = ? AND e.verdict = 'endorse')"
	if f.Endorser != "" {
		rest.and(endorsed, f.Endorser)
	}
	if f.Person != "" {
		rest.and("(c.requester = ? OR "+endorsed+")", f.Person, f.Person)
	}
	on := &search{ordered: ordered, rest: rest, limit: limit, from: f.After}
	looks := []int{max(firstLook, limit+1), lastLook}
	if f.Digest == "" && strings.Contains(f.Name, "*") {
		// What many files are called fills a page with the newest: that is seen sooner than
		// an index of names is read.
		ended, err := s.look(ctx, out, on, looks[0])
		if err != nil || ended {
			return out, s.wrap(err)
		}
		looks = looks[1:]
	}
	list, listed, err := s.listed(ctx, f)
	if err != nil {
		return nil, s.wrap(err)
	}
	if listed {
		out.Files = out.Files[:0]
		if len(list) == 0 {
			return out, nil
		}
		return out, s.wrap(s.searchList(ctx, out, f, list, rest, limit))
	}
	return out, s.wrap(s.searchOn(ctx, out, on, looks))
}

// listed gives the numbers of all files that a filter without order can match, if it
// has one whose files are few: listed.
func (s *SQL) listed(ctx context.Context, f FileFilter) (list []int64, listed bool, err error) {
	if f.Digest != "" {
		low, high, err := digestRange(f.Digest)
		if err != nil {
			return nil, false, err
		}
		list, ok, err := s.seqs(ctx, `SELECT seq FROM catalogue_digests WHERE digest >= $1 AND digest <= $2 ORDER BY seq DESC LIMIT `, low, high)
		if err == nil && !ok {
			return nil, false, ErrManyDigests
		}
		return list, true, err
	}
	if f.Name != "" {
		if list, ok, err := s.named(ctx, f.Name); err != nil || ok {
			return list, ok, err
		}
	}
	if who := f.Endorser; who != "" {
		if list, ok, err := s.spoken(ctx, text(who)); err != nil || ok {
			return list, ok, err
		}
	}
	if who := f.Person; who != "" {
		list, ok, err := s.spoken(ctx, text(who))
		if err != nil || !ok {
			return nil, false, err
		}
		own, ok, err := s.seqs(ctx, `SELECT seq FROM catalogue WHERE requester = $1 LIMIT `, text(who))
		return append(list, own...), ok, err
	}
	return nil, false, nil
}

// spoken finds the files of the requests that somebody has endorsed or disapproved, if
// they are few. The requests are read first: a planner that does not know how rare he is
// would look through the files of everybody. Of one who speaks on more of them than few
// nothing is looked up: he is found along the way.
func (s *SQL) spoken(ctx context.Context, who string) ([]int64, bool, error) {
	rows, err := s.read.QueryContext(ctx, fmt.Sprintf(`SELECT request FROM endorsements WHERE endorser = $1 LIMIT %d`, few+1), who)
	requests, err := collect(rows, err, func(r scanner) (id any, err error) {
		var b []byte
		err = r.Scan(&b)
		return b, err
	})
	switch {
	case err != nil:
		return nil, false, err
	case len(requests) == 0:
		return nil, true, nil
	case len(requests) > few:
		return nil, false, nil
	}
	return s.seqs(ctx, `SELECT seq FROM catalogue WHERE request IN (`+marks(0, len(requests))+`) LIMIT `, requests...)
}

// digestRange is the span of digests that begin with hexadecimal digits. A digest is
// at most 64 bytes.
func digestRange(prefix string) (low, high []byte, err error) {
	if len(prefix) > 128 || len(prefix) < MinDigest {
		return nil, nil, fmt.Errorf("store: digest of %d digits: want %d to 128", len(prefix), MinDigest)
	}
	even := prefix
	if len(prefix)%2 == 1 {
		even = prefix + "0"
	}
	if low, err = hex.DecodeString(even); err == nil && len(prefix)%2 == 1 {
		even = prefix + "f"
	}
	if err != nil {
		return nil, nil, fmt.Errorf("store: digest: want hexadecimal digits")
	}
	high, _ = hex.DecodeString(even)
	for len(high) < 65 { // longer than every digest
		high = append(high, 0xff)
	}
	return low, high, nil
}

// searchList finds a page among listed files.
func (s *SQL) searchList(ctx context.Context, out *FoundPage, f FileFilter, list []int64, rest *conditions, limit int) error {
	c := rest.clone()
	in, arg := s.among("c.seq", len(c.args)+1, list)
	c.args = append(c.args, arg)
	c.parts = append(c.parts, in)
	if !f.Since.IsZero() {
		c.and("c.signed >= ?", ms(f.Since))
	}
	if !f.Until.IsZero() {
		c.and("c.signed < ?", ms(f.Until))
	}
	after(c, f.After)
	rows, err := s.read.QueryContext(ctx, fmt.Sprintf(`SELECT `+foundColumns+` FROM catalogue c`+c.where()+` ORDER BY c.signed DESC, c.seq DESC LIMIT %d`, limit+1), c.args...)
	if out.Files, err = collect(rows, err, scanFound); err != nil {
		return err
	}
	return s.finish(ctx, out, limit)
}

func after(c *conditions, p Place) {
	if !p.IsZero() {
		c.and("(c.signed, c.seq) < (?, ?)", ms(p.Signed), p.Number)
	}
}

// search is a page that is looked for along an index in order of time.
type search struct {
	ordered, rest *conditions
	limit         int
	from          Place // where it goes on
}

// searchOn finds a page, or what is left of it, in looks at so many files.
func (s *SQL) searchOn(ctx context.Context, out *FoundPage, x *search, looks []int) error {
	for _, files := range looks {
		if ended, err := s.look(ctx, out, x, files); err != nil || ended {
			return err
		}
	}
	out.Next, out.Stopped = x.from, true
	return s.finish(ctx, out, x.limit)
}

// look looks at so many files. It reports whether the page is there: it is full, or
// these were the last files.
func (s *SQL) look(ctx context.Context, out *FoundPage, x *search, files int) (ended bool, err error) {
	inner := x.ordered.clone()
	after(inner, x.from)
	sub := fmt.Sprintf(`SELECT `+foundColumns+`, c.fold, c.maker, c.thing FROM catalogue c`+inner.where()+` ORDER BY c.signed DESC, c.seq DESC LIMIT %d`, files)
	c := &conditions{args: inner.args}
	c.parts = renumber(x.rest.parts, len(inner.args))
	c.args = append(c.args, x.rest.args...)
	rows, err := s.read.QueryContext(ctx, fmt.Sprintf(`SELECT `+foundColumns+` FROM (`+sub+`) c`+c.where()+` ORDER BY c.signed DESC, c.seq DESC LIMIT %d`, x.limit+1-len(out.Files)), c.args...)
	list, err := collect(rows, err, scanFound)
	if err != nil {
		return false, err
	}
	if out.Files = append(out.Files, list...); len(out.Files) > x.limit {
		return true, s.finish(ctx, out, x.limit)
	}
	// Where the look ended, if it did not come to the end.
	var signed, number int64
	err = s.read.QueryRowContext(ctx, fmt.Sprintf(`SELECT c.signed, c.seq FROM catalogue c`+inner.where()+` ORDER BY c.signed DESC, c.seq DESC LIMIT 1 OFFSET %d`, files-1), inner.args...).Scan(&signed, &number)
	if errors.Is(err, sql.ErrNoRows) {
		return true, s.finish(ctx, out, x.limit)
	}
	if err != nil {
		return false, err
	}
	x.from = Place{at(signed), number}
	return false, nil
}

// renumber moves the places of arguments on by n.
func renumber(parts []string, n int) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		var b strings.Builder
		for j := 0; j < len(p); j++ {
			b.WriteByte(p[j])
			if p[j] != '$' {
				continue
			}
			v := 0
			for j+1 < len(p) && p[j+1] >= '0' && p[j+1] <= '9' {
				j++
				v = 10*v + int(p[j]-'0')
			}
			fmt.Fprint(&b, v+n)
		}
		out[i] = b.String()
	}
	return out
}

// finish cuts a page to its limit and says where its receipts are in the log.
func (s *SQL) finish(ctx context.Context, out *FoundPage, limit int) error {
	if len(out.Files) > limit {
		out.Files = out.Files[:limit]
		out.Next = out.Files[limit-1].Place
	}
	at := map[statement.ID]int64{}
	for _, x := range out.Files {
		at[x.Request] = -1
	}
	if len(at) == 0 {
		return nil
	}
	c := &conditions{}
	var ids []any
	for id := range at {
		ids = append(ids, append([]byte(nil), id[:]...))
	}
	c.and("request IN ("+places(len(ids))+")", ids...)
	rows, err := s.read.QueryContext(ctx, `SELECT request, idx FROM log_entries`+c.where()+` AND kind = 'receipt' ORDER BY idx`, c.args...)
	_, err = collect(rows, err, func(r scanner) (struct{}, error) {
		var b []byte
		var idx int64
		err := r.Scan(&b, &idx)
		var id statement.ID
		copy(id[:], b)
		at[id] = idx
		return struct{}{}, err
	})
	for i := range out.Files {
		out.Files[i].Entry = at[out.Files[i].Request]
	}
	return err
}
