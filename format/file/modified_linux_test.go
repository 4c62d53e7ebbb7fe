package file

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Times are set on the file that was opened, also when its name leads to somebody
// else's by then.
func TestTimesOfTheOpenFile(t *testing.T) {
	was, other := time.Unix(1_700_000_000, 123_456_789), time.Unix(1_600_000_000, 987_654_321)
	modified := func(path string) time.Time {
		t.Helper()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return fi.ModTime()
	}
	dir := t.TempDir()
	path, victim, moved := filepath.Join(dir, "app.exe"), filepath.Join(dir, "victim"), filepath.Join(dir, "moved")
	put(t, path, noise(300_000))
	put(t, victim, noise(10))
	for p, at := range map[string]time.Time{path: was, victim: other} {
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	p := patches()["in the middle"]
	if p == nil {
		t.Fatal("there is no such patch any more")
	}
	swapped := false
	swap := func(step string) {
		if step != "edit" || swapped {
			return
		}
		swapped = true
		if err := os.Rename(path, moved); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(path, "", p, Options{InPlace: true, step: swap}); err != nil {
		t.Fatal(err)
	}
	if !swapped {
		t.Fatal("nothing was edited")
	}
	if got := modified(victim); !got.Equal(other) {
		t.Errorf("the other file's time is %v, was %v", got, other)
	}
	if got := modified(moved); !got.Equal(was) {
		t.Errorf("the time is %v, was %v", got, was)
	}
	fi, err := os.Stat(moved)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(moved, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	j := &journal{OldSize: fi.Size(), Modified: other.UnixNano()}
	if err := j.rollBack(f); err != nil {
		t.Fatal(err)
	}
	if got := modified(moved); !got.Equal(other) {
		t.Errorf("rolled back, the time is %v, was %v", got, other)
	}
}
