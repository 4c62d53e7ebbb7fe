package sql

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/rejection"
)

// Dialect is a database's language, as far as its tokens differ.
type Dialect string

// The dialects.
const (
	PostgreSQL Dialect = "postgresql"
	MariaDB    Dialect = "mariadb"
	SQLite     Dialect = "sqlite"
)

// maxStatement is the longest statement, in bytes.
const maxStatement = 1 << 20

// Statement is one statement with placeholders of its dialect.
type Statement struct {
	Text   string
	Params []string // names in the order of the placeholders: $1… of PostgreSQL name each once, ? of the others each time
}

// Bind finds the named parameters (":name") of a statement: outside strings, quoted
// names and comments. It refuses a second statement, placeholders of other kinds,
// comments that a database executes, and whatever does not end. Its tokens are those
// of the dialect with standard_conforming_strings on (PostgreSQL) and a sql_mode
// without ANSI_QUOTES and NO_BACKSLASH_ESCAPES (MariaDB); the executor sets both.
func Bind(d Dialect, text string) (*Statement, error) {
	if len(text) > maxStatement || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, bad("is too long, or not UTF-8 text")
	}
	s := &scanner{d: d, in: text, number: map[string]int{}}
	if err := s.all(); err != nil {
		return nil, err
	}
	if strings.TrimSpace(s.code.String()) == "" {
		return nil, bad("is empty")
	}
	return &Statement{Text: s.out.String(), Params: s.params}, nil
}

func bad(format string, args ...any) error {
	return exec.Malformed("sql_statement", fmt.Sprintf(format, args...))
}

type scanner struct {
	d      Dialect
	in     string
	at     int
	out    strings.Builder
	code   strings.Builder // what is not white space or comment, to know whether there is any
	params []string
	number map[string]int
	ended  bool // a semicolon was seen
	keep   bool // parameters stay as they are
	depth  int  // of parentheses
}

func (s *scanner) peek(n int) byte {
	if s.at+n < len(s.in) {
		return s.in[s.at+n]
	}
	return 0
}

// take copies n bytes of code.
func (s *scanner) take(n int) {
	s.out.WriteString(s.in[s.at : s.at+n])
	s.code.WriteString(s.in[s.at : s.at+n])
	s.at += n
}

// skip leaves n bytes of a comment out; a blank takes their place, as in the database.
func (s *scanner) skip(n int) {
	s.out.WriteByte(' ')
	s.at += n
}

func (s *scanner) all() error {
	for s.at < len(s.in) {
		c := s.in[s.at]
		if s.ended && !space(c) && !s.comment() {
			return bad("holds a second statement")
		}
		if err := s.token(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) comment() bool {
	c, n := s.in[s.at], s.peek(1)
	return c == '/' && n == '*' || c == '-' && n == '-' || c == '#' && s.d == MariaDB
}

func (s *scanner) token(c byte) error {
	next := s.peek(1)
	switch {
	case space(c):
		s.out.WriteByte(c)
		s.at++
	case c == '-' && next == '-' && (s.d != MariaDB || space(s.peek(2)) || s.at+2 == len(s.in)):
		s.line()
	case c == '#' && s.d == MariaDB:
		s.line()
	case c == '/' && next == '*':
		return s.block()
	case c == ';':
		s.ended = true
		s.out.WriteByte(' ')
		s.at++
	case c == '\'':
		return s.quoted('\'', s.d == MariaDB)
	case c == '"':
		return s.quoted('"', s.d == MariaDB)
	case c == '`' && s.d != PostgreSQL:
		return s.quoted('`', false)
	case c == '[' && s.d == SQLite:
		return s.quoted(']', false)
	case s.d == PostgreSQL && c == '$':
		return s.dollar()
	case c == '?' && s.d != PostgreSQL, (c == '$' || c == '@') && s.d == SQLite:
		return bad("has a placeholder that is not :name")
	case c == ':':
		return s.parameter()
	case identStart(c) || c >= '0' && c <= '9':
		return s.word()
	case c == '(':
		s.depth++
		s.take(1)
	case c == ')':
		if s.depth--; s.depth < 0 {
			return bad("closes a parenthesis that it did not open")
		}
		s.take(1)
	default:
		s.take(1)
	}
	return nil
}

// line leaves a comment out that the end of the line ends.
func (s *scanner) line() {
	n := strings.IndexAny(s.in[s.at:], "\n\r")
	if n < 0 {
		n = len(s.in) - s.at
	}
	s.skip(n)
}

// block leaves a comment out; those of PostgreSQL nest.
func (s *scanner) block() error {
	if s.d == MariaDB && (s.peek(2) == '!' || s.peek(2) == 'M' && s.peek(3) == '!' || s.peek(2) == '+') {
		return bad("holds a comment that the database executes")
	}
	depth := 0
	for i := s.at; i+1 < len(s.in); i++ {
		switch {
		case s.in[i] == '/' && s.in[i+1] == '*' && (depth == 0 || s.d == PostgreSQL):
			depth++
			i++
		case s.in[i] == '*' && s.in[i+1] == '/':
			depth--
			i++
			if depth == 0 {
				s.skip(i + 1 - s.at)
				return nil
			}
		}
	}
	return bad("holds a comment without an end")
}

// quoted copies a string or a quoted name. The quote doubled stands for itself;
// escapes: so does a backslash with what follows.
func (s *scanner) quoted(end byte, escapes bool) error {
	for i := s.at + 1; i < len(s.in); i++ {
		switch {
		case escapes && s.in[i] == '\\':
			i++
		case s.in[i] == end:
			if end != ']' && i+1 < len(s.in) && s.in[i+1] == end {
				i++
				continue
			}
			s.take(i + 1 - s.at)
			return nil
		}
	}
	return bad("holds a string or a name without an end")
}

// dollar copies $tag$…$tag$, and refuses $1.
func (s *scanner) dollar() error {
	i := s.at + 1
	for i < len(s.in) && (identStart(s.in[i]) || i > s.at+1 && s.in[i] >= '0' && s.in[i] <= '9') {
		i++
	}
	if i >= len(s.in) || s.in[i] != '$' {
		return bad("has a placeholder that is not :name")
	}
	tag := s.in[s.at : i+1]
	n := strings.Index(s.in[i+1:], tag)
	if n < 0 {
		return bad("holds a string without an end")
	}
	s.take(i + 1 + n + len(tag) - s.at)
	return nil
}

// word copies a name, a keyword or a number, and the string that belongs to it:
// E'…' of PostgreSQL has backslash escapes.
func (s *scanner) word() error {
	i := s.at
	for i < len(s.in) && (identStart(s.in[i]) || s.in[i] >= '0' && s.in[i] <= '9' || s.in[i] == '$' && s.d != SQLite) {
		i++
	}
	w := s.in[s.at:i]
	s.take(i - s.at)
	if s.d == PostgreSQL && i < len(s.in) && s.in[i] == '\'' && (w == "e" || w == "E") {
		return s.quoted('\'', true)
	}
	return nil
}

// parameter replaces ":name"; "::", ":=" and ":1" (of slices) are the language's.
func (s *scanner) parameter() error {
	next := s.peek(1)
	if next == ':' {
		s.take(2)
		return nil
	}
	if !identStart(next) || next >= 0x80 {
		if s.d == SQLite {
			return bad("has a placeholder that is not :name")
		}
		s.take(1)
		return nil
	}
	i := s.at + 1
	for i < len(s.in) && (identStart(s.in[i]) && s.in[i] < 0x80 || s.in[i] >= '0' && s.in[i] <= '9') {
		i++
	}
	name := s.in[s.at+1 : i]
	if i < len(s.in) && s.in[i] >= 0x80 || len(name) > 64 {
		return bad("has a parameter whose name is not plain")
	}
	if s.keep {
		s.take(i - s.at)
		return nil
	}
	s.at = i
	s.code.WriteByte('?')
	if s.d == PostgreSQL {
		n, ok := s.number[name]
		if !ok {
			s.params = append(s.params, name)
			n = len(s.params)
			s.number[name] = n
		}
		fmt.Fprintf(&s.out, "$%d", n)
		return nil
	}
	s.params = append(s.params, name)
	s.out.WriteByte('?')
	return nil
}

// Values are the parameters' values in the order of the placeholders. Every
// parameter must be used, and every placeholder given: none is dropped, none empty.
func (s *Statement) Values(params map[string]string) ([]any, error) {
	out, used := make([]any, 0, len(s.Params)), map[string]bool{}
	for _, n := range s.Params {
		v, ok := params[n]
		if !ok {
			return nil, rejection.New(rejection.ParamMissing, n, "the statement wants it")
		}
		out, used[n] = append(out, v), true
	}
	for n := range params {
		if !used[n] {
			return nil, rejection.New(rejection.ParamNotAllowed, n, "the statement does not use it")
		}
	}
	return out, nil
}

// Identifier quotes a name for a dialect; dots separate its parts.
func Identifier(d Dialect, name string) (string, error) {
	q := `"`
	if d == MariaDB {
		q = "`"
	}
	parts := strings.Split(name, ".")
	if len(parts) > 3 {
		return "", fmt.Errorf("sql: a name of more than three parts")
	}
	for i, p := range parts {
		if p == "" || len(p) > 128 || !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '`' || r == '\\' }) {
			return "", fmt.Errorf("sql: a name that is not plain")
		}
		parts[i] = q + p + q
	}
	return strings.Join(parts, "."), nil
}

func space(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}

func identStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
