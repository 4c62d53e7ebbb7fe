package zipfile

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

type file struct {
	name   string
	data   string
	method uint16
	stream bool // with a data descriptor
}

// build makes an archive with Go's writer.
func build(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		var err error
		if f.stream {
			var c io.Writer
			c, err = w.CreateHeader(&zip.FileHeader{Name: f.name, Method: f.method})
			if err == nil {
				_, err = io.WriteString(c, f.data)
			}
		} else {
			file := File{Name: f.name, Content: []byte(f.data), Method: f.method}
			var x written
			if x, err = file.write(); err != nil {
				tb.Fatal(err)
			}
			h := &zip.FileHeader{Name: f.name, Method: f.method, CRC32: le.Uint32(x.head[14:]),
				CompressedSize64: uint64(le.Uint32(x.head[18:])), UncompressedSize64: uint64(len(f.data))}
			var c io.Writer
			if c, err = w.CreateRaw(h); err == nil {
				_, err = c.Write(x.data)
			}
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

var small = []file{
	{"META-INF/", "", Stored, false},
	{"a.txt", "hello\n", Stored, false},
	{"dir/b.txt", strings.Repeat("hello again ", 100), Deflated, false},
	{"c", "with a descriptor", Deflated, true},
	{"ä/ö", "", Stored, false},
	{"last", "stored, with a descriptor", Stored, true},
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("a.zip", b) }

// check opens and reads an archive whole.
func check(b []byte, o Options) (*Archive, *Contents, error) {
	z, err := Open(artifact(b), o)
	if err != nil {
		return nil, nil, err
	}
	c, err := z.Read(context.Background(), []crypto.Hash{crypto.SHA256}, func(i int) int64 { return max(z.Entries[i].Size, 1) }, nil)
	return z, c, err
}

func TestReads(t *testing.T) {
	b := build(t, small...)
	z, c, err := check(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(z.Entries) != len(small) {
		t.Fatalf("%d entries", len(z.Entries))
	}
	for i, f := range small {
		sum := sha256.Sum256([]byte(f.data))
		if z.Entries[i].Name != f.name || string(c.Kept[i]) != f.data || !bytes.Equal(c.Digest(i), sum[:]) {
			t.Errorf("%s: %q, %x", f.name, c.Kept[i], c.Digest(i))
		}
		got, err := z.Content(i, 1<<20)
		if err != nil || string(got) != f.data {
			t.Errorf("%s: %q, %v", f.name, got, err)
		}
		if z.Index(f.name) != i {
			t.Errorf("%s is at %d", f.name, z.Index(f.name))
		}
	}
	if _, err := z.Content(2, 10); !errors.Is(err, ErrLimit) {
		t.Errorf("a content over the limit: %v", err)
	}
	var names []string
	if err := z.List(t.Context(), func(e format.Entry) error { names = append(names, e.Name); return nil }); err != nil || len(names) != 5 {
		t.Errorf("%v, %v", names, err)
	}
}

// large has entries of all sizes: in one block, over two, over many.
func large(tb testing.TB) []file {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	out := []file{{"big stored", string(noise), Stored, true}, {"big deflated", string(noise), Deflated, true}, {"zeros", string(make([]byte, 20<<20)), Deflated, true}}
	for i := range 2000 {
		n := r.IntN(4000)
		out = append(out, file{fmt.Sprintf("dir%d/%d", i%7, i), string(noise[i*50:][:n]), uint16(i%2) * Deflated, i%3 == 0})
	}
	return append(out, file{"end", string(noise[:300<<10]), Stored, true})
}

func TestReadsOnceInOrder(t *testing.T) {
	files := large(t)
	b := build(t, files...)
	a := &inOrder{Artifact: artifact(b)}
	z, err := Open(a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.read, a.until, a.back = 0, 0, false
	raw := sha256.New()
	c, err := z.Read(t.Context(), []crypto.Hash{crypto.SHA256, crypto.SHA512}, func(int) int64 { return 0 }, func(b []byte) error { raw.Write(b); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if a.read != z.End || a.back {
		t.Errorf("read %d of %d, back %t", a.read, z.End, a.back)
	}
	if want := sha256.Sum256(b[:z.End]); !bytes.Equal(raw.Sum(nil), want[:]) {
		t.Error("Raw did not get the bytes of the file")
	}
	for i, f := range files {
		if sum := sha256.Sum256([]byte(f.data)); !bytes.Equal(c.Digest(i)[:32], sum[:]) || len(c.Digest(i)) != 96 {
			t.Errorf("%s: %x", f.name, c.Digest(i))
		}
	}
}

type inOrder struct {
	format.Artifact
	read, until int64
	back        bool
}

func (a *inOrder) ReadAt(p []byte, off int64) (int, error) {
	n, err := a.Artifact.ReadAt(p, off)
	a.back = a.back || off < a.until
	a.read, a.until = a.read+int64(n), off+int64(n)
	return n, err
}

// A worker's error ends the scan, and no goroutine stays behind.
func TestErrorsEndTheScan(t *testing.T) {
	b := build(t, large(t)...)
	for _, at := range []int{100, len(b) / 2, 3<<20 + 5000} {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if _, _, err := check(bad, Options{}); err == nil {
			t.Errorf("byte %d changed: accepted", at)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	z, err := Open(artifact(b), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Read(ctx, nil, func(int) int64 { return 0 }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := z.Scan(t.Context(), Scan{Raw: func([]byte) error { return io.ErrClosedPipe }}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Raw's error: %v", err)
	}
	var nothing Scan
	nothing.Content = func(_, i int) (io.WriteCloser, error) { return nil, nil }
	if err := z.Scan(t.Context(), nothing); err != nil {
		t.Errorf("contents that nobody wants: %v", err)
	}
}

// Invariant 1: what two readers could see differently is refused.
func TestAmbiguousArchives(t *testing.T) {
	b := build(t, small...)
	z, err := Open(artifact(b), Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, rec := int(z.Directory), func(i int) int { return int(z.Directory) + int(z.Entries[i].record) }
	change := func(at int, with ...byte) []byte {
		c := bytes.Clone(b)
		copy(c[at:], with)
		return c
	}
	end := len(b) - endSize
	local := func(i int) int { return int(z.Entries[i].Offset) }
	stored := func(names ...string) []byte {
		var fs []file
		for _, n := range names {
			fs = append(fs, file{n, "", Stored, false})
		}
		return raw(t, fs...)
	}
	grown := func(at int, insert []byte) []byte { // insert before the directory, with its offset corrected
		c := append(bytes.Clone(b[:at]), append(bytes.Clone(insert), b[at:]...)...)
		le.PutUint32(c[len(c)-endSize+16:], uint32(dir+len(insert)))
		return c
	}
	for name, c := range map[string][]byte{
		"name twice":                  stored("a", "b", "a"),
		"name as file and folder":     stored("a", "a/"),
		"parent folder":               stored("../a"),
		"parent folder inside":        stored("a/../b"),
		"here":                        stored("./a"),
		"absolute":                    stored("/a"),
		"empty part":                  stored("a//b"),
		"backslash":                   stored(`a\b`),
		"NUL":                         stored("a\x00b"),
		"line end":                    stored("a\nb"),
		"not UTF-8":                   stored("a\xff"),
		"no name":                     stored(""),
		"slash":                       stored("/"),
		"local name":                  change(local(1)+localSize, 'b'),
		"local method":                change(local(1)+8, Deflated),
		"local flags":                 change(local(1)+6, 1<<3),
		"local checksum":              change(local(1)+14, 1),
		"local size":                  change(local(1)+22, 1),
		"local signature":             change(local(1), 'Q'),
		"checksum in both":            twice(b, local(1)+14, rec(1)+16),
		"descriptor":                  change(local(4)-1, 1),
		"directory's checksum":        change(rec(1)+16, 1),
		"encrypted":                   twice(b, local(1)+6, rec(1)+8),
		"method unknown":              change(rec(1)+10, 12),
		"another disk":                change(rec(1)+34, 1),
		"directory's signature":       change(dir, 'Q'),
		"count":                       change(end+8, 5, 0, 5),
		"counts differ":               change(end+8, 5),
		"count too high":              change(end+8, 7, 0, 7),
		"directory's size":            change(end+12, b[end+12]+1),
		"directory's offset":          change(end+16, b[end+16]+1),
		"disk number":                 change(end+4, 1),
		"disks left to no record":     slices.Concat(b[:end+4], []byte("\xff\xff\xff\xff"), b[end+8:]),
		"comment's length":            change(end+20, 1),
		"overlap":                     change(rec(2)+42, b[rec(1)+42]),
		"entry in the directory":      change(rec(1)+42, b[end+16], b[end+17]),
		"prefix":                      append([]byte("#!/bin/sh\n"), b...),
		"bytes after the end":         append(bytes.Clone(b), 0),
		"bytes before the directory":  grown(dir, []byte{0}),
		"second end record":           append(bytes.Clone(b), b[end:]...),
		"end record in a comment":     comment(b, "PK\x05\x06 and so on"),
		"second name":                 unicodeName(t),
		"data after the deflated end": trailing(t),
	} {
		if _, _, err := check(c, Options{}); err == nil {
			t.Errorf("%s is accepted", name)
		} else if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrContent) && !errors.Is(err, ErrNotZip) {
			t.Errorf("%s: %v: not one of the package's errors", name, err)
		}
	}
	if z, _, err := check(comment(b, "a comment"), Options{}); err != nil || z.Comment != "a comment" {
		t.Errorf("comment: %v", err)
	}
}

// raw makes an archive with our own writer, names unchecked.
func raw(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var b, dir []byte
	for _, f := range files {
		file := File{Name: strings.Repeat("x", len(f.name)), Content: []byte(f.data), Method: f.method}
		if f.name == "" {
			file.Name = "x"
		}
		w, err := file.write()
		if err != nil {
			tb.Fatal(err)
		}
		rec, err := w.at(int64(len(b)))
		if err != nil {
			tb.Fatal(err)
		}
		if f.name == "" {
			le.PutUint16(w.head[26:], 0)
			le.PutUint16(rec[28:], 0)
			w.head, w.data, rec = w.head[:localSize], nil, rec[:centralSize]
		}
		copy(w.head[localSize:], f.name)
		copy(rec[centralSize:], f.name)
		b, dir = w.local(b), append(dir, rec...)
	}
	z := &Archive{}
	return append(append(b, dir...), z.endRecords(int64(len(files)), int64(len(dir)), int64(len(b)))...)
}

func twice(b []byte, at ...int) []byte {
	c := bytes.Clone(b)
	for _, i := range at {
		c[i] ^= 1
	}
	return c
}

func comment(b []byte, text string) []byte {
	c := bytes.Clone(b)
	le.PutUint16(c[len(c)-2:], uint16(len(text)))
	return append(c, text...)
}

func unicodeName(tb testing.TB) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	c, err := w.CreateHeader(&zip.FileHeader{Name: "a", Extra: []byte{0x75, 0x70, 6, 0, 1, 0, 0, 0, 0, 'b'}})
	if err == nil {
		_, err = c.Write([]byte("x"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// trailing has bytes after the end of the deflated stream, inside the entry.
func trailing(tb testing.TB) []byte {
	f := File{Name: "a", Content: []byte("hello"), Method: Deflated}
	w, err := f.write()
	if err != nil {
		tb.Fatal(err)
	}
	w.data = append(w.data, 0)
	n := le.Uint32(w.head[18:]) + 1
	le.PutUint32(w.head[18:], n)
	le.PutUint32(w.record[20:], n)
	z := &Archive{}
	return append(append(w.local(nil), w.record...), z.endRecords(1, int64(len(w.record)), int64(w.size()))...)
}

// A size that the content does not have is noticed before more than it was kept.
func TestBombs(t *testing.T) {
	f := File{Name: "a", Content: make([]byte, 1<<20), Method: Deflated}
	w, err := f.write()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint32{10, 1<<20 - 1, 1<<20 + 1, 1 << 31} {
		l, r := w.local(nil), bytes.Clone(w.record)
		le.PutUint32(l[22:], size)
		le.PutUint32(r[24:], size)
		z := &Archive{}
		b := append(append(l, r...), z.endRecords(1, int64(len(r)), int64(len(l)))...)
		if _, _, err := check(b, Options{}); !errors.Is(err, ErrContent) && !errors.Is(err, ErrMalformed) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	// A directory that claims many entries takes no memory for them.
	b := build(t, small...)
	copy(b[len(b)-endSize+8:], []byte{0xff, 0xff, 0xff, 0xff})
	if _, err := Open(artifact(b), Options{}); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// Invariant 5, and the edited archive is one for other readers.
func TestEdits(t *testing.T) {
	unzip := formattest.Program(t, "unzip", "apt-get install unzip")
	b := comment(build(t, small...), "comment")
	for name, edit := range map[string]func(z *Archive, e *Editor){
		"front": func(z *Archive, e *Editor) { e.Front(File{Name: "new", Content: []byte("new")}) },
		"back": func(z *Archive, e *Editor) {
			e.Back(File{Name: "new", Content: []byte("new"), Method: Deflated, Padding: 1000})
		},
		"replace":          func(z *Archive, e *Editor) { e.Remove(2); e.Front(File{Name: "dir/b.txt", Content: []byte("b")}) },
		"remove the first": func(z *Archive, e *Editor) { e.Remove(0) },
		"remove the last":  func(z *Archive, e *Editor) { e.Remove(5); e.Remove(4) },
		"everything": func(z *Archive, e *Editor) {
			e.Remove(0)
			e.Remove(3)
			e.Remove(5)
			e.Front(File{Name: "1"}, File{Name: "2", Content: make([]byte, 1000), Method: Deflated})
			e.Back(File{Name: "3", Content: []byte("three")})
		},
	} {
		z, before, err := check(b, Options{})
		if err != nil {
			t.Fatal(err)
		}
		e := z.Edit()
		edit(z, e)
		r, err := e.Apply()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := r.Patch.Bytes(artifact(b))
		if err != nil {
			t.Fatal(err)
		}
		y, after, err := check(out, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if y.End != r.End || y.directory != string(r.Directory) || y.Comment != "comment" || !bytes.HasSuffix(out, r.Tail) {
			t.Errorf("%s: the result is not what it says", name)
		}
		kept := 0
		for i := range z.Entries {
			if e.removed[i] {
				continue
			}
			kept++
			j := y.Index(z.Entries[i].Name)
			if j < 0 || !bytes.Equal(after.Kept[j], before.Kept[i]) {
				t.Errorf("%s: %s is not there any more", name, z.Entries[i].Name)
			}
		}
		if len(y.Entries) != kept+len(e.front)+len(e.back) {
			t.Errorf("%s: %d entries", name, len(y.Entries))
		}
		path := filepath.Join(t.TempDir(), "a.zip")
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(unzip, "-tq", path).CombinedOutput(); err != nil {
			t.Errorf("%s: unzip: %v: %s", name, err, msg)
		}
		if _, err := zip.NewReader(bytes.NewReader(out), int64(len(out))); err != nil {
			t.Errorf("%s: archive/zip: %v", name, err)
		}
	}
	z, _, err := check(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := z.Edit()
	e.Front(File{Name: "a.txt"})
	if _, err := e.Apply(); err == nil {
		t.Error("a name that is there is put in again")
	}
	e = z.Edit()
	e.Front(File{Name: "../a"})
	if _, err := e.Apply(); err == nil {
		t.Error("a name that leads out is put in")
	}
}

// Between entries and directory a format may have something of its own, and gaps.
func TestBeforeAndGaps(t *testing.T) {
	b := build(t, file{"a", "1", Stored, false}, file{"b", "2", Stored, true})
	z, _, err := check(b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := z.Edit()
	e.Between([]byte("something else"))
	r, err := e.Apply()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Patch.Bytes(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := check(out, Options{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("without asking for it: %v", err)
	}
	if _, _, err := check(out, Options{Gaps: true}); err != nil {
		t.Errorf("gaps: %v", err)
	}
	o := Options{Before: func(_ format.Artifact, dir int64) (int64, error) { return dir - 14, nil }}
	y, _, err := check(out, o)
	if err != nil || y.End != z.End {
		t.Fatalf("before: %v", err)
	}
	e = y.Edit()
	e.Back(File{Name: "c"})
	r, err = e.Apply()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = r.Patch.Bytes(artifact(out)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := check(out, o); err != nil || !bytes.Contains(out, []byte("something elsePK\x01\x02")) {
		t.Errorf("kept: %v", err)
	}
}

// More entries than 16 bits count need ZIP64, which stays when it is edited.
func TestZIP64(t *testing.T) {
	var files []file
	for i := range 66000 {
		files = append(files, file{fmt.Sprint(i), "", Stored, false})
	}
	b := raw(t, files[:65535]...)
	for range 2 {
		z, _, err := check(b, Options{})
		if err != nil || !z.zip64 {
			t.Fatalf("zip64 %t, %v", z != nil && z.zip64, err)
		}
		e := z.Edit()
		e.Front(File{Name: fmt.Sprintf("new%d", len(b))})
		r, err := e.Apply()
		if err != nil {
			t.Fatal(err)
		}
		if b, err = r.Patch.Bytes(artifact(b)); err != nil {
			t.Fatal(err)
		}
	}
	if z, err := zip.NewReader(bytes.NewReader(b), int64(len(b))); err != nil || len(z.File) != 65537 {
		t.Error(err)
	}
	for at := len(b) - endSize - locator64Size - end64Size; at < len(b)-endSize; at++ {
		b[at] ^= 1
		if _, err := Open(artifact(b), Options{}); err == nil && at != len(b)-endSize-locator64Size-end64Size+12 && !versions(b, at) {
			t.Errorf("end record's byte %d changed: accepted", at)
		}
		b[at] ^= 1
	}
	// Entries written as streams have ZIP64 numbers in descriptors when they are large.
	z, err := Open(artifact(raw(t, files[:10]...)), Options{})
	if err != nil || z.zip64 {
		t.Errorf("few entries: %v", err)
	}
}

// versions are the fields that say which program made the record: of no consequence.
func versions(b []byte, at int) bool {
	i := at - (len(b) - endSize - locator64Size - end64Size)
	return i >= 12 && i < 16
}

// Invariant 4: memory for many entries.
func TestMemoryOfManyEntries(t *testing.T) {
	var files []file
	for i := range 50000 {
		files = append(files, file{fmt.Sprintf("com/example/product/module/Class%d.class", i), "content", Stored, false})
	}
	a := artifact(raw(t, files...))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	z, err := Open(a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := z.Read(t.Context(), []crypto.Hash{crypto.SHA256}, func(int) int64 { return 0 }, nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / 50000; n > 200 {
		t.Errorf("%d bytes an entry", n)
	}
	runtime.KeepAlive(c)
	runtime.KeepAlive(z)
}

// What is accepted is seen alike by Go's own reader, and by us after an edit.
func FuzzOpen(f *testing.F) {
	n := 0
	for _, s := range [][]byte{build(f, small...), raw(f, small...), comment(build(f, small[:2]...), "x"), raw(f), build(f, file{"a", "b", Deflated, true})} {
		f.Add(s)
		n++
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		z, c, err := check(b, Options{})
		if err != nil {
			return
		}
		std, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, zip.ErrInsecurePath) || len(std.File) != len(z.Entries) {
			t.Fatalf("archive/zip: %v", err)
		}
		for i, s := range std.File {
			if s.Name != z.Entries[i].Name {
				t.Fatalf("%q is %q for archive/zip", z.Entries[i].Name, s.Name)
			}
			if z.Entries[i].Dir() {
				continue
			}
			r, err := s.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(data, c.Kept[i]) {
				t.Fatalf("%q differs for archive/zip: %v", s.Name, err)
			}
		}
		e := z.Edit()
		e.Front(File{Name: "a new entry", Content: []byte("x")})
		if z.Index("a new entry") >= 0 {
			return
		}
		r, err := e.Apply()
		if err != nil {
			return
		}
		out, err := r.Patch.Bytes(artifact(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := check(out, Options{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFiller(t *testing.T) {
	for _, n := range []int64{30, 31, 59, 60, 65565, 65566, 65594, 65595, 65596, 131130, 131131, 200000} {
		b := Filler(n)
		if int64(len(b)) != n {
			t.Errorf("%d bytes: %d", n, len(b))
		}
		for len(b) > 0 {
			if le.Uint32(b) != sigLocal {
				t.Fatalf("%d: not a local header", n)
			}
			b = b[localSize+int(le.Uint16(b[28:])):]
		}
	}
}

// What is packed piece by piece is what is packed at once, and counts only when it is
// whole.
func TestPacked(t *testing.T) {
	content := bytes.Repeat([]byte("a content that is longer than one write; "), 5000)
	p, err := NewPacked()
	if err != nil {
		t.Fatal(err)
	}
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 1+len(rest)%977)
		if _, err := p.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	f := File{Name: "a", Packed: p, Method: Deflated}
	if _, err := f.Local(); err == nil {
		t.Error("a content that was not closed")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]File{
		"with a content": {Name: "a", Packed: p, Content: []byte("x"), Method: Deflated},
		"stored":         {Name: "a", Packed: p},
	} {
		if _, err := bad.Local(); err == nil {
			t.Error(what)
		}
	}
	whole := File{Name: "a", Content: content, Method: Deflated}
	for _, encode := range []func(*File) ([]byte, error){(*File).Local, func(f *File) ([]byte, error) { return f.Record(7) }} {
		got, err := encode(&f)
		want, err2 := encode(&whole)
		if err != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%v %v: %d bytes, want %d", err, err2, len(got), len(want))
		}
	}
}
