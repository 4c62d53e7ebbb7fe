package apt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/openpgp"
)

const (
	maxRelease = 256 << 20
	maxFields  = 64
	maxFact    = 1000
)

// fields reads a Release file (deb-release(5), one paragraph of deb822) while it goes
// by: its fields of one line, and how many indices it has SHA-256 digests of.
type fields struct {
	line  []byte
	value map[string]string
	order []string
	last  string // name of the field that continuation lines belong to
	ended bool   // an empty line was there
	files int
	size  int64
}

var errRelease = errors.New("apt: not a Release file")

// Write takes a piece.
func (r *fields) Write(b []byte) (int, error) {
	n := len(b)
	if r.size += int64(n); r.size > maxRelease {
		return 0, fmt.Errorf("%w: more than %d bytes", errRelease, maxRelease)
	}
	for len(b) > 0 {
		piece, rest, ended := bytes.Cut(b, []byte{'\n'})
		if r.line = append(r.line, piece...); len(r.line) > openpgp.MaxLine {
			return 0, fmt.Errorf("%w: line of more than %d bytes", errRelease, openpgp.MaxLine)
		}
		if ended {
			if err := r.take(string(bytes.TrimSuffix(r.line, []byte{'\r'}))); err != nil {
				return 0, err
			}
			r.line = r.line[:0]
		}
		b = rest
	}
	return n, nil
}

func (r *fields) take(l string) error {
	switch {
	case !utf8.ValidString(l) || strings.ContainsFunc(l, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
		return fmt.Errorf("%w: a line that is not text", errRelease)
	case strings.TrimSpace(l) == "":
		r.ended = true
		return nil
	case r.ended: // apt reads the first paragraph, other readers all
		return fmt.Errorf("%w: a second paragraph", errRelease)
	case l[0] == ' ' || l[0] == '\t':
		return r.entry(l)
	}
	name, value, ok := strings.Cut(l, ":")
	if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' {
		return fmt.Errorf("%w: line %.60q", errRelease, l)
	}
	r.last = strings.ToLower(name) // deb822 field names are not case-sensitive
	if _, twice := r.value[r.last]; twice {
		return fmt.Errorf("%w: field %s twice", errRelease, name)
	}
	if len(r.order) == maxFields {
		return fmt.Errorf("%w: more than %d fields", errRelease, maxFields)
	}
	r.value[r.last] = strings.TrimSpace(value)
	r.order = append(r.order, r.last)
	return nil
}

// entry reads a continuation line: of SHA256 it is digest, size and path of an index.
func (r *fields) entry(l string) error {
	if r.last == "" {
		return fmt.Errorf("%w: it begins with a continuation", errRelease)
	}
	switch r.last {
	case "sha256":
	case "md5sum", "sha1", "sha512":
		return nil
	default: // a value of several lines is one to apt; what is too long is no fact, and says so
		if v := r.value[r.last]; len(v) <= maxFact {
			r.value[r.last] = strings.TrimSpace(v + " " + strings.TrimSpace(l))
		}
		return nil
	}
	f := strings.Fields(l)
	bad := fmt.Errorf("%w: entry %.80q", errRelease, l)
	if len(f) != 3 {
		return bad
	}
	if d, err := hex.DecodeString(f[0]); err != nil || len(d) != 32 {
		return bad
	}
	if n, err := strconv.ParseInt(f[1], 10, 64); err != nil || n < 0 {
		return bad
	}
	if path.IsAbs(f[2]) || path.Clean(f[2]) != f[2] || f[2] == ".." || strings.HasPrefix(f[2], "../") {
		return bad
	}
	r.files++
	return nil
}

// finish ends the file.
func (r *fields) finish() error {
	if len(r.line) > 0 {
		if err := r.take(string(r.line)); err != nil {
			return err
		}
		r.line = nil
	}
	if r.files == 0 {
		return fmt.Errorf("%w: no index has a SHA-256 digest", errRelease)
	}
	at, err := when(r.value["date"])
	if err != nil {
		return fmt.Errorf("%w: no Date that can be read", errRelease)
	}
	if v, ok := r.value["valid-until"]; ok {
		until, err := when(v)
		if err != nil || !until.After(at) {
			return fmt.Errorf("%w: Valid-Until is not after Date", errRelease)
		}
	}
	return nil
}

// when reads a time as apt writes it.
func when(s string) (time.Time, error) {
	for _, l := range []string{time.RFC1123, time.RFC1123Z, "Mon, 2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(l, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("apt: time is not readable")
}

// visible makes of characters that would change how a line is read a question mark.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if format.Turns(c) {
			return '?'
		}
		return c
	}, s)
}

// facts are what endorsers want to know.
func (r *fields) facts() (out []format.Fact) {
	for _, n := range []string{"origin", "label", "suite", "codename", "version", "date", "valid-until", "architectures", "components", "description",
		"acquire-by-hash", "notautomatic", "butautomaticupgrades", "signed-by"} {
		switch v := r.value[n]; {
		case v == "":
		case len(v) > maxFact:
			out = append(out, format.Fact{Name: n, Value: "(too long to show)"})
		default:
			out = append(out, format.Fact{Name: n, Value: visible(v)})
		}
	}
	return append(out, format.Fact{Name: "indices", Value: strconv.Itoa(r.files)})
}

func newRelease() *fields { return &fields{value: map[string]string{}} }

// looksLike says whether the beginning of a text is that of a Release file.
func looksLike(head []byte) bool {
	var names []string
	for _, l := range strings.Split(string(head), "\n") {
		if n, _, ok := strings.Cut(l, ":"); ok && !strings.HasPrefix(l, " ") {
			names = append(names, strings.ToLower(n))
		}
	}
	return slices.Contains(names, "date") && (slices.Contains(names, "suite") || slices.Contains(names, "codename") || slices.Contains(names, "architectures")) &&
		(slices.Contains(names, "md5sum") || slices.Contains(names, "sha1") || slices.Contains(names, "sha256"))
}
