package verify

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/statement"
)

// TestBook: what is kept stays bounded, whatever stays open.
func TestBook(t *testing.T) {
	b := newBook(10_000)
	add := func(n int) (statement.ID, *logged) {
		id := statement.ID{byte(n), byte(n >> 8), byte(n >> 16)}
		l := &logged{ref: ref{int64(n), make([]byte, 100)}, requester: b.name("dave" + strconv.Itoa(n%3))}
		b.requests[id] = l
		b.open++
		b.hold(&l.ref)
		return id, l
	}
	_, first := add(0) // stays open, in front of all others
	for n := 1; n < 20_000; n++ {
		id, _ := add(n)
		b.execute(id)
		if len(b.queue) > 4200 || b.held > 10_000 {
			t.Fatalf("after %d: %d in the queue, %d bytes held", n, len(b.queue), b.held)
		}
	}
	if first.body == nil || b.live != 1 || b.held != 100 || b.open != 1 || len(b.names) != 3 {
		t.Errorf("live %d, held %d, open %d, names %d", b.live, b.held, b.open, len(b.names))
	}
	for n := 20_000; n < 21_000; n++ {
		add(n)
	}
	if first.body != nil || b.held > 10_000 || b.live != 100 || b.open != 1001 {
		t.Errorf("live %d, held %d, open %d", b.live, b.held, b.open)
	}
}

// Endorsements of one request are found again, few or many. With 100 000 of them,
// which a log may hold that nobody has checked, looking through all for each takes
// half a minute, and ten times as many an hour.
func TestManyEndorsements(t *testing.T) {
	l := &logged{}
	id := func(n int) statement.ID { return statement.ID{byte(n), byte(n >> 8), byte(n >> 16)} }
	const n = 100_000
	for i := range n {
		if _, ok := l.endorsed(id(i)); ok {
			t.Fatalf("endorsement %d is there before it was entered", i)
		}
		l.endorse(vote{&ref{index: int64(i) + 7}, id(i)})
		if at, ok := l.endorsed(id(i / 2)); !ok || at != int64(i/2)+7 {
			t.Fatalf("endorsement %d of %d: entry %d, %v", i/2, i, at, ok)
		}
	}
	if len(l.endorsements) != n {
		t.Errorf("%d endorsements", len(l.endorsements))
	}
}

// TestPure is invariant 7.
func TestPure(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			if p == "os" || p == "net" || strings.HasPrefix(p, "net/") || strings.HasPrefix(p, "os/") || strings.Contains(p, "/internal/") || strings.HasPrefix(p, "math/rand") || p == "crypto/rand" {
				t.Errorf("%s imports %s", name, p)
			}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "time.Now") || strings.Contains(string(b), "time.Since") {
			t.Errorf("%s reads a clock", name)
		}
	}
}
