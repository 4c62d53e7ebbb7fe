package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// anyStatement draws a statement that Check accepts.
func anyStatement() *rapid.Generator[*record.Statement] {
	return rapid.Custom(func(t *rapid.T) *record.Statement {
		word := rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,20}`)
		name := rapid.StringMatching(`[a-zA-Z_ äß]{1,30}`)
		sorted := func(what string, g *rapid.Generator[string], n int) []string {
			list := rapid.SliceOfNDistinct(g, 0, n, rapid.ID[string]).Draw(t, what)
			slices.Sort(list)
			return list
		}
		digest := rapid.Custom(func(t *rapid.T) (d [32]byte) {
			copy(d[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
			return d
		})
		s := &record.Statement{
			Version: 1, Purpose: rapid.OneOf(word, rapid.Just("*")).Draw(t, "purpose"), Issuer: word.Draw(t, "issuer"),
			Audience: sorted("audience", word, 3),
			Ref:      record.Ref{Table: name.Draw(t, "table"), Key: rapid.SliceOfN(rapid.StringN(1, 40, 200), 1, 4).Draw(t, "key")},
			Revision: rapid.Uint64Range(1, 1<<63-1).Draw(t, "revision"), Deleted: rapid.Bool().Draw(t, "deleted"),
			Configuration: record.ConfigurationRef{ID: word.Draw(t, "id"), Version: rapid.Uint64Range(1, 1<<63).Draw(t, "version"), Digest: digest.Draw(t, "d")},
		}
		for _, f := range sorted("fields", name, 30) {
			s.Fields = append(s.Fields, record.FieldDigest{Name: f, Digest: digest.Draw(t, "field")})
		}
		for _, a := range sorted("attachments", name, 3) {
			s.Attachments = append(s.Attachments, record.Attachment{Name: a, Type: "text/plain", Size: rapid.Int64Range(0, 1<<62).Draw(t, "size"), SHA256: digest.Draw(t, "a")})
		}
		s.NotBefore = rapid.Int64Range(0, 1<<33).Draw(t, "not before")
		if rapid.Bool().Draw(t, "expires") {
			s.Expires = s.NotBefore + rapid.Int64Range(1, 1<<33).Draw(t, "for")
		}
		return s
	})
}

// Invariant 1: the encoding is package format's, written and read without it.
func TestStatementEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyStatement().Draw(t, "statement")
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		want, err := format.Encode(s)
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%x\n%x (%v)", b, want, err)
		}
		d, err := record.DecodeStatement(b)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x: %v", again, err)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		for _, bad := range [][]byte{b[:i], append(slices.Clone(b), 0)} {
			if _, err := record.DecodeStatement(bad); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("%x: %v", bad, err)
			}
		}
	})
}

// Other encodings of the same statement are refused.
func TestStatementHasOneEncoding(t *testing.T) {
	s := recordtest.Signing{}.Statement(t, recordtest.DataSource())
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if b[0] != 0xac || b[1] != 1 || b[2] != 1 {
		t.Fatalf("%x", b[:3])
	}
	for name, bad := range map[string][]byte{
		"a longer number":      slices.Concat(b[:2], []byte{0x18, 1}, b[3:]),
		"a longer map":         slices.Concat([]byte{0xb8, 12}, b[1:]),
		"an indefinite map":    slices.Concat([]byte{0xbf}, b[1:], []byte{0xff}),
		"a tag":                append([]byte{0xd8, 0x20}, b...),
		"another order":        slices.Concat(b[:1], b[3:], b[1:3]),
		"a field left out":     slices.Concat([]byte{0xab}, b[3:]),
		"a field twice":        slices.Concat([]byte{0xad}, b[1:3], b[1:]),
		"an unknown field":     slices.Concat([]byte{0xad}, b[1:], []byte{13, 0}),
		"version 2":            slices.Concat(b[:2], []byte{2}, b[3:]),
		"nothing":              nil,
		"a claim of 4 GiB":     slices.Concat(b[:3], []byte{2, 0x7a, 0xff, 0xff, 0xff, 0xff}),
		"a claim of 16 EiB":    slices.Concat(b[:3], []byte{2, 0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}),
		"reserved information": slices.Concat(b[:2], []byte{0x1c}, b[3:]),
	} {
		if _, err := record.DecodeStatement(bad); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Statements that nobody may make are neither written nor read.
func TestBadStatements(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, change := range map[string]func(*record.Statement){
		"version":               func(s *record.Statement) { s.Version = 2 },
		"no purpose":            func(s *record.Statement) { s.Purpose = "" },
		"purpose in capitals":   func(s *record.Statement) { s.Purpose = "ECC" },
		"no issuer":             func(s *record.Statement) { s.Issuer = "" },
		"audience unsorted":     func(s *record.Statement) { s.Audience = []string{"b", "a"} },
		"audience twice":        func(s *record.Statement) { s.Audience = []string{"a", "a"} },
		"no table":              func(s *record.Statement) { s.Ref.Table = "" },
		"long table":            func(s *record.Statement) { s.Ref.Table = long },
		"table of two lines":    func(s *record.Statement) { s.Ref.Table = "a\nb" },
		"table that turns":      func(s *record.Statement) { s.Ref.Table = "a\u202eb" },
		"no key":                func(s *record.Statement) { s.Ref.Key = nil },
		"empty key":             func(s *record.Statement) { s.Ref.Key = []string{""} },
		"long key":              func(s *record.Statement) { s.Ref.Key = []string{long} },
		"key of many":           func(s *record.Statement) { s.Ref.Key = slices.Repeat([]string{"k"}, 17) },
		"key not UTF-8":         func(s *record.Statement) { s.Ref.Key = []string{"\xff"} },
		"revision 0":            func(s *record.Statement) { s.Revision = 0 },
		"revision 2^63":         func(s *record.Statement) { s.Revision = 1 << 63 },
		"no configuration":      func(s *record.Statement) { s.Configuration.ID = "" },
		"configuration 0":       func(s *record.Statement) { s.Configuration.Version = 0 },
		"fields unsorted":       func(s *record.Statement) { slices.Reverse(s.Fields) },
		"field twice":           func(s *record.Statement) { s.Fields[1] = s.Fields[0] },
		"field of no name":      func(s *record.Statement) { s.Fields[0].Name = "" },
		"many fields":           func(s *record.Statement) { s.Fields = make([]record.FieldDigest, record.MaxFields+1) },
		"attachments unsorted":  func(s *record.Statement) { slices.Reverse(s.Attachments) },
		"attachment of no name": func(s *record.Statement) { s.Attachments[0].Name = "" },
		"attachment in two":     func(s *record.Statement) { s.Attachments[0].Name = "a\nb" },
		"attachment of -1":      func(s *record.Statement) { s.Attachments[0].Size = -1 },
		"many attachments":      func(s *record.Statement) { s.Attachments = make([]record.Attachment, record.MaxAttachments+1) },
		"ends before it begins": func(s *record.Statement) { s.NotBefore, s.Expires = 2, 1 },
		"before 1970":           func(s *record.Statement) { s.NotBefore = -1 },
		"after 9999":            func(s *record.Statement) { s.Expires = 1 << 60 },
	} {
		s := recordtest.Signing{}.Statement(t, recordtest.DataSource())
		change(s)
		if _, err := s.Encode(); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s is encoded: %v", name, err)
		}
		if _, err := record.DecodeStatement(s.Append()); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s is decoded: %v", name, err)
		}
	}
}

// Absence, the name and the value are all in a field's digest.
func TestFieldDigest(t *testing.T) {
	if record.FieldDigestOf("a", "") == record.FieldDigestOf("a", "\x00") || record.FieldDigestOf("a", "b") == record.FieldDigestOf("ab", "") ||
		record.FieldDigestOf("a", "bc") == record.FieldDigestOf("ab", "c") || record.FieldDigestOf("a", "x") == record.FieldDigestOf("b", "x") {
		t.Error("two fields have one digest")
	}
	seen := map[[32]byte]bool{}
	for n := range 2000 { // the sizes around which the value is hashed another way
		seen[record.FieldDigestOf("name", strings.Repeat("v", n))] = true
	}
	if len(seen) != 2000 {
		t.Errorf("%d digests of 2000 values", len(seen))
	}
}

// Only what a configuration signs is in a statement, and an empty field is absent.
func TestStatementOfRecord(t *testing.T) {
	r := recordtest.DataSource()
	s := recordtest.Signing{}.Statement(t, r)
	c := recordtest.Configuration()
	if len(s.Fields) != len(c.Fields) || s.Configuration != c.Ref(recordtest.ID) || s.Purpose != record.Queue {
		t.Errorf("%+v", s)
	}
	r.Fields["properties"] = ""
	r.Fields["last_run_datetime"] = "now"
	if again := (recordtest.Signing{}).Statement(t, r); !bytes.Equal(again.Append(), s.Append()) {
		t.Error("an empty field, or one that is not signed, changes the statement")
	}
	r.Ref.Table = "sys_script"
	if _, err := record.NewStatement(recordtest.ID, &c, r, record.StatementOptions{Issuer: "x", Revision: 1}); err == nil {
		t.Error("a record of another table is signed")
	}
}

func TestConfigurationCheck(t *testing.T) {
	for id, c := range record.Predefined() {
		if err := c.Check(id); err != nil || c.Purpose != record.Wildcard || !slices.IsSorted(c.Fields) || !slices.Contains(record.WildcardTables(), c.Table) {
			t.Errorf("%s: %v", id, err)
		}
		c.Fields = c.Fields[1:]
		if c.Check(id) == nil {
			t.Errorf("%s is accepted with a field less", id)
		}
		other := record.Predefined()[id]
		if other.Check("another-id") == nil {
			t.Errorf("%s is accepted under another name", id)
		}
		c = recordtest.Configuration()
		if c.Check(id) == nil {
			t.Errorf("%s is redefined", id)
		}
	}
	for name, change := range map[string]func(c *record.Configuration){
		"version 0":                  func(c *record.Configuration) { c.Version = 0 },
		"no table":                   func(c *record.Configuration) { c.Table = "" },
		"no purpose":                 func(c *record.Configuration) { c.Purpose = "" },
		"the wild card":              func(c *record.Configuration) { c.Purpose = record.Wildcard },
		"the wild card on its table": func(c *record.Configuration) { c.Purpose, c.Table = record.Wildcard, "sys_script" },
		"the circle":                 func(c *record.Configuration) { c.Purpose = record.Circle },
		"freshness":                  func(c *record.Configuration) { c.Purpose = record.Freshness },
		"nothing signed":             func(c *record.Configuration) { c.Fields, c.Attachments = nil, false },
		"unsorted fields":            func(c *record.Configuration) { slices.Reverse(c.Fields) },
		"a field twice":              func(c *record.Configuration) { c.Fields[1] = c.Fields[0] },
		"too many fields":            func(c *record.Configuration) { c.Fields = make([]string, record.MaxFields+1) },
		"unsorted parameters":        func(c *record.Configuration) { c.Parameters = []string{"b", "a"} },
		"a long condition":           func(c *record.Configuration) { c.Condition = strings.Repeat("x", 5000) },
	} {
		c := recordtest.Configuration()
		change(&c)
		if err := c.Check("x"); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, b := recordtest.Configuration(), recordtest.Configuration()
	b.Parameters = nil
	if a.Digest("x") == b.Digest("x") || a.Digest("x") == a.Digest("y") {
		t.Error("two configurations have one digest")
	}
}

// Different records have different IDs.
func TestRefID(t *testing.T) {
	refs := []record.Ref{{"a", []string{"b"}}, {"a", []string{"b", ""}}, {"ab", nil}, {"a", []string{"1:b"}}, {"a", []string{"b1:c"}}, {"a", []string{"b", "c"}}, {"a1:b", []string{"c"}}, {"", []string{"a", "b"}}}
	for i, a := range refs {
		for k, b := range refs {
			if (a.ID() == b.ID()) != (i == k) || a.Equal(b) != (i == k) || (a.Compare(b) == 0) != (i == k) {
				t.Errorf("%q and %q", a, b)
			}
		}
	}
}

// The job says of its statements what is true, and describes nothing else.
func TestBuilder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(anyStatement(), 1, 8).Draw(t, "statements")
		head := record.ListHead{Job: recordtest.Job, Issuer: list[0].Issuer, Audience: list[0].Audience}
		configs := map[string]record.ConfigurationRef{}
		tiles := merkle.MemoryTiles{}
		b, err := record.NewBuilder(head, tiles)
		if err != nil {
			t.Fatal(err)
		}
		var leaves []merkle.Hash
		var deleted, expires int64
		for i, s := range list {
			s.Issuer, s.Audience = head.Issuer, head.Audience
			if c, ok := configs[s.Configuration.ID]; ok {
				s.Configuration = c
			}
			configs[s.Configuration.ID] = s.Configuration
			x, err := s.Seal()
			if err != nil {
				t.Fatal(err)
			}
			n, err := b.AddSealed(x)
			if err != nil || n != int64(i) {
				t.Fatal(n, err)
			}
			enc := x.Bytes()
			leaves = append(leaves, record.Leaf(enc))
			if s.Deleted {
				deleted++
			}
			expires = max(expires, s.Expires)
		}
		j, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		root, err := merkle.Root(merkle.Records, leaves)
		if err != nil || !bytes.Equal(j.Root, root[:]) || j.Count != int64(len(list)) || j.Deletions != deleted || len(j.Configurations) != len(configs) {
			t.Fatalf("%+v, %v", j, err)
		}
		for _, s := range list {
			if !j.Describes(s) {
				t.Fatalf("%+v is not described", s)
			}
			if s.Expires == 0 && j.Expires != 0 || s.Revision < j.LowestRevision || s.Revision > j.LatestRevision {
				t.Fatalf("%+v", j)
			}
		}
		enc, err := j.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := record.DecodeJob(enc)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, enc) {
			t.Fatal(err)
		}
	})
}

func TestBuilderRefuses(t *testing.T) {
	head := record.ListHead{Job: recordtest.Job, Issuer: recordtest.Trusted}
	for _, h := range []record.ListHead{{}, {Job: recordtest.Job}, {Job: "AA" + recordtest.Job[2:], Issuer: "x"}, {Job: recordtest.Job, Issuer: "x", Audience: []string{"b", "a"}}} {
		if _, err := record.NewBuilder(h, nil); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	b, err := record.NewBuilder(head, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(); !errors.Is(err, merkle.ErrEmpty) {
		t.Error(err)
	}
	for name, g := range map[string]recordtest.Signing{
		"issuer": {Issuer: "another"}, "audience": {Audience: []string{"x"}},
		"configuration": {Change: func(s *record.Statement) { s.Configuration.Digest[0] ^= 1 }},
	} {
		b, err := record.NewBuilder(head, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Add(recordtest.Signing{}.Statement(t, recordtest.DataSource())); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Add(g.Statement(t, recordtest.DataSource())); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := b.AddEncoded([]byte("x")); !errors.Is(err, record.ErrMalformed) {
		t.Error(err)
	}
}

func TestList(t *testing.T) {
	var file bytes.Buffer
	head := record.ListHead{Job: recordtest.Job, Issuer: "x", Audience: []string{"a", "b"}}
	w, err := record.NewListWriter(&file, head)
	if err != nil {
		t.Fatal(err)
	}
	pieces := [][]byte{{1}, bytes.Repeat([]byte{2}, 300), {3}}
	for _, p := range pieces {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if w.Write(nil) == nil {
		t.Error("an empty statement is written")
	}
	r, err := record.NewListReader(bytes.NewReader(file.Bytes()))
	if err != nil || r.Head.Job != head.Job || !slices.Equal(r.Head.Audience, head.Audience) {
		t.Fatal(err)
	}
	for _, p := range pieces {
		if b, err := r.Next(); err != nil || !bytes.Equal(b, p) {
			t.Fatalf("%x, %v", b, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
	ends := map[int]bool{file.Len(): true} // where a list may end: after a statement, or after its head
	at := file.Len()
	for _, p := range slices.Backward(pieces) {
		at -= 4 + len(p)
		ends[at] = true
	}
	for n := range file.Len() {
		r, err := record.NewListReader(bytes.NewReader(file.Bytes()[:n]))
		for err == nil {
			_, err = r.Next()
		}
		if err == io.EOF != ends[n] || err != io.EOF && !errors.Is(err, record.ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	huge := binary.BigEndian.AppendUint32(file.Bytes()[:at:at], 1<<31)
	if r, err = record.NewListReader(bytes.NewReader(huge)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, record.ErrMalformed) {
		t.Error(err)
	}
}

func TestSignatureCodecs(t *testing.T) {
	s := newScene(t)
	b, err := s.sigs[0].Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.DecodeSignature(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Error(err)
	}
	for name, bad := range map[string]record.Signature{
		"empty": {}, "no root": {Statement: []byte{1}}, "negative": {Statement: []byte{1}, Root: []byte{1}, Index: -1},
		"half a hash": {Statement: []byte{1}, Root: []byte{1}, Path: make([]byte, 33)}, "a long path": {Statement: []byte{1}, Root: []byte{1}, Path: make([]byte, 42*32)},
		"a long root": {Statement: []byte{1}, Root: make([]byte, record.MaxRoot+1)},
	} {
		if _, err := bad.Encode(); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*record.SignedRoot){
		"version": func(r *record.SignedRoot) { r.Version = 2 }, "time": func(r *record.SignedRoot) { r.SignedAt = 0 }, "scheme": func(r *record.SignedRoot) { r.Scheme = "rsa-pkcs1-sha1" },
		"no certificate": func(r *record.SignedRoot) { r.Certificates = nil }, "nine": func(r *record.SignedRoot) { r.Certificates = slices.Repeat(r.Certificates[:1], 9) },
		"no signature": func(r *record.SignedRoot) { r.Signature = nil }, "no job": func(r *record.SignedRoot) { r.Job = nil }, "long": func(r *record.SignedRoot) { r.Timestamp = make([]byte, 1<<20) },
	} {
		r, err := record.DecodeSignedRoot(s.sigs[0].Root)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		if _, err := r.Encode(); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*record.Job){
		"version": func(j *record.Job) { j.Version = 2 }, "id": func(j *record.Job) { j.ID = "x" }, "issuer": func(j *record.Job) { j.Issuer = "" },
		"no purpose": func(j *record.Job) { j.Purposes = nil }, "purposes": func(j *record.Job) { j.Purposes = []string{"b", "a"} },
		"no table": func(j *record.Job) { j.Tables = nil }, "count": func(j *record.Job) { j.Count++ }, "count of a table": func(j *record.Job) { j.Tables[0].Count = 0 },
		"count that wraps": func(j *record.Job) {
			j.Tables = []record.TableCount{{Table: "a", Count: 1 << 62}, {Table: "b", Count: 1 << 62}, {Table: "c", Count: 1 << 62}, {Table: "d", Count: 1<<62 + 1}}
		},
		"no configuration": func(j *record.Job) { j.Configurations = nil }, "deletions": func(j *record.Job) { j.Deletions = 2 }, "revisions": func(j *record.Job) { j.LowestRevision = 0 },
		"size": func(j *record.Job) { j.Size = 0 }, "root": func(j *record.Job) { j.Root = j.Root[1:] }, "times": func(j *record.Job) { j.NotBefore = -1 },
	} {
		r, err := record.DecodeSignedRoot(s.sigs[0].Root)
		if err != nil {
			t.Fatal(err)
		}
		j, err := record.DecodeJob(r.Job)
		if err != nil {
			t.Fatal(err)
		}
		change(j)
		if _, err := j.Encode(); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The timestamp and the signature are all of a signed root that the key did not sign.
func TestMessageCovers(t *testing.T) {
	s := newScene(t)
	base, err := record.DecodeSignedRoot(s.sigs[0].Root)
	if err != nil {
		t.Fatal(err)
	}
	want, err := base.Message()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*record.SignedRoot)
		signed bool
	}{
		"job":       {func(r *record.SignedRoot) { r.Job = append(slices.Clone(r.Job), 0) }, true},
		"time":      {func(r *record.SignedRoot) { r.SignedAt++ }, true},
		"scheme":    {func(r *record.SignedRoot) { r.Scheme = string(sigalg.ECDSASHA384) }, true},
		"signer":    {func(r *record.SignedRoot) { r.Certificates = slices.Clone(r.Certificates[1:]) }, true},
		"authority": {func(r *record.SignedRoot) { r.Certificates = r.Certificates[:1] }, false},
		"timestamp": {func(r *record.SignedRoot) { r.Timestamp = []byte{1} }, false},
	} {
		r := *base
		c.change(&r)
		if m, err := r.Message(); err != nil || bytes.Equal(m, want) == c.signed {
			t.Errorf("%s: signed %v (%v)", name, !bytes.Equal(m, want), err)
		}
	}
}
