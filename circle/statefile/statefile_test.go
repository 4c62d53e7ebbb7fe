package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/statement"
)

// TestMain is the child of TestKilled where the environment says so.
func TestMain(m *testing.M) {
	if path := os.Getenv("STATEFILE_CHILD"); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

func state(n byte) *circle.State {
	big := bytes.Repeat([]byte{n}, 100_000)
	return &circle.State{Time: time.Unix(int64(n)+1, 0).UTC(), Sides: map[statement.ID]circle.Side{{1}: {Circle: circle.Update{Statement: big, Evidence: big}}}}
}

// child saves states until it is killed, and says of each that it is there.
func child(path string) {
	f, err := statefile.Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		if err := f.Save(context.Background(), state(byte(i%250))); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("saved", i)
	}
}

func openFile(t *testing.T, path string) *statefile.File {
	t.Helper()
	f, err := statefile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "circle.state")
	f := openFile(t, path)
	if _, err := f.Load(t.Context()); !errors.Is(err, circle.ErrNoState) {
		t.Errorf("before the first Save: %v", err)
	}
	for n := range byte(3) {
		if err := f.Save(t.Context(), state(n)); err != nil {
			t.Fatal(err)
		}
		got, err := f.Load(t.Context())
		if err != nil || !got.Time.Equal(state(n).Time) {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	if _, err := statefile.Open(path); !errors.Is(err, statefile.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
}

// Invariant 2: damage is an error, never the first day.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "circle.state")
	f := openFile(t, path)
	small := &circle.State{Time: time.Unix(9, 0), Sides: map[statement.ID]circle.Side{{1}: {Circle: circle.Update{Statement: []byte("s"), Evidence: []byte("e")}}}}
	if err := f.Save(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(t.Context()); !errors.Is(err, statefile.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := circle.New(t.Context(), f, statement.ID{1}); !errors.Is(err, statefile.ErrDamaged) {
			t.Errorf("%s: a circle begins anew: %v", what, err)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		try(fmt.Sprintf("byte %d", i), b)
		try(fmt.Sprintf("%d bytes", i), good[:i])
	}
	try("a byte more", append(bytes.Clone(good), 0))
}

func TestRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "circle.state")
	f := openFile(t, path)
	if err := f.Save(t.Context(), state(1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(t.Context()); err == nil || errors.Is(err, circle.ErrNoState) {
		t.Errorf("a link: %v", err)
	}
}

// A directory that takes no files leaves the state that was there.
func TestSaveFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "circle.state")
	f := openFile(t, path)
	if err := f.Save(t.Context(), state(1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(t.Context(), state(2)); err == nil {
		t.Fatal("saved")
	}
	if got, err := f.Load(t.Context()); err != nil || !got.Time.Equal(state(1).Time) {
		t.Errorf("%v, %v", got, err)
	}
}

// Invariant 1, under kill -9.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "circle.state")
	for round := range 8 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "STATEFILE_CHILD="+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, 0, 1<<12)
		for lines := 0; lines < 2+round*3; {
			b := make([]byte, 256)
			n, err := out.Read(b)
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			said = append(said, b[:n]...)
			lines = bytes.Count(said, []byte("\n"))
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest := new(bytes.Buffer)
		rest.ReadFrom(out)
		c.Wait()
		all := strings.Fields(string(append(said, rest.Bytes()...)))
		var last int
		fmt.Sscan(all[len(all)-1], &last)
		f, err := statefile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := got.Time.Unix() - 1; n != int64(last%250) && n != int64((last+1)%250) {
			t.Errorf("saved %d, found %d", last, n)
		}
		if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what was half written is still there: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A circle over a file, stopped and begun again.
func TestCircle(t *testing.T) {
	s := circletest.New(t)
	path := filepath.Join(t.TempDir(), "circle.state")
	f := openFile(t, path)
	c, err := circle.New(t.Context(), f, s.Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), s.Bundle(s.Publish()), s.Now); err != nil {
		t.Fatal(err)
	}
	was, err := c.Trusted(s.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := circle.New(t.Context(), openFile(t, path), s.Root)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := d.Trusted(s.Now); err != nil || is.Digest() != was.Digest() {
		t.Errorf("%v", err)
	}
}
