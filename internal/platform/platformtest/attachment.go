package platformtest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/greatseal-io/greatseal/internal/platform"
)

func fileOf(name string, content []byte) platform.File {
	return platform.File{Name: name, Type: "text/plain", Size: int64(len(content)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
}

func packed(content []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(content)
	z.Close()
	return b.Bytes()
}

// attachments of both shapes are written, listed with their digests and read; what is
// not exactly what it says is refused, without unpacking more than it says.
func attachments(s *suite) {
	s.scripts()
	s.sql("CREATE TABLE sys_attachment (sys_id %[1]s NOT NULL PRIMARY KEY, table_name %[1]s, table_sys_id %[1]s, file_name %[1]s, content_type %[1]s, size_bytes %[2]s)", s.Key, s.Int)
	s.sql("CREATE TABLE sys_attachment_doc (sys_id %[1]s NOT NULL PRIMARY KEY, sys_attachment %[1]s, position %[2]s, length %[2]s, data %[3]s)", s.Key, s.Int, s.Text)
	s.sql("CREATE TABLE jar (id %s, script %s, name %s, mime %s, content %s)", s.Serve, s.Key, s.Key, s.Key, s.Bytes)
	simple := platform.AttachmentTable{Table: "jar", Owner: "script", OwnerKey: "script", Name: "name", Type: "mime", Content: "content"}
	random := make([]byte, 150_000)
	rand.NewChaCha8([32]byte{1}).Read(random)

	for _, by := range []platform.AttachmentTable{simple, platform.SysAttachment()} {
		s.open(platform.Options{Attachments: []platform.AttachmentTable{by}})
		s.put("a", nil)
		files := []platform.File{fileOf("z.jar", random), fileOf("empty", nil), fileOf("o'brien \U0001f600.txt", []byte("text\r\n"))}
		s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref("script", "a"), Attachments: files}}))
		r, err := s.p.Get(s.ctx, ref("script", "a"), []string{})
		s.must(err)
		if a := r.Record.Attachments; len(a) != 3 || a[0].Name != "empty" || a[2].SHA256 != sha256.Sum256(random) || a[2].Size != int64(len(random)) || a[1].Type != "text/plain" || a[1].Size != 6 {
			s.t.Fatalf("%s: %+v", by.Table, a)
		}
		f, err := s.p.Attachment(s.ctx, ref("script", "a"), "z.jar")
		s.must(err)
		got, err := io.ReadAll(f)
		s.must(err)
		s.must(f.Close())
		if !bytes.Equal(got, random) {
			s.t.Error(by.Table, "another content")
		}
		for _, name := range []string{"Z.JAR", "none", ""} {
			if _, err := s.p.Attachment(s.ctx, ref("script", "a"), name); !errors.Is(err, platform.ErrNotFound) {
				s.t.Errorf("%q: %v", name, err)
			}
		}
		lie := fileOf("lie", []byte("12345"))
		for _, size := range []int64{4, 6, -1, platform.MaxAttachment + 1} {
			lie.Size = size
			if err := s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref("script", "a"), Attachments: []platform.File{lie}}}); err == nil {
				s.t.Errorf("%s: a file of 5 bytes that says %d is taken", by.Table, size)
			}
		}
		if r, err := s.p.Get(s.ctx, ref("script", "a"), nil); err != nil || len(r.Record.Attachments) != 3 {
			s.t.Error("a failed change took attachments away:", err)
		}
		s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref("script", "a"), Attachments: []platform.File{files[2]}}}))
		if r, err := s.p.Get(s.ctx, ref("script", "a"), nil); err != nil || len(r.Record.Attachments) != 1 {
			s.t.Error(err)
		}
		s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Delete, Ref: ref("script", "a")}, {Op: platform.Insert, Ref: ref("script", "a")}}))
		if r, err := s.p.Get(s.ctx, ref("script", "a"), nil); err != nil || len(r.Record.Attachments) != 0 {
			s.t.Error("attachments outlive their record:", err)
		}
		all, err := s.p.Tables(s.ctx)
		s.must(err)
		for _, t := range all {
			if t.Name == by.Table || by.Chunks != nil && t.Name == by.Chunks.Table {
				s.t.Error(t.Name, "is listed")
			}
		}
		if err := s.p.Scan(s.ctx, platform.Query{Table: by.Table}, nil); !errors.Is(err, platform.ErrTable) {
			s.t.Error(err)
		}
	}

	// By hand, in pieces.
	n := 0
	hand := func(table, owner, name string, size int, pieces ...string) {
		n++
		all := fmt.Sprintf("INSERT INTO sys_attachment VALUES ('att%d', '%s', '%s', '%s', 'x/y', %d)", n, table, owner, name, size)
		for i, p := range pieces {
			if len(all) > 60000 { // what a command's argument may hold
				s.SQL(s.t, all)
				all = "SELECT 1"
			}
			if p != "-" {
				position, data, _ := strings.Cut(p, ":")
				all += fmt.Sprintf("; INSERT INTO sys_attachment_doc VALUES ('doc%d_%d', 'att%d', %s, 1, '%s')", n, i, n, position, data)
			}
		}
		s.SQL(s.t, all)
	}
	cut := func(b []byte, size int) (out []string) {
		for i := 0; len(b) > 0; i++ {
			part := b[:min(size, len(b))]
			b = b[len(part):]
			out = append(out, fmt.Sprintf("%d:%s", i, base64.StdEncoding.EncodeToString(part)))
		}
		return out
	}
	z := packed(random[:5000])
	bomb := packed(make([]byte, 20<<20))
	for _, c := range []struct {
		name   string
		size   int
		pieces []string
		good   bool
	}{
		{"many", 5000, cut(z, 100), true},
		{"one", 5000, cut(z, 9000), true},
		{"less", 4999, cut(z, 100), false},
		{"more", 5001, cut(z, 100), false},
		{"cut", 5000, cut(z[:len(z)-9], 100), false},
		{"follows", 5000, append(cut(z, 5100), "1:AAAA"), false},
		{"second stream", 10000, cut(append(bytes.Clone(z), z...), 100), false},
		{"missing", 5000, append([]string{"-"}, cut(z, 100)[1:]...), false},
		{"twice", 5000, append(cut(z, 100), cut(z, 100)[8]), false},
		{"negative", 5000, append([]string{"-1:AAAA"}, cut(z, 100)...), false},
		{"not base64", 5000, []string{"0:!!"}, false},
		{"not gzip", 6, []string{"0:" + base64.StdEncoding.EncodeToString([]byte("plain!"))}, false},
		{"none", 0, nil, false},
		{"bomb", 1000, cut(bomb, 24000), false},
		{"stuffed", 10, cut(append(packed(nil), random...), 24000), false},
		{"huge", platform.MaxAttachment + 1, cut(z, 9000), false},
		{"minus", -5, cut(z, 9000), false},
	} {
		hand("ZZ_YYscript", "a", c.name, c.size, c.pieces...)
		f, err := s.p.Attachment(s.ctx, ref("script", "a"), c.name)
		var got int64
		if err == nil {
			got, err = io.Copy(io.Discard, f)
		}
		if (err == nil) != c.good || got > max(int64(c.size), 5000) {
			s.t.Errorf("%s: %d bytes, %v", c.name, got, err)
		} else if !c.good && !errors.Is(err, platform.ErrValue) && !errors.Is(err, platform.ErrLimit) {
			s.t.Errorf("%s: %v", c.name, err)
		}
		if _, err := s.p.Get(s.ctx, ref("script", "a"), nil); (err == nil) != c.good {
			s.t.Errorf("%s: the record: %v", c.name, err)
		}
		s.sql("DELETE FROM sys_attachment; DELETE FROM sys_attachment_doc")
	}
	// Of other records, and two of one name.
	hand("other", "a", "of another table", 5000, cut(z, 9000)...)
	hand("script", "b", "of another record", 5000, cut(z, 9000)...)
	hand("script", "a", "same", 5000, cut(z, 9000)...)
	hand("script", "a", "same", 5000, cut(z, 9000)...)
	r, err := s.p.Get(s.ctx, ref("script", "a"), nil)
	s.must(err)
	if len(r.Record.Attachments) != 2 {
		s.t.Errorf("%+v", r.Record.Attachments)
	}
	if _, err := s.p.Attachment(s.ctx, ref("script", "a"), "same"); !errors.Is(err, platform.ErrConflict) {
		s.t.Error("one of two:", err)
	}
}
