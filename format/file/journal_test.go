//go:build linux

package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

// interrupted leaves a file half-edited under its journal.
func interrupted(t *testing.T) (path string, old, torn []byte, j *journal) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "app")
	old = noise(1000)
	put(t, path, old)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p := &format.Patch{Size: 1000, Edits: []format.Edit{{Offset: 100, Delete: 4, Insert: []byte("1234")}, {Offset: 1000, Insert: []byte("signature")}}}
	if j, err = plan(f, fi, p); err != nil {
		t.Fatal(err)
	}
	writeJournal(t, path, j)
	torn = append(bytes.Clone(old), "sign"...)
	copy(torn[100:], "12")
	if err := os.WriteFile(path, torn, 0); err != nil {
		t.Fatal(err)
	}
	return path, old, torn, j
}

func writeJournal(t *testing.T, path string, j *journal) {
	t.Helper()
	b, err := j.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journalName(path), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Open rolls back, also through a link.
func TestOpenRecovers(t *testing.T) {
	for _, link := range []bool{false, true} {
		path, old, _, _ := interrupted(t)
		name := path
		if link {
			name = filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(path, name); err != nil {
				t.Fatal(err)
			}
		}
		a, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		if !bytes.Equal(get(t, path), old) {
			t.Fatal("not rolled back")
		}
		if h := hidden(t, filepath.Dir(path)); len(h) != 0 {
			t.Fatalf("left behind: %v", h)
		}
	}
}

// After a power failure appended blocks may read as zeros.
func TestRecoverHole(t *testing.T) {
	path, old, torn, _ := interrupted(t)
	copy(torn[1000:], "s\x00\x00n")
	put(t, path, torn)
	if err := Recover(path); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(get(t, path), old) {
		t.Fatal("not rolled back")
	}
}

// Invariant 4: the file was rebuilt, the journal damaged, forged or somebody else's.
func TestRecoverRefuses(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string, j *journal){
		"rebuilt, smaller":   func(t *testing.T, p string, j *journal) { put(t, p, noise(990)) },
		"rebuilt, larger":    func(t *testing.T, p string, j *journal) { put(t, p, noise(1010)) },
		"rebuilt, same size": func(t *testing.T, p string, j *journal) { b := get(t, p); b[101] ^= 1; put(t, p, b) },
		"appended to":        func(t *testing.T, p string, j *journal) { b := get(t, p); b[1003] ^= 1; put(t, p, b) },
		"journal empty":      func(t *testing.T, p string, j *journal) { os.WriteFile(journalName(p), nil, 0o600) },
		"journal cut":        func(t *testing.T, p string, j *journal) { os.Truncate(journalName(p), 50) },
		"journal flipped": func(t *testing.T, p string, j *journal) {
			b := get(t, journalName(p))
			b[9] ^= 1
			put(t, journalName(p), b)
		},
		"journal of no kind": func(t *testing.T, p string, j *journal) { j.Magic = "x"; writeJournal(t, p, j) },
		"region outside":     func(t *testing.T, p string, j *journal) { j.Regions[0].Offset = 998; writeJournal(t, p, j) },
		"region negative":    func(t *testing.T, p string, j *journal) { j.Regions[0].Offset = -1; writeJournal(t, p, j) },
		"region far away":    func(t *testing.T, p string, j *journal) { j.Regions[1].Offset = 1 << 62; writeJournal(t, p, j) },
		"region moves": func(t *testing.T, p string, j *journal) {
			j.Regions[0].New = nil
			j.NewSize -= 4
			writeJournal(t, p, j)
		},
		"sizes differ":        func(t *testing.T, p string, j *journal) { j.NewSize++; writeJournal(t, p, j) },
		"others can write it": func(t *testing.T, p string, j *journal) { os.Chmod(journalName(p), 0o666) },
		"journal is a link": func(t *testing.T, p string, j *journal) {
			os.Rename(journalName(p), p+"j")
			os.Symlink(p+"j", journalName(p))
		},
		"journal is a folder": func(t *testing.T, p string, j *journal) { os.Remove(journalName(p)); os.Mkdir(journalName(p), 0o700) },
		"target is a link":    func(t *testing.T, p string, j *journal) { os.Rename(p, p+"2"); os.Symlink(p+"2", p) },
		"somebody else's": func(t *testing.T, p string, j *journal) {
			if os.Geteuid() != 0 {
				t.Fatal("run the tests as root: this one gives a file away")
			}
			os.Chown(journalName(p), 4321, 4321)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, _, _, j := interrupted(t)
			spoil(t, path, j)
			now := get(t, path)
			err := Recover(path)
			if !errors.Is(err, ErrJournal) && !errors.Is(err, ErrSymlink) {
				t.Errorf("got %v", err)
			}
			if !bytes.Equal(get(t, path), now) {
				t.Error("the file was changed")
			}
			if _, err := os.Lstat(journalName(path)); err != nil {
				t.Errorf("the journal is gone: %v", err)
			}
			if _, err := Open(path); err == nil && name != "target is a link" {
				t.Error("opened")
			}
		})
	}
}

func TestOrphanJournal(t *testing.T) {
	path, _, _, _ := interrupted(t)
	os.Remove(path)
	if err := Recover(path); err != nil {
		t.Fatal(err)
	}
	if h := hidden(t, filepath.Dir(path)); len(h) != 0 {
		t.Fatalf("left behind: %v", h)
	}
}

func FuzzJournal(f *testing.F) {
	j := &journal{Magic: journalMagic, OldSize: 10, NewSize: 12, Regions: []region{{1, []byte("a"), []byte("b")}, {8, []byte("cd"), []byte("efgh")}}}
	b, err := j.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := decodeJournal(b)
		if err != nil {
			return
		}
		again, err := j.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, re-encodes to %x, %v", b, again, err)
		}
	})
}
