package zipfile

import (
	"archive/zip"
	"bytes"
	"io"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

// What is replaced keeps its place, name, method and attributes; what is not keeps its
// bytes; and another reader finds all of it.
func TestReplace(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, n := range []string{"a", "b", "c", "d"} {
		h := &zip.FileHeader{Name: n, Method: []uint16{zip.Store, zip.Deflate}[i%2]}
		h.SetMode(0o755)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Repeat([]byte(n), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a := format.BytesArtifact("a.zip", b.Bytes())
	z, err := Open(a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "short", "b": string(bytes.Repeat([]byte("longer"), 900)), "c": string(bytes.Repeat([]byte("c"), 1000)), "e": "new"}
	e := z.Edit()
	e.Replace(0, []byte(want["a"]))
	e.Replace(1, []byte(want["b"]))
	e.Remove(3)
	e.Back(File{Name: "e", Content: []byte(want["e"])})
	r, err := e.Apply()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Patch.Bytes(a)
	if err != nil {
		t.Fatal(err)
	}
	now, err := Open(format.BytesArtifact("a.zip", out), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := now.Scan(t.Context(), Scan{Content: func(_, _ int) (io.WriteCloser, error) { return nil, nil }}); err != nil {
		t.Error(err)
	}
	for i := range 3 {
		if o, n := z.RawRecord(i), now.RawRecord(i); now.Entries[i].Name != z.Entries[i].Name || now.Entries[i].Method != z.Entries[i].Method || o[36:42] != n[36:42] || o[12:16] != n[12:16] {
			t.Errorf("%s is another entry", z.Entries[i].Name)
		}
	}
	from, to := z.Span(2)
	at, _ := now.Span(2)
	if !bytes.Equal(b.Bytes()[from:to], out[at:at+to-from]) {
		t.Error("an entry that stays has other bytes")
	}
	theirs, err := zip.NewReader(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		t.Fatal(err)
	}
	if len(theirs.File) != len(want) {
		t.Errorf("%d entries: want %d", len(theirs.File), len(want))
	}
	for _, f := range theirs.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := io.ReadAll(in); err != nil || string(c) != want[f.Name] {
			t.Errorf("%s: %d bytes, %v", f.Name, len(c), err)
		}
	}
}
