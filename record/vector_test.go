package record_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

const vectors = "../docs/spec/vectors/records"

// The vectors of docs/spec/vectors/records: what somebody who writes another
// verifier needs. Bytes are in hexadecimal.
type (
	fieldVector struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Digest string `json:"digest"`
	}
	configurationVector struct {
		ID            string               `json:"id"`
		Configuration record.Configuration `json:"configuration"`
		Digest        string               `json:"digest"`
	}
	attachmentVector struct {
		Name   string `json:"name"`
		Type   string `json:"type"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	}
	recordVector struct {
		Table       string             `json:"table"`
		Key         []string           `json:"key"`
		Fields      map[string]string  `json:"fields"`
		Attachments []attachmentVector `json:"attachments"`
	}
	statementVector struct {
		Configuration string       `json:"configuration"`
		Record        recordVector `json:"record"`
		Issuer        string       `json:"issuer"`
		Audience      []string     `json:"audience"`
		Revision      uint64       `json:"revision"`
		Deleted       bool         `json:"deleted"`
		NotBefore     int64        `json:"notBefore"`
		Expires       int64        `json:"expires"`
		Encoded       string       `json:"encoded"`
		Leaf          string       `json:"leaf"`
	}
	treeVector struct {
		Leaves int      `json:"leaves"` // leaf i is that of the statement "statement i", as text
		Root   string   `json:"root"`
		Paths  []string `json:"paths"` // of leaf 0, of the middle one (leaves/2), of the last one
	}
	trustVector struct {
		Instance       string                          `json:"instance"`
		Issuers        []string                        `json:"issuers"`
		Anchors        []record.Anchor                 `json:"anchors"`
		Revocations    []record.Revocation             `json:"revocations"`
		Floors         []record.Floor                  `json:"floors"`
		Configurations map[string]record.Configuration `json:"configurations"`
		TimestampRoots [][]byte                        `json:"timestampRoots"`
		Now            time.Time                       `json:"now"`
	}
	caseVector struct {
		Name       string         `json:"name"`
		Trust      trustVector    `json:"trust"`
		Record     recordVector   `json:"record"`
		Purpose    string         `json:"purpose"`
		Mark       uint64         `json:"mark"`
		Signatures []string       `json:"signatures"` // Signature, encoded, or what stands in its place
		Code       rejection.Code `json:"code"`       // empty: it is accepted
		Subject    string         `json:"subject"`
	}
)

func vectorOf(r *record.Record) recordVector {
	v := recordVector{Table: r.Ref.Table, Key: r.Ref.Key, Fields: r.Fields, Attachments: []attachmentVector{}}
	for _, a := range r.Attachments {
		v.Attachments = append(v.Attachments, attachmentVector{a.Name, a.Type, a.Size, hex.EncodeToString(a.SHA256[:])})
	}
	return v
}

func (v recordVector) record(tb testing.TB) *record.Record {
	tb.Helper()
	r := &record.Record{Ref: record.Ref{Table: v.Table, Key: v.Key}, Fields: v.Fields}
	for _, a := range v.Attachments {
		r.Attachments = append(r.Attachments, record.Attachment{Name: a.Name, Type: a.Type, Size: a.Size, SHA256: [32]byte(unhex(tb, a.SHA256))})
	}
	return r
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func save(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := json.Marshal(v, jsontext.WithIndent(" "), json.Deterministic(true))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll(vectors, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectors, name), append(b, '\n'), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func load[T any](tb testing.TB, name string) []T {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		tb.Fatal(err)
	}
	var list []T
	if err := json.Unmarshal(b, &list, json.RejectUnknownMembers(true)); err != nil || len(list) == 0 {
		tb.Fatalf("%s: %d vectors: %v", name, len(list), err)
	}
	return list
}

func TestVectorFields(t *testing.T) {
	if *update {
		var list []fieldVector
		for _, f := range [][2]string{{"script", ""}, {"script", "x"}, {"script", "gs.info('ä');\r\n"}, {"active", "true"}, {"", "x"}, {"sql_statement", "SELECT 1\x00"}} {
			d := record.FieldDigestOf(f[0], f[1])
			list = append(list, fieldVector{f[0], f[1], hex.EncodeToString(d[:])})
		}
		save(t, "fields.json", list)
	}
	for _, v := range load[fieldVector](t, "fields.json") {
		if d := record.FieldDigestOf(v.Name, v.Value); hex.EncodeToString(d[:]) != v.Digest {
			t.Errorf("%+v: %x", v, d)
		}
	}
}

func TestVectorConfigurations(t *testing.T) {
	if *update {
		var list []configurationVector
		all := record.Predefined()
		all[recordtest.ID] = recordtest.Configuration()
		for _, id := range slices.Sorted(maps.Keys(all)) {
			c := all[id]
			d := c.Digest(id)
			list = append(list, configurationVector{id, c, hex.EncodeToString(d[:])})
		}
		save(t, "configurations.json", list)
	}
	seen := 0
	for _, v := range load[configurationVector](t, "configurations.json") {
		if d := v.Configuration.Digest(v.ID); hex.EncodeToString(d[:]) != v.Digest || v.Configuration.Check(v.ID) != nil {
			t.Errorf("%+v: %x", v, d)
		}
		if _, ok := record.Predefined()[v.ID]; ok {
			seen++
		}
	}
	if seen != len(record.Predefined()) {
		t.Error("a predefined configuration has no vector: changing one makes every signature under it invalid")
	}
}

func TestVectorStatements(t *testing.T) {
	if *update {
		bare := &record.Record{Ref: record.Ref{Table: "sys_data_source", Key: []string{"a", "ä"}}, Fields: map[string]string{}}
		list := []statementVector{
			{Configuration: recordtest.ID, Record: vectorOf(recordtest.DataSource()), Issuer: "trusted", Audience: []string{"production", "test"}, Revision: 7, NotBefore: 1780000000, Expires: 1890000000},
			{Configuration: recordtest.ID, Record: vectorOf(bare), Issuer: "trusted", Audience: []string{}, Revision: 1 << 40, Deleted: true},
			{Configuration: "script-includes", Record: vectorOf(recordtest.Script()), Issuer: "trusted", Audience: []string{}, Revision: 1},
		}
		for i, v := range list {
			enc := v.encode(t)
			leaf := record.Leaf(enc)
			list[i].Encoded, list[i].Leaf = hex.EncodeToString(enc), leaf.String()
		}
		save(t, "statements.json", list)
	}
	for i, v := range load[statementVector](t, "statements.json") {
		enc := v.encode(t)
		if hex.EncodeToString(enc) != v.Encoded || record.Leaf(enc).String() != v.Leaf {
			t.Errorf("statement %d: %x", i, enc)
		}
		if _, err := record.DecodeStatement(unhex(t, v.Encoded)); err != nil {
			t.Error(err)
		}
	}
}

func (v *statementVector) encode(tb testing.TB) []byte {
	tb.Helper()
	c, ok := record.Predefined()[v.Configuration]
	if !ok {
		c = recordtest.Configuration()
	}
	s, err := record.NewStatement(v.Configuration, &c, v.Record.record(tb), record.StatementOptions{
		Issuer: v.Issuer, Audience: v.Audience, Revision: v.Revision, Deleted: v.Deleted, NotBefore: v.NotBefore, Expires: v.Expires,
	})
	if err != nil {
		tb.Fatal(err)
	}
	b, err := s.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func tree(tb testing.TB, n int) treeVector {
	tb.Helper()
	tiles := merkle.MemoryTiles{}
	b := merkle.NewBuilder(merkle.Records, tiles)
	for i := range n {
		if _, err := b.Add(record.Leaf(fmt.Appendf(nil, "statement %d", i))); err != nil {
			tb.Fatal(err)
		}
	}
	root, err := b.Finish()
	if err != nil {
		tb.Fatal(err)
	}
	v := treeVector{Leaves: n, Root: root.String()}
	for _, i := range []int{0, n / 2, n - 1} {
		p, err := merkle.NewPaths(int64(n), tiles).Path(int64(i))
		if err != nil {
			tb.Fatal(err)
		}
		v.Paths = append(v.Paths, hex.EncodeToString(p))
	}
	return v
}

func TestVectorTrees(t *testing.T) {
	if *update {
		var list []treeVector
		for _, n := range []int{1, 2, 3, 5, 7, 8, 255, 256, 257, 1000, 65537} {
			list = append(list, tree(t, n))
		}
		save(t, "trees.json", list)
	}
	for _, v := range load[treeVector](t, "trees.json") {
		got := tree(t, v.Leaves)
		if got.Root != v.Root || !slices.Equal(got.Paths, v.Paths) {
			t.Errorf("%d leaves: %+v", v.Leaves, got)
		}
	}
}

func (v *trustVector) trust(tb testing.TB) *record.Trust {
	tb.Helper()
	t := &record.Trust{Instance: v.Instance, Issuers: v.Issuers, Anchors: v.Anchors, Revocations: v.Revocations, Floors: v.Floors, Configurations: v.Configurations, Now: v.Now}
	for _, der := range v.TimestampRoots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		t.TimestampRoots = append(t.TimestampRoots, c)
	}
	return t
}

// caseOf writes a scene as a vector.
func (s *scene) caseOf(name string, mark uint64, code rejection.Code, subject string) caseVector {
	s.Helper()
	v := caseVector{Name: name, Record: vectorOf(s.rec), Purpose: s.purpose, Mark: mark, Signatures: []string{}, Code: code, Subject: subject}
	v.Trust = trustVector{Instance: s.trust.Instance, Issuers: s.trust.Issuers, Anchors: s.trust.Anchors, Revocations: s.trust.Revocations, Floors: s.trust.Floors, Configurations: s.trust.Configurations, Now: s.trust.Now}
	for _, c := range s.trust.TimestampRoots {
		v.Trust.TimestampRoots = append(v.Trust.TimestampRoots, c.Raw)
	}
	for _, sig := range s.sigs {
		b, err := format.Encode(&sig)
		if err != nil {
			s.Fatal(err)
		}
		v.Signatures = append(v.Signatures, hex.EncodeToString(b))
	}
	return v
}

// Every attack of this package's tests is a vector, beside what is accepted under
// each kind of key.
func TestVectorVerify(t *testing.T) {
	if *update {
		var list []caseVector
		for _, kind := range []sigalg.Key{sigalg.P256, sigalg.P384, sigalg.RSA3072, sigalg.Ed25519, sigalg.MLDSA65} {
			s := newScene(t)
			s.signer = recordtest.NewSigner(t, kind)
			s.trust = recordtest.Trust(s.signer)
			list = append(list, s.sign(recordtest.Signing{Stamped: recordtest.At}).caseOf("accepted: "+string(kind), 0, "", ""))
		}
		list = append(list, newScene(t).script().caseOf("accepted: the wild card", 0, "", ""))
		for _, a := range attacks {
			if a.step == "limit" || a.name == "the key is split another way" {
				continue // long, and the same as another
			}
			s := newScene(t)
			a.set(s)
			mark, _ := s.marks.Highest(t.Context(), s.rec.Ref)
			list = append(list, s.caseOf(a.name, mark, a.code, a.subject))
		}
		save(t, "verify.json", list)
	}
	codes := map[rejection.Code]int{}
	for _, v := range load[caseVector](t, "verify.json") {
		var sigs []record.Signature
		for _, h := range v.Signatures {
			var sig record.Signature
			if err := format.Decode(unhex(t, h), &sig); err != nil {
				t.Fatal(err)
			}
			sigs = append(sigs, sig)
		}
		r := v.Record.record(t)
		marks := &recordtest.Marks{}
		if err := marks.Raise(t.Context(), r.Ref, v.Mark); err != nil {
			t.Fatal(err)
		}
		verifier, err := record.NewVerifier(v.Trust.trust(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = verifier.Verify(t.Context(), r, v.Purpose, sigs, marks)
		codes[v.Code]++
		if v.Code == "" && err != nil || v.Code != "" && !errors.Is(err, &rejection.Error{Code: v.Code, Subject: v.Subject}) {
			t.Errorf("%s: %v: want %s(%s)", v.Name, err, v.Code, v.Subject)
		}
	}
	if codes[""] < 6 || len(codes) < 20 {
		t.Errorf("vectors of the reasons %v", codes)
	}
}

// What is accepted of the vectors is accepted by the independent judge too, which
// reads the specification alone; and it refuses what is changed.
func TestVectorJudge(t *testing.T) {
	python := formattest.Program(t, "python3", "apt-get install python3")
	judge := func(v caseVector) error {
		dir := t.TempDir()
		write := func(name string, b []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		rec, err := json.Marshal(v.Record)
		if err != nil {
			t.Fatal(err)
		}
		root, err := x509.ParseCertificate(v.Trust.Anchors[0].Certificate)
		if err != nil {
			t.Fatal(err)
		}
		_, _, pem := (&cmstest.Identity{Key: cmstest.NewKey(t, sigalg.P256), Root: root}).WriteFiles(t, dir, "unused")
		_, err = formattest.RunJudge(t, python, filepath.Join("..", "tools", "judges", "records_judge.py"), "prove",
			write("signature", unhex(t, v.Signatures[0])), write("record.json", rec), pem, fmt.Sprint(recordtest.At.Unix()))
		return err
	}
	accepted, refused := 0, 0
	for _, v := range load[caseVector](t, "verify.json") {
		switch v.Name {
		case "accepted: ecdsa-p256", "accepted: rsa-3072", "accepted: the wild card":
			accepted++
			if err := judge(v); err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
		case "a field is changed", "an attachment is added", "the statement is not in the job", "the key did not sign the root":
			refused++
			if judge(v) == nil {
				t.Errorf("%s: the judge accepts it", v.Name)
			}
		}
	}
	if accepted != 3 || refused != 4 {
		t.Errorf("the judge accepted %d and refused %d", accepted, refused)
	}
}
