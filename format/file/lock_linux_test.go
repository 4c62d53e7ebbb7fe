package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that is being started has a copy of every open file until it runs its
// program. The lock of a writer that has finished must not live on in it.
func TestLocksEndInCopiesToo(t *testing.T) {
	for _, inPlace := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "app.exe")
		old := noise(300_000)
		put(t, path, old)
		var copies []int
		inherit := func(step string) {
			if step != "edit" || len(copies) > 0 {
				return
			}
			fds, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range fds {
				to, err := os.Readlink("/proc/self/fd/" + d.Name())
				if err != nil || !strings.HasPrefix(to, dir) {
					continue
				}
				fd := 0
				for _, c := range d.Name() {
					fd = 10*fd + int(c-'0')
				}
				if n, err := unix.Dup(fd); err == nil {
					copies = append(copies, n)
				}
			}
		}
		p := patches()["in the middle"]
		if p == nil {
			t.Fatal("there is no such patch any more")
		}
		if err := Write(path, "", p, Options{InPlace: inPlace, step: inherit}); err != nil {
			t.Fatal(err)
		}
		if len(copies) == 0 {
			t.Fatal("no open file was copied")
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := lock(f); err != nil {
			t.Errorf("in place %v: %v", inPlace, err)
		}
		f.Close()
		for _, c := range copies {
			unix.Close(c)
		}
	}
}
