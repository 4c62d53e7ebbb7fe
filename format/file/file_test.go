//go:build linux

package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

const stopAt = "GREATSEAL_FILE_TEST_STOP"

// job is what a child process does before it kills itself.
type job struct {
	Path, Out string
	Patch     *format.Patch
	InPlace   bool
	Limit     uint64 // size that files may grow to: a full disk
}

func TestMain(m *testing.M) {
	if s := os.Getenv(stopAt); s != "" {
		child(s)
	}
	os.Exit(m.Run())
}

// child runs the job on standard input and dies at the step with this number.
func child(s string) {
	n, err := strconv.Atoi(s)
	if err != nil {
		os.Exit(3)
	}
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		os.Exit(3)
	}
	if j.Limit > 0 {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: j.Limit, Max: j.Limit}); err != nil {
			os.Exit(3)
		}
	}
	o := Options{InPlace: j.InPlace, step: func(string) {
		if n--; n < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}
	if err := Write(j.Path, j.Out, j.Patch, o); err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(2)
	}
	os.Exit(0)
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// patches are one for each way of changing a file of 300 000 bytes.
func patches() map[string]*format.Patch {
	const size = 300_000
	return map[string]*format.Patch{
		"headers and tail": {Size: size, Edits: []format.Edit{{Offset: 64, Delete: 4, Insert: []byte("SUM!")}, {Offset: 200, Delete: 8, Insert: []byte("dirEntry")}, {Offset: size, Insert: noise(150_001)}}},
		"shorter":          {Size: size, Edits: []format.Edit{{Offset: 10, Delete: 3, Insert: []byte("abc")}, {Offset: size - 100_000, Delete: 100_000, Insert: noise(5)}}},
		"in the middle":    {Size: size, Edits: []format.Edit{{Offset: 0, Insert: []byte("begin")}, {Offset: 100, Delete: 50}, {Offset: 150_000, Delete: 1, Insert: noise(70_000)}}},
		"cut":              {Size: size, Edits: []format.Edit{{Offset: 1, Delete: size - 1}}},
		"sidecar":          {Size: size, Sidecar: &format.Sidecar{Suffix: ".p7s", Data: noise(4000)}},
	}
}

func hidden(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		if strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out
}

// Invariant 1: killed at every step, the result is the old or the new file, and
// the next run leaves nothing behind.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old := noise(300_000)
	for name, p := range patches() {
		for _, inPlace := range []bool{false, true} {
			if inPlace && p.Sidecar != nil {
				continue
			}
			t.Run(name+"/inplace="+strconv.FormatBool(inPlace), func(t *testing.T) {
				t.Parallel()
				var err error
				want, target := []byte(nil), "app.exe"
				if p.Sidecar != nil {
					want, target = p.Sidecar.Data, "app.exe.p7s"
				} else if want, err = p.Bytes(format.BytesArtifact("", old)); err != nil {
					t.Fatal(err)
				}
				killed, sawOld, sawNew, sawTorn := 0, 0, 0, 0
				for n := 0; ; n++ {
					if n == 100 {
						t.Fatal("more than 100 steps")
					}
					dir := t.TempDir()
					path := filepath.Join(dir, "app.exe")
					put(t, path, old)
					past := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC)
					if err := os.Chtimes(path, past, past); err != nil {
						t.Fatal(err)
					}
					in, _ := json.Marshal(job{Path: path, Patch: p, InPlace: inPlace})
					c := exec.Command(self, "-test.run=^$")
					c.Env = append(os.Environ(), stopAt+"="+strconv.Itoa(n))
					c.Stdin = bytes.NewReader(in)
					var stderr bytes.Buffer
					c.Stderr = &stderr
					err := c.Run()
					var exit *exec.ExitError
					if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != -1) {
						t.Fatalf("step %d: %v: %s", n, err, stderr.String())
					}
					if now := get(t, path); inPlace && !bytes.Equal(now, old) && !bytes.Equal(now, want) {
						sawTorn++
					}
					if err := Recover(path); err != nil {
						t.Fatalf("step %d: %v", n, err)
					}
					result, rerr := os.ReadFile(filepath.Join(dir, target))
					before := old
					if p.Sidecar != nil {
						if !bytes.Equal(get(t, path), old) {
							t.Fatalf("step %d: the artifact changed", n)
						}
						before = nil
						if errors.Is(rerr, fs.ErrNotExist) {
							rerr = nil
						}
					}
					switch {
					case rerr != nil:
						t.Fatal(rerr)
					case bytes.Equal(result, before):
						sawOld++
					case bytes.Equal(result, want):
						sawNew++
					default:
						t.Fatalf("step %d: neither the old nor the new file", n)
					}
					if err == nil {
						if len(result) != len(want) || len(hidden(t, dir)) != 0 {
							t.Fatalf("complete run: %d bytes and %v", len(result), hidden(t, dir))
						}
						break
					}
					killed++
					if p.Sidecar == nil {
						put(t, path, old)
					}
					if err := Write(path, "", p, Options{InPlace: inPlace}); err != nil {
						t.Fatalf("step %d: next run: %v", n, err)
					}
					if h := hidden(t, dir); len(h) != 0 {
						t.Fatalf("step %d: left behind: %v", n, h)
					}
				}
				if killed < 5 || sawOld < 3 || sawNew < 1 {
					t.Fatalf("killed %d times, %d old, %d new: the steps were not reached", killed, sawOld, sawNew)
				}
				if inPlace && len(want) > 300_000 && sawTorn == 0 {
					t.Fatal("no kill hit a half-edited file")
				}
			})
		}
	}
}

func TestWrite(t *testing.T) {
	old := noise(300_000)
	past := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC)
	for name, p := range patches() {
		for _, way := range []string{"copy", "in place", "other name"} {
			if p.Sidecar != nil && way == "in place" {
				continue
			}
			t.Run(name+"/"+way, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "app")
				put(t, path, old)
				if err := os.Chmod(path, 0o751); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, past, past); err != nil {
					t.Fatal(err)
				}
				if os.Geteuid() == 0 {
					if err := os.Chown(path, 1234, 2345); err != nil {
						t.Fatal(err)
					}
				}
				out, result := "", path
				if way == "other name" {
					out = filepath.Join(dir, "signed")
					result = out
				} else if p.Sidecar != nil {
					result = path + p.Sidecar.Suffix
				}
				if err := Write(path, out, p, Options{InPlace: way == "in place"}); err != nil {
					t.Fatal(err)
				}
				if result != path && !bytes.Equal(get(t, path), old) {
					t.Fatal("the source changed")
				}
				if p.Sidecar != nil {
					if !bytes.Equal(get(t, result), p.Sidecar.Data) {
						t.Fatal("sidecar differs")
					}
					if fi, err := os.Stat(result); err != nil || fi.Mode()&0o444 != 0o444 {
						t.Errorf("sidecar's mode: %v, %v", fi.Mode(), err)
					}
					return
				}
				want, err := p.Bytes(format.BytesArtifact("", old))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(get(t, result), want) {
					t.Fatal("result differs from Patch.Bytes")
				}
				fi, err := os.Stat(result)
				if err != nil {
					t.Fatal(err)
				}
				if fi.Mode() != 0o751 || !fi.ModTime().Equal(past) {
					t.Errorf("mode %v, time %v", fi.Mode(), fi.ModTime())
				}
				if s := fi.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (s.Uid != 1234 || s.Gid != 2345) {
					t.Errorf("owner %d:%d", s.Uid, s.Gid)
				}
				if h := hidden(t, dir); len(h) != 0 {
					t.Errorf("left behind: %v", h)
				}
			})
		}
	}
}

// A disk that fills up while the file is written leaves the old file.
func TestFull(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old := noise(300_000)
	p := patches()["headers and tail"]
	for _, inPlace := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "app")
		put(t, path, old)
		in, err := json.Marshal(job{Path: path, Patch: p, InPlace: inPlace, Limit: 400_000})
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(self, "-test.run=^$")
		c.Env = append(os.Environ(), stopAt+"=1000")
		c.Stdin = bytes.NewReader(in)
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "file too large") {
			t.Fatalf("in place %t: %v: %s", inPlace, err, out)
		}
		if !bytes.Equal(get(t, path), old) || len(hidden(t, dir)) != 0 {
			t.Errorf("in place %t: file changed, or left behind: %v", inPlace, hidden(t, dir))
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	old := noise(1000)
	grow := func(size int64) *format.Patch {
		return &format.Patch{Size: size, Edits: []format.Edit{{Offset: size, Insert: []byte("sig")}}}
	}
	side := &format.Patch{Size: 1000, Sidecar: &format.Sidecar{Suffix: ".p7s", Data: []byte("x")}}
	for name, c := range map[string]struct {
		do   func(dir, path string) error
		want error
	}{
		"other size":          {func(_, p string) error { return Write(p, "", grow(999), Options{}) }, ErrSize},
		"other size in place": {func(_, p string) error { return Write(p, "", grow(1001), Options{InPlace: true}) }, ErrSize},
		"other size, sidecar": {func(_, p string) error { s := *side; s.Size = 7; return Write(p, "", &s, Options{}) }, ErrSize},
		"bad patch":           {func(_, p string) error { return Write(p, "", &format.Patch{Size: 1000}, Options{}) }, format.ErrPatch},
		"folder":              {func(d, _ string) error { return Write(d, "", grow(1000), Options{}) }, ErrNotRegular},
		"result is a folder":  {func(d, p string) error { return Write(p, d, grow(1000), Options{}) }, ErrNotRegular},
		"link": {func(d, p string) error {
			os.Symlink(p, filepath.Join(d, "link"))
			return Write(filepath.Join(d, "link"), "", grow(1000), Options{})
		}, ErrSymlink},
		"link in place": {func(d, p string) error {
			os.Symlink(p, filepath.Join(d, "link"))
			return Write(filepath.Join(d, "link"), "", grow(1000), Options{InPlace: true})
		}, ErrSymlink},
		"sidecar is a link": {func(d, p string) error {
			os.Symlink(p, p+".p7s")
			return Write(p, "", side, Options{})
		}, ErrSymlink},
		"FIFO": {func(d, _ string) error {
			syscall.Mkfifo(filepath.Join(d, "fifo"), 0o600)
			return Write(filepath.Join(d, "fifo"), "", grow(0), Options{})
		}, ErrNotRegular},
		"source FIFO": {func(d, _ string) error {
			syscall.Mkfifo(filepath.Join(d, "fifo"), 0o600)
			return Write(filepath.Join(d, "fifo"), filepath.Join(d, "out"), grow(0), Options{})
		}, ErrNotRegular},
		"missing": {func(d, _ string) error { return Write(filepath.Join(d, "no"), "", grow(0), Options{}) }, fs.ErrNotExist},
		"changes while copied": {func(_, p string) error {
			return Write(p, "", grow(1000), Options{step: func(s string) {
				if s == "written" {
					os.WriteFile(p, bytes.Repeat([]byte("x"), 1000), 0)
				}
			}})
		}, ErrChanged},
		"replaced while copied": {func(_, p string) error {
			return Write(p, "", grow(1000), Options{step: func(s string) {
				if s == "written" {
					os.WriteFile(p+".2", old, 0o600)
					os.Rename(p+".2", p)
				}
			}})
		}, ErrChanged},
		"another writer, copy": {func(_, p string) error {
			var inner error
			if err := Write(p, "", grow(1000), Options{step: func(s string) {
				if s == "synced" {
					inner = Write(p, "", grow(1000), Options{})
				}
			}}); err != nil {
				return err
			}
			return inner
		}, ErrBusy},
		"another writer, in place": {func(_, p string) error {
			var inner error
			if err := Write(p, "", grow(1000), Options{InPlace: true, step: func(s string) {
				if s == "applied" {
					_, inner = Open(p)
				}
			}}); err != nil {
				return err
			}
			return inner
		}, ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "app")
			put(t, path, old)
			if err := c.do(dir, path); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if h := hidden(t, dir); len(h) != 0 {
				t.Errorf("left behind: %v", h)
			}
		})
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "app")
	put(t, path, old)
	for name, err := range map[string]error{
		"sidecar in place":    Write(path, "", side, Options{InPlace: true}),
		"in place elsewhere":  Write(path, path+"2", grow(1000), Options{InPlace: true}),
		"in place with mode":  Write(path, "", grow(1000), Options{InPlace: true, Mode: 0o600}),
		"in place, too large": Write(path, "", &format.Patch{Size: 1000, Edits: []format.Edit{{Insert: make([]byte, maxJournal+1)}}}, Options{InPlace: true}),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if !bytes.Equal(get(t, path), old) {
		t.Error("a refused write changed the file")
	}
}

// Invariant 2.
func TestArtifact(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app")
	body := noise(5000)
	put(t, path, body)
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	got, err := io.ReadAll(io.NewSectionReader(a, 0, a.Size()))
	if err != nil || !bytes.Equal(got, body) || a.Name() != "app" {
		t.Fatalf("%v, %d bytes, %q", err, len(got), a.Name())
	}
	buf := make([]byte, 10)
	for _, c := range []struct {
		off  int64
		n    int
		want error
	}{{4995, 5, io.EOF}, {4990, 10, nil}, {5000, 0, io.EOF}, {9999, 0, io.EOF}} {
		if n, err := a.ReadAt(buf, c.off); n != c.n || !errors.Is(err, c.want) {
			t.Errorf("at %d: %d, %v", c.off, n, err)
		}
	}
	if _, err := a.ReadAt(buf, -1); err == nil {
		t.Error("negative offset")
	}
	for name, change := range map[string]func() error{
		"longer":  func() error { return os.WriteFile(path, append(body, 1), 0) },
		"shorter": func() error { return os.Truncate(path, 10) },
		"times":   func() error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		"same size": func() error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("x"), 0); err != nil {
				return err
			}
			return os.Chtimes(path, time.Time{}, a.print.modified) // hiding it
		},
	} {
		put(t, path, body)
		b, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Millisecond) // older kernels' times have the clock's tick
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(buf, 100); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		b.Close()
	}
	for name, p := range map[string]string{"folder": dir, "device": "/dev/null"} {
		if _, err := Open(p); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
