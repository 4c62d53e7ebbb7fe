package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// table prints columns for people. Cells of others are shown without what could
// command a terminal.
type table struct {
	head []string
	rows [][]string
}

func (t *table) row(cells ...any) {
	var r []string
	for _, c := range cells {
		r = append(r, printable(fmt.Sprint(c)))
	}
	t.rows = append(t.rows, r)
}

func (t *table) write(w io.Writer) {
	width := make([]int, len(t.head))
	all := append([][]string{t.head}, t.rows...)
	for _, r := range all {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range all {
		var b strings.Builder
		for i, c := range r {
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// printable is s without control and invisible characters.
func printable(s string) string {
	q := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), `\\`, `\`)
}

// when is a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// field prints a named value, aligned. What others wrote may have several lines;
// those after the first are marked, so that none looks like a field of its own.
func field(w io.Writer, name, value string) {
	for i, line := range strings.Split(value, "\n") {
		if i > 0 {
			fmt.Fprintf(w, "  %-11s │ %s\n", "", printable(line))
			continue
		}
		fmt.Fprintf(w, "  %-11s %s\n", name, printable(line))
	}
}
