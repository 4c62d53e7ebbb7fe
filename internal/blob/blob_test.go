package blob

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func open(t *testing.T) *Folder {
	t.Helper()
	f, err := Open(filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Invariant 1.
func TestNames(t *testing.T) {
	f := open(t)
	for _, bad := range []string{"", ".", "..", "../x", "a/b", "/a", "a..b", ".a", "A", "a\x00", "a b", "ab.g", strings.Repeat("a", 129), `a\b`} {
		if _, err := f.Append(bad, 0, 10, strings.NewReader("x")); err == nil {
			t.Errorf("Append %q", bad)
		}
		if _, err := f.Size(bad); err == nil {
			t.Errorf("Size %q", bad)
		}
		if _, err := f.Path(bad); err == nil {
			t.Errorf("Path %q", bad)
		}
		if err := f.Delete(bad); err == nil {
			t.Errorf("Delete %q", bad)
		}
	}
	if n, err := f.Names(); err != nil || len(n) != 0 {
		t.Errorf("names: %v %v", n, err)
	}
}

// Invariants 2 and 3.
func TestAppend(t *testing.T) {
	f := open(t)
	const name = "ab12.0"
	for _, c := range []struct {
		offset int64
		body   io.Reader
		size   int64
		err    error
	}{
		{1, strings.NewReader("x"), 0, ErrOffset},
		{0, strings.NewReader("abc"), 3, nil},
		{0, strings.NewReader("abc"), 3, ErrOffset},
		{4, strings.NewReader("abc"), 3, ErrOffset},
		{-1, strings.NewReader("abc"), 3, ErrOffset},
		{3, io.MultiReader(strings.NewReader("de"), iotest.ErrReader(io.ErrUnexpectedEOF)), 5, io.ErrUnexpectedEOF}, // what has arrived stays
		{5, strings.NewReader("fghijKLM"), 10, errAny},
		{10, strings.NewReader(""), 10, nil},
	} {
		n, err := f.Append(name, c.offset, 10, c.body)
		if n != c.size || c.err == nil != (err == nil) || c.err != nil && c.err != errAny && !errors.Is(err, c.err) {
			t.Errorf("at %d: %d %v, want %d %v", c.offset, n, err, c.size, c.err)
		}
		if got, err := f.Size(name); err != nil || got != c.size {
			t.Errorf("at %d: size %d %v", c.offset, got, err)
		}
	}
	p, err := f.Path(name)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(p); err != nil || string(b) != "abcdefghij" {
		t.Errorf("%q %v", b, err)
	}
	if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
	if n, err := f.Names(); err != nil || len(n) != 1 || n[0] != name {
		t.Errorf("names: %v %v", n, err)
	}
	for range 2 {
		if err := f.Delete(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Path(name); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if n, err := f.Size(name); err != nil || n != 0 {
		t.Errorf("size of nothing: %d %v", n, err)
	}
}

var errAny = errors.New("any")

// Two uploads of one blob at a time: one of them wins, and no byte is mixed.
func TestConcurrentAppends(t *testing.T) {
	f := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			_, err := f.Append("ab", 0, 1<<20, bytes.NewReader(bytes.Repeat([]byte{byte('a' + i)}, 1<<20)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrOffset) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p, err := f.Path("ab")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(p)
	if err != nil || won != 1 || len(b) != 1<<20 || len(bytes.TrimLeft(b, string(b[:1]))) != 0 {
		t.Errorf("%d won, %d bytes, %v", won, len(b), err)
	}
}
