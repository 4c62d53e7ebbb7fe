package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file in memory whose writes and syncs can be made to fail.
type disk struct {
	mu        sync.Mutex
	data      []byte
	syncs     int
	op        int // counts writes, syncs and cuts
	failAt    int // the op that fails; 0: none
	failAll   bool
	persist   bool // what failed has been done all the same
	short     bool // a failing write writes half
	err       error
	truncFail bool
}

func (d *disk) next() bool {
	d.op++
	return d.failAt > 0 && (d.op == d.failAt || d.failAll && d.op > d.failAt)
}

func (d *disk) put(b []byte, off int64) {
	if n := int(off) + len(b); n > len(d.data) {
		d.data = append(d.data, make([]byte, n-len(d.data))...)
	}
	copy(d.data[off:], b)
}

func (d *disk) WriteAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next() {
		switch {
		case d.persist:
			d.put(b, off)
		case d.short:
			d.put(b[:len(b)/2], off)
			return len(b) / 2, d.err
		}
		return 0, d.err
	}
	d.put(b, off)
	return len(b), nil
}

func (d *disk) ReadAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= int64(len(d.data)) {
		return 0, io.EOF
	}
	n := copy(b, d.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) Size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.data)), nil
}

func (d *disk) Truncate(n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.truncFail {
		return errors.New("cannot cut")
	}
	if d.next() {
		return d.err
	}
	d.data = d.data[:n]
	return nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if d.next() {
		return d.err
	}
	return nil
}

func (d *disk) Close() error { return nil }

func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{err: unix.ENOSPC}
	if err := Create(d, rand.Reader); err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t testing.TB, f File) (*Ledger, []string) {
	t.Helper()
	l, recs, err := tryOpen(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, recs
}

func tryOpen(f File) (*Ledger, []string, error) {
	var recs []string
	l, err := Open(f, Options{Replay: func(off int64, r Record) error {
		recs = append(recs, fmt.Sprintf("%d:%s", r.Type, r.Body))
		return nil
	}})
	return l, recs, err
}

func add(t testing.TB, l *Ledger, body string) int64 {
	t.Helper()
	off, err := l.Append(context.Background(), Record{7, []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return off[0]
}

func TestAppendReadReplay(t *testing.T) {
	d := newDisk(t)
	l, recs := open(t, d)
	if len(recs) != 0 {
		t.Fatalf("new ledger has %q", recs)
	}
	var offs []int64
	for _, b := range []string{"one", "", "three"} {
		offs = append(offs, add(t, l, b))
	}
	r, err := l.Read(offs[2])
	if err != nil || string(r.Body) != "three" || r.Type != 7 {
		t.Fatalf("read %v, %v", r, err)
	}
	for _, bad := range []int64{-1, 0, 67, offs[1] + 1, offs[2] + 1, l.Size(), l.Size() - 1, 1 << 60} {
		if _, err := l.Read(bad); err == nil {
			t.Errorf("read at offset %d of no record", bad)
		}
	}
	id := l.ID()
	l.Close()
	if _, err := l.Append(context.Background(), Record{1, nil}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	l2, recs := open(t, d)
	if fmt.Sprint(recs) != "[7:one 7: 7:three]" || l2.ID() != id {
		t.Fatalf("replayed %q", recs)
	}
}

// Many appends at once share syncs, and all are there afterwards.
func TestGroupCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if err := CreateFile(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	var batches atomic.Int64
	l, err := OpenFile(path, Options{Begin: func() { batches.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	const n = 500
	var wg sync.WaitGroup
	var order []int64 // written by the committer alone
	for i := range n {
		wg.Go(func() {
			_, err := l.AppendFunc(context.Background(), func() ([]Record, error) {
				return []Record{{1, fmt.Appendf(nil, "%d", i)}, {2, nil}}, nil
			}, func(offs []int64) { order = append(order, offs...) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l.Close()
	for i := 1; i < len(order); i++ {
		if order[i] <= order[i-1] {
			t.Fatal("commits out of order")
		}
	}
	count := 0
	l, err = OpenFile(path, Options{Replay: func(int64, Record) error { count++; return nil }})
	if err != nil || count != 2*n {
		t.Fatalf("%d records of %d, %v", count, 2*n, err)
	}
	l.Close()
	if b := batches.Load(); b > n/2 {
		t.Errorf("%d appends took %d syncs", n, b)
	} else {
		t.Logf("%d appends took %d syncs", n, b)
	}
}

// Of many writers some are waited for, not for long, and not when the ledger closes;
// of few none.
func TestCompany(t *testing.T) {
	for _, tt := range []struct {
		name               string
		company, n, atOnce int // writers, appends, those that need not wait
	}{
		{"alone", 1, 1, 1},
		{"few", crowd - 1, 1, 1},
		{"a quarter", 40, 10, 10},
		{"less than a quarter", 40, 9, 0},
		{"crowd", crowd, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, closed := range []bool{false, true} {
					syncs := 0
					l, err := Open(newDisk(t), Options{
						Company: func() int { return tt.company },
						Hook: func(step string) {
							if step == "ledger.sync" {
								syncs++
							}
						},
					})
					if err != nil {
						t.Fatal(err)
					}
					errs := make(chan error, tt.n)
					for range tt.n {
						go func() {
							_, err := l.Append(context.Background(), Record{1, nil})
							errs <- err
						}()
					}
					synctest.Wait()
					if len(errs) != tt.atOnce {
						t.Errorf("%d of %d appended at once, want %d", len(errs), tt.n, tt.atOnce)
					}
					if closed {
						l.Close()
					} else {
						time.Sleep(patience)
					}
					synctest.Wait()
					if len(errs) != tt.n {
						t.Fatalf("%d of %d appended", len(errs), tt.n)
					}
					lost := closed && tt.atOnce == 0
					for range tt.n {
						if err := <-errs; lost != errors.Is(err, ErrClosed) || !lost && err != nil {
							t.Error(err)
						}
					}
					if syncs != 1 && !lost || syncs != 0 && lost {
						t.Errorf("%d syncs", syncs)
					}
					l.Close()
				}
			})
		})
	}
}

// Invariant 2: every truncation gives a prefix of the records, every other
// change an error with an offset.
func TestTornAndCorrupt(t *testing.T) {
	d := newDisk(t)
	l, _ := open(t, d)
	ends := []int{len(d.data)}
	for i := range 5 {
		add(t, l, strings.Repeat("x", i*3))
		ends = append(ends, len(d.data))
	}
	l.Close()
	whole := bytes.Clone(d.data)
	for n := range whole {
		cut := &disk{data: bytes.Clone(whole[:n])}
		l, recs, err := tryOpen(cut)
		if n < ends[0] {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("header cut at %d: %v", n, err)
			}
			continue
		}
		want := 0
		for want+1 < len(ends) && ends[want+1] <= n {
			want++
		}
		if err != nil || len(recs) != want || len(cut.data) != ends[want] {
			t.Fatalf("cut at %d: %d records, want %d, file %d, %v", n, len(recs), want, len(cut.data), err)
		}
		add(t, l, "more")
		l.Close()
		if _, recs, err := tryOpen(cut); err != nil || len(recs) != want+1 {
			t.Fatalf("cut at %d, appended: %q, %v", n, recs, err)
		}
	}
	for n := range whole {
		for _, bit := range []byte{1, 0x80} {
			bad := &disk{data: bytes.Clone(whole)}
			bad.data[n] ^= bit
			_, _, err := tryOpen(bad)
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d changed: %v", n, err)
			}
			if n >= ends[0] && !strings.Contains(err.Error(), "offset") {
				t.Fatalf("byte %d changed: %v does not say where", n, err)
			}
			if len(bad.data) != len(whole) {
				t.Fatalf("byte %d changed: the file was cut", n)
			}
		}
	}
	zero := &disk{data: append(bytes.Clone(whole), make([]byte, 5000)...)}
	if _, recs, err := tryOpen(zero); err != nil || len(recs) != 5 || len(zero.data) != len(whole) {
		t.Errorf("zeros at the end: %d records, %v", len(recs), err)
	}
}

// Records of one ledger do not fit into another, nor elsewhere in their own.
func TestAttackSplice(t *testing.T) {
	a, b := newDisk(t), newDisk(t)
	la, _ := open(t, a)
	lb, _ := open(t, b)
	h := len(a.data)
	add(t, la, "one")
	n := len(a.data)
	add(t, la, "two")
	add(t, lb, "one")
	la.Close()
	lb.Close()
	for name, data := range map[string][]byte{
		"another ledger's record": append(bytes.Clone(a.data[:h]), b.data[h:]...),
		"swapped":                 slicesConcat(a.data[:h], a.data[n:], a.data[h:n]),
		"repeated":                slicesConcat(a.data[:n], a.data[h:n], a.data[n:]),
		"left out":                slicesConcat(a.data[:h], a.data[n:]),
	} {
		if _, _, err := tryOpen(&disk{data: data}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func slicesConcat(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

// Invariant 3: whatever write, sync or cut fails, in whichever way, everything
// acknowledged is there and the ledger either goes on correctly or refuses.
func TestFailures(t *testing.T) {
	for _, persist := range []bool{false, true} {
		for _, short := range []bool{false, true} {
			for _, all := range []bool{false, true} {
				for at := 1; at <= 12; at++ {
					name := fmt.Sprintf("persist=%v,short=%v,all=%v,op=%d", persist, short, all, at)
					d := newDisk(t)
					l, _ := open(t, d)
					d.op, d.failAt, d.failAll, d.persist, d.short = 0, at, all, persist, short
					acked := map[string]bool{}
					failed := false
					for i := range 8 {
						body := fmt.Sprint("r", i)
						_, err := l.Append(context.Background(), Record{7, []byte(body)})
						if err == nil {
							acked["7:"+body] = true
							continue
						}
						failed = true
						if !errors.Is(err, ErrWrite) && !errors.Is(err, ErrStopped) {
							t.Fatalf("%s: %v", name, err)
						}
					}
					if !failed {
						t.Fatalf("%s: nothing failed", name)
					}
					stopped := l.Err()
					l.Close()
					d.failAt = 0
					l2, recs, err := tryOpen(d)
					if err != nil {
						t.Fatalf("%s: reopen: %v (stopped: %v)", name, err, stopped)
					}
					l2.Close()
					got := map[string]bool{}
					for _, r := range recs {
						got[r] = true
					}
					for r := range acked {
						if !got[r] {
							t.Fatalf("%s: %s was acknowledged and is lost", name, r)
						}
					}
				}
			}
		}
	}
}

func TestFailedSyncStops(t *testing.T) {
	d := newDisk(t)
	l, _ := open(t, d)
	d.op, d.failAt, d.err = 0, 2, unix.EIO // write, then sync
	for range 3 {
		if _, err := l.Append(context.Background(), Record{1, nil}); !errors.Is(err, ErrStopped) || !errors.Is(err, unix.EIO) {
			t.Fatalf("after a failed sync: %v", err)
		}
	}
	if l.Err() == nil {
		t.Error("Err is nil")
	}
}

func TestSpaceIsBack(t *testing.T) {
	d := newDisk(t)
	l, _ := open(t, d)
	add(t, l, "a")
	d.op, d.failAt, d.short = 0, 1, true
	if _, err := l.Append(context.Background(), Record{1, make([]byte, 100)}); !errors.Is(err, ErrWrite) || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("full: %v", err)
	}
	add(t, l, "b")
	l.Close()
	if _, recs := open(t, d); fmt.Sprint(recs) != "[7:a 7:b]" {
		t.Errorf("%q", recs)
	}
	d = newDisk(t)
	l, _ = open(t, d)
	d.op, d.failAt, d.short, d.truncFail = 0, 1, true, true
	if _, err := l.Append(context.Background(), Record{1, make([]byte, 100)}); !errors.Is(err, ErrStopped) {
		t.Fatalf("full and cannot cut: %v", err)
	}
}

// A batch whose build fails leaves no trace, and its neighbours stand.
func TestBuildFails(t *testing.T) {
	d := newDisk(t)
	l, _ := open(t, d)
	boom := errors.New("boom")
	if _, err := l.AppendFunc(context.Background(), func() ([]Record, error) { return nil, boom }, nil); err != boom {
		t.Fatal(err)
	}
	if _, err := l.Append(context.Background(), Record{1, nil}, Record{1, make([]byte, MaxBody+1)}); !errors.Is(err, ErrWrite) {
		t.Fatal(err)
	}
	add(t, l, "x")
	l.Close()
	if _, recs := open(t, d); fmt.Sprint(recs) != "[7:x]" {
		t.Errorf("%q", recs)
	}
}

func TestReplayErrorEndsOpen(t *testing.T) {
	d := newDisk(t)
	l, _ := open(t, d)
	add(t, l, "x")
	l.Close()
	boom := errors.New("boom")
	if _, err := Open(d, Options{Replay: func(int64, Record) error { return boom }}); !errors.Is(err, boom) {
		t.Error(err)
	}
}

func TestFileIsLockedAndPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger")
	if err := CreateFile(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, rand.Reader); err == nil {
		t.Fatal("created over an existing ledger")
	}
	fi, _ := os.Stat(path)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	l, err := OpenFile(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(path, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	l.Close()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(link, Options{}); err == nil {
		t.Error("opened through a symbolic link")
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(path, Options{}); err == nil {
		t.Error("opened a file that everybody can write")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".ledger-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzOpen(f *testing.F) {
	d := newDisk(f)
	l, _ := open(f, d)
	add(f, l, "one")
	add(f, l, "two")
	l.Close()
	f.Add(bytes.Clone(d.data))
	f.Add(bytes.Clone(d.data[:len(d.data)-3]))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &disk{data: bytes.Clone(b)}
		l, recs, err := tryOpen(d)
		if err != nil {
			if !bytes.Equal(d.data, b) {
				t.Fatal("refused and changed")
			}
			return
		}
		l.Close()
		// Whatever is accepted opens again with the same records.
		l, again, err := tryOpen(d)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(recs) {
			t.Fatalf("%q then %q, %v", recs, again, err)
		}
		l.Close()
	})
}

func BenchmarkAppend(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ledger")
	if err := CreateFile(path, rand.Reader); err != nil {
		b.Fatal(err)
	}
	l, err := OpenFile(path, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	body := make([]byte, 2000)
	b.SetParallelism(100)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append(b.Context(), Record{1, body}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
