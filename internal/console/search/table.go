package search

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/csv"
	"encoding/hex"
	"encoding/json/v2"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
)

func newID() string {
	b := make([]byte, 10)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

// Cell makes text harmless to spreadsheets: what begins like a formula gets an
// apostrophe before it (OWASP, CSV injection). Spreadsheets of some languages part cells
// at semicolons, and then take no quotation marks of others: what stands behind one, or
// on another line, is the beginning of a cell there.
func Cell(s string) string {
	var b strings.Builder
	if s != "" && strings.ContainsRune("\t\r\n", rune(s[0])) {
		b.WriteByte('\'')
	}
	for {
		i := strings.IndexAny(s, ";\t\r\n")
		if i < 0 {
			return b.String() + begin(s)
		}
		b.WriteString(begin(s[:i]) + s[i:i+1])
		s = s[i+1:]
	}
}

// begin is Cell for what no spreadsheet parts.
func begin(s string) string {
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	// Some spreadsheets pass over spaces, and take the wide forms for the narrow.
	if t := strings.TrimLeft(s, " \u00a0\u3000"); t != "" && (strings.ContainsRune("=+-@", rune(t[0])) || strings.HasPrefix(t, "＝") || strings.HasPrefix(t, "＋") || strings.HasPrefix(t, "－") || strings.HasPrefix(t, "＠")) {
		return "'" + s
	}
	return s
}

// table writes rows as they come.
type table struct {
	w *csv.Writer
	f http.Flusher
	n int
}

// flushEvery is how many rows are sent together.
const flushEvery = 500

func newTable(v *web.Visit, name string, columns ...string) (*table, error) {
	h := v.Writer.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	t := &table{w: csv.NewWriter(v.Writer)}
	t.f, _ = v.Writer.(http.Flusher)
	t.w.UseCRLF = true // RFC 4180
	return t, t.row(columns...)
}

func (t *table) row(cells ...string) error {
	for i := range cells {
		cells[i] = Cell(cells[i])
	}
	if err := t.w.Write(cells); err != nil {
		return err
	}
	if t.n++; t.n%flushEvery == 0 {
		t.flush()
	}
	return t.w.Error()
}

func (t *table) flush() {
	t.w.Flush()
	if t.f != nil {
		t.f.Flush()
	}
}

// end ends a table. An error in the middle cuts the connection, so that nobody takes
// half a table for the whole.
func (t *table) end(more bool, err error) error {
	if err == nil && more {
		err = t.row("there is more: narrow the search")
	}
	t.flush()
	if err != nil || t.w.Error() != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (a *area) csv(v *web.Visit) error {
	done, err := a.begin(v)
	if err != nil {
		return err
	}
	defer done()
	f, err := a.filter(v)
	if err != nil {
		return err
	}
	t, err := newTable(v, "greatseal-search", "signed", "name", "format", "digest", "content", "size", "version", "product", "publisher", "policy", "key", "requester", "receipt", "log entry", "request", "file")
	if err != nil {
		return err
	}
	more, err := a.each(v.Request.Context(), f, maxTable, func(x *store.Found) error {
		entry := ""
		if x.Entry >= 0 {
			entry = strconv.FormatInt(x.Entry, 10)
		}
		return t.row(x.Signed.Format(time.RFC3339), x.Name, x.Format, x.Digest, hex.EncodeToString(x.Content), strconv.FormatInt(x.Size, 10), x.Version, x.Product, x.Publisher,
			x.Policy, x.Key, x.Requester, strconv.FormatUint(x.Receipt, 10), entry, x.Request.String(), strconv.Itoa(x.Index))
	})
	return t.end(more, err)
}

// File is a file in JSON.
type File struct {
	Signed    time.Time `json:"signed"`
	Name      string    `json:"name"`
	Format    string    `json:"format"`
	Digest    string    `json:"digest"`
	Content   string    `json:"content"`
	Size      int64     `json:"size"`
	Version   string    `json:"version,omitzero"`
	Product   string    `json:"product,omitzero"`
	Publisher string    `json:"publisher,omitzero"`
	Policy    string    `json:"policy"`
	Key       string    `json:"key"`
	Requester string    `json:"requester"`
	Receipt   uint64    `json:"receipt"`
	Entry     *int64    `json:"entry,omitzero"` // of the log; none: not in it yet
	Request   string    `json:"request"`
	Index     int       `json:"index"`
}

func fileOf(x *store.Found) File {
	f := File{Signed: x.Signed, Name: x.Name, Format: x.Format, Digest: x.Digest, Content: hex.EncodeToString(x.Content), Size: x.Size, Version: x.Version, Product: x.Product,
		Publisher: x.Publisher, Policy: x.Policy, Key: x.Key, Requester: x.Requester, Receipt: x.Receipt, Request: x.Request.String(), Index: x.Index}
	if x.Entry >= 0 {
		f.Entry = &x.Entry
	}
	return f
}

// json answers with an array, written as it is found.
func (a *area) json(v *web.Visit) error {
	done, err := a.begin(v)
	if err != nil {
		return err
	}
	defer done()
	f, err := a.filter(v)
	if err != nil {
		return err
	}
	v.Writer.Header().Set("Content-Type", "application/json")
	begin := "["
	_, err = a.each(v.Request.Context(), f, maxTable, func(x *store.Found) error {
		b, err := json.Marshal(fileOf(x), json.Deterministic(true))
		if err != nil {
			return err
		}
		_, err = io.WriteString(v.Writer, begin+string(b))
		begin = ",\n"
		return err
	})
	if begin == "[" && err == nil {
		_, err = io.WriteString(v.Writer, "[")
	}
	if err == nil {
		_, err = io.WriteString(v.Writer, "]\n")
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}
