package records

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

var configuration = record.Configuration{Version: 2, Table: "jobs", Purpose: record.Queue, Fields: []string{"sql"}}

var listHead = record.ListHead{Job: "00112233445566778899aabbccddeeff", Issuer: "trusted", Audience: []string{"production"}}

// statement is that of record n with this content.
func statement(tb testing.TB, n int, sql string) *record.Statement {
	tb.Helper()
	s, err := record.NewStatement("jobs", &configuration, &record.Record{
		Ref: record.Ref{Table: "jobs", Key: []string{fmt.Sprint(n)}}, Fields: map[string]string{"sql": sql},
	}, record.StatementOptions{Issuer: listHead.Issuer, Audience: listHead.Audience, Revision: uint64(n + 1)})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// list writes statements as a file, and makes their job one by one.
func list(tb testing.TB, statements ...*record.Statement) ([]byte, *record.Job) {
	tb.Helper()
	head := record.ListHead{Job: listHead.Job, Issuer: statements[0].Issuer, Audience: statements[0].Audience}
	var file bytes.Buffer
	w, err := record.NewListWriter(&file, head)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := record.NewBuilder(head, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range statements {
		enc, _, err := b.Add(s)
		if err != nil {
			tb.Fatal(err)
		}
		if err := w.Write(enc); err != nil {
			tb.Fatal(err)
		}
	}
	j, err := b.Finish()
	if err != nil {
		tb.Fatal(err)
	}
	return file.Bytes(), j
}

func sample(tb testing.TB, sql string) []byte {
	tb.Helper()
	b, _ := list(tb, statement(tb, 0, sql), statement(tb, 1, "SELECT 2"), statement(tb, 2, "SELECT 3"))
	return b
}

func TestConformance(t *testing.T) {
	for _, kind := range []sigalg.Key{sigalg.P256, sigalg.Ed25519} {
		t.Run(string(kind), func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: sample(t, "SELECT 1"), Other: sample(t, "SELECT 9"), Name: "job.gsrecords", Signer: formattest.Identity(t, kind),
			})
		})
	}
}

// Invariant 2: read once, and of any length.
func TestReadsOnce(t *testing.T) {
	var many []*record.Statement
	s := statement(t, 0, "SELECT 1")
	for range 3000 {
		many = append(many, s)
	}
	b, _ := list(t, many...)
	formattest.Reads(t, New(), format.BytesArtifact("large", b), nil)
}

// Invariant 2: a job without a list has the plan of its list, byte for byte.
func TestPlanOfIsPlan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var statements []*record.Statement
		for n := range rapid.IntRange(1, 300).Draw(rt, "statements") {
			s := statement(t, n, rapid.StringN(0, 20, 80).Draw(rt, "sql"))
			s.Deleted = rapid.Bool().Draw(rt, "deleted")
			s.NotBefore = rapid.Int64Range(0, 100).Draw(rt, "not before")
			if rapid.Bool().Draw(rt, "expires") {
				s.Expires = rapid.Int64Range(100, 200).Draw(rt, "expires at")
			}
			if rapid.Bool().Draw(rt, "another") {
				s.Ref.Table, s.Purpose, s.Configuration.ID = "others", "deploy", "others"
			}
			statements = append(statements, s)
		}
		file, job := list(t, statements...)
		a, err := New().Plan(t.Context(), format.BytesArtifact("list", file), nil)
		if err != nil {
			rt.Fatal(err)
		}
		b, err := PlanOf(job)
		if err != nil {
			rt.Fatal(err)
		}
		x, err1 := a.Encode()
		y, err2 := b.Encode()
		if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
			rt.Fatalf("%x (%v)\n%x (%v)", x, err1, y, err2)
		}
		if j, err := JobOf(a); err != nil || j.Count != job.Count {
			rt.Fatal(err)
		}
	})
}

// The root is the one that golang.org/x/mod computes its own way, under our seal.
func TestRootAgainstTransparencyLog(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 255, 256, 257, 600} {
		var statements []*record.Statement
		for i := range n {
			statements = append(statements, statement(t, i, "SELECT 1"))
		}
		_, job := list(t, statements...)
		var stored logStore
		for i, s := range statements {
			b, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			more, err := tlog.StoredHashesForRecordHash(int64(i), tlog.Hash(record.Leaf(b)), stored)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, more...)
		}
		top, err := tlog.TreeHash(int64(n), stored)
		if err != nil {
			t.Fatal(err)
		}
		seal := append([]byte{2, byte(len(merkle.Records))}, merkle.Records...)
		seal = append(seal, 0, 0, 0, 0, 0, 0, byte(n>>8), byte(n))
		if want := sha(append(seal, top[:]...)); !bytes.Equal(job.Root, want) {
			t.Errorf("%d statements: root %x, want %x", n, job.Root, want)
		}
	}
}

type logStore []tlog.Hash

func (s logStore) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func TestGoldenPlan(t *testing.T) {
	p, err := New().Plan(t.Context(), format.BytesArtifact("list", sample(t, "SELECT 1")), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	for _, f := range p.Facts {
		fmt.Fprintf(&s, "%s = %s\n", f.Name, f.Value)
	}
	fmt.Fprintln(&s, hex.EncodeToString(b))
	if *update {
		if err := os.WriteFile("testdata/plan.txt", []byte(s.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/plan.txt")
	if err != nil || string(want) != s.String() {
		t.Errorf("testdata/plan.txt differs (%v); got\n%s", err, s.String())
	}
}

// A plan says what its job says: one that hides a purpose, understates a count or
// names another issuer is not signed.
func TestPlanCannotLie(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good, err := New().Plan(t.Context(), format.BytesArtifact("list", sample(t, "SELECT 1")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Assemble(good, s.Identity, formattest.At, nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *format.Plan){
		"a fact less": func(p *format.Plan) { p.Facts = p.Facts[1:] },
		"a fact more": func(p *format.Plan) { p.Facts = append(p.Facts, format.Fact{Name: "harmless", Value: "yes"}) },
		"another purpose": func(p *format.Plan) {
			p.Facts[slices.IndexFunc(p.Facts, func(f format.Fact) bool { return f.Name == "purpose" })].Value = "x"
		},
		"another count": func(p *format.Plan) {
			p.Facts[slices.IndexFunc(p.Facts, func(f format.Fact) bool { return f.Name == "records" })].Value = "1"
		},
		"another content":   func(p *format.Plan) { p.Content = make([]byte, 32) },
		"another size":      func(p *format.Plan) { p.Size++ },
		"an option":         func(p *format.Plan) { p.Params = []format.Fact{{Name: "a", Value: "b"}} },
		"another body":      func(p *format.Plan) { p.Body = []byte{0xa0} },
		"body of the other": func(p *format.Plan) { p.Body = planOf(t, sample(t, "SELECT 9")).Body },
	} {
		p := *good
		p.Facts = slices.Clone(good.Facts)
		change(&p)
		if _, err := New().Assemble(&p, s.Identity, formattest.At, nil); err == nil {
			t.Errorf("%s is signed", name)
		}
	}
}

func planOf(tb testing.TB, b []byte) *format.Plan {
	tb.Helper()
	p, err := New().Plan(tb.Context(), format.BytesArtifact("list", b), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// No signature is made that a verifier refuses.
func TestIdentities(t *testing.T) {
	p := planOf(t, sample(t, "SELECT 1"))
	good := formattest.Identity(t, sigalg.P256)
	no := func(change func(*x509.Certificate)) format.Identity {
		return formattest.Identity(t, sigalg.P256, change).Identity
	}
	for name, id := range map[string]format.Identity{
		"no certificate":        {Scheme: good.Scheme, Public: good.Public},
		"a nil certificate":     {Scheme: good.Scheme, Public: good.Public, Chain: []*x509.Certificate{nil}},
		"another's certificate": {Scheme: good.Scheme, Public: formattest.Identity(t, sigalg.P256).Public, Chain: good.Chain},
		"no code signing":       no(func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"time stamping":         no(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }),
		"two keys":              good.And(formattest.Identity(t, sigalg.Ed25519)).Identity,
		"another key's scheme":  good.With(sigalg.RSAPKCS1SHA256).Identity,
		"too many certificates": {Scheme: good.Scheme, Public: good.Public, Chain: slices.Repeat(good.Chain[:1], record.MaxCertificates+1)},
		"an unknown scheme":     good.With("rot13").Identity,
	} {
		if _, err := New().Assemble(p, id, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if _, err := New().Assemble(p, good.Identity, at, nil); err == nil {
			t.Errorf("signed at %v", at)
		}
	}
}

// Lists that are none, or hold what no job does, are not planned.
func TestBadLists(t *testing.T) {
	good := sample(t, "SELECT 1")
	second := statement(t, 1, "x")
	second.Issuer = "another"
	enc, err := second.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var foreign bytes.Buffer
	w, err := record.NewListWriter(&foreign, listHead)
	if err != nil {
		t.Fatal(err)
	}
	empty := slices.Clone(foreign.Bytes())
	if err := w.Write(enc); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "magic alone": []byte(record.ListMagic), "empty": empty, "another's statement": foreign.Bytes(),
		"garbage": append(slices.Clone(good), 0, 0, 0, 1, 0xa0), "cut": good[:len(good)-1], "zeros": append(slices.Clone(good), 0, 0, 0, 0),
	} {
		if _, err := New().Plan(t.Context(), format.BytesArtifact("list", b), nil); err == nil {
			t.Errorf("%s is planned", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Plan(ctx, format.BytesArtifact("list", good), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Facts stay within their limit, whatever the job.
func TestManyFacts(t *testing.T) {
	var statements []*record.Statement
	for n := range 300 {
		s := statement(t, n, "SELECT 1")
		s.Ref.Table = fmt.Sprintf("table_%03d", n)
		s.Purpose = fmt.Sprintf("purpose_%02d", n%record.MaxPurposes)
		s.Configuration.ID = fmt.Sprintf("configuration_%03d", n)
		s.Audience = nil
		for i := range record.MaxAudience {
			s.Audience = append(s.Audience, fmt.Sprintf("%02d-%s", i, strings.Repeat("x", 61)))
		}
		statements = append(statements, s)
	}
	file, _ := list(t, statements...)
	p := planOf(t, file)
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []format.Fact{{Name: "further tables", Value: "236"}, {Name: "further configurations", Value: "236"}, {Name: "audience", Value: "64 instances"}} {
		if !slices.Contains(p.Facts, want) {
			t.Errorf("%v is not a fact", want)
		}
	}
	if j, err := JobOf(p); err != nil || len(j.Tables) != 300 {
		t.Error(err)
	}
}

// sign runs the whole way and returns the signed root.
func sign(tb testing.TB, file []byte, s *formattest.Signer) []byte {
	tb.Helper()
	a := format.BytesArtifact("list", file)
	plan := planOf(tb, file)
	patch, err := New().Attach(tb.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(tb, New(), plan, s, formattest.At))
	if err != nil {
		tb.Fatal(err)
	}
	return patch.Sidecar.Data
}

func TestStamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.NotAfter = formattest.At.Add(time.Hour) })
	file := sample(t, "SELECT 1")
	a := format.BytesArtifact("list", file)
	root := sign(t, file, s)
	todo, err := Format{}.Unstamped(t.Context(), a, root)
	if err != nil || len(todo) != 1 {
		t.Fatal(todo, err)
	}
	if _, err := (Format{}).Stamp(t.Context(), a, root, todo[0], s.Timestamp(t, []byte("another"), formattest.At)); err == nil {
		t.Error("a token over another signature is attached")
	}
	patch, err := Format{}.Stamp(t.Context(), a, root, todo[0], s.Timestamp(t, todo[0].Message, formattest.At.Add(time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	stamped := patch.Sidecar.Data
	if todo, err := (Format{}).Unstamped(t.Context(), a, stamped); err != nil || len(todo) != 0 {
		t.Error(todo, err)
	}
	if _, err := (Format{}).Stamp(t.Context(), a, stamped, todo[0], s.Timestamp(t, todo[0].Message, formattest.At)); err == nil {
		t.Error("a second timestamp is attached")
	}
	late := s.Trust()
	late.Now = formattest.At.Add(2 * time.Hour)
	for _, c := range []struct {
		name string
		root []byte
		ok   bool
	}{{"unstamped", root, false}, {"stamped", stamped, true}} {
		late.Detached = c.root
		r, err := New().Verify(t.Context(), a, late)
		if (err == nil) != c.ok {
			t.Errorf("%s, after the certificate expired: %v", c.name, err)
		}
		if c.ok && (r.Signatures[0].Time.IsZero() || r.Signatures[0].TimeFrom == "" || len(r.Signatures[0].Open) == 0) {
			t.Errorf("%+v", r.Signatures[0])
		}
	}
	if r, err := New().Inspect(t.Context(), format.BytesArtifact("root", stamped)); err != nil || len(r.Signatures) != 1 || len(r.Signatures[0].Facts) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	// Attach takes the token with the signature.
	plan := planOf(t, file)
	sigs := formattest.SignAll(t, New(), plan, s, formattest.At)
	sigs[0].Timestamp = s.Timestamp(t, sigs[0].Value, formattest.At)
	if _, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, sigs); err != nil {
		t.Error(err)
	}
	sigs[0].Timestamp = s.Timestamp(t, []byte("another"), formattest.At)
	if _, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, sigs); err == nil {
		t.Error("a token over another signature is attached")
	}
}

// SignedRoot is Attach without a list.
func TestSignedRoot(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519) // deterministic
	file, job := list(t, statement(t, 0, "SELECT 1"))
	p, err := PlanOf(job)
	if err != nil {
		t.Fatal(err)
	}
	sig := formattest.SignAll(t, New(), p, s, formattest.At)[0]
	r, err := SignedRoot(p, s.Identity, formattest.At, sig)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Encode(); err != nil || !bytes.Equal(b, sign(t, file, s)) {
		t.Errorf("%x, %v", b, err)
	}
	if _, err := SignedRoot(p, s.Identity, formattest.At.Add(time.Second), sig); err == nil {
		t.Error("a signature of another time is taken")
	}
}

func TestDetectInspectList(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	file := sample(t, "SELECT 1")
	root := sign(t, file, s)
	for name, b := range map[string][]byte{"list": file, "root": root} {
		a := format.BytesArtifact(name, b)
		if !New().Detect(a) {
			t.Errorf("%s is not detected", name)
		}
		r, err := New().Inspect(t.Context(), a)
		if err != nil || !slices.Contains(r.Facts, format.Fact{Name: "table jobs", Value: "3"}) || (name == "root") != (len(r.Signatures) == 1) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "map": {0xa7}, "text": []byte("greatseal records 2\n"), "cut": root[:len(root)-1]} {
		if New().Detect(format.BytesArtifact(name, b)) {
			t.Errorf("%s is detected", name)
		}
	}
	var names []string
	err := Format{}.List(t.Context(), format.BytesArtifact("list", file), func(e format.Entry) error {
		names = append(names, e.Name)
		if len(e.Digest) != 32 || e.Size == 0 || len(e.Facts) != 3 {
			t.Errorf("%+v", e)
		}
		return nil
	})
	if err != nil || !slices.Equal(names, []string{"jobs 0", "jobs 1", "jobs 2"}) {
		t.Errorf("%q, %v", names, err)
	}
	stop := errors.New("stop")
	if err := (Format{}).List(t.Context(), format.BytesArtifact("list", file), func(format.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

// Without a signed root there is no signature.
func TestUnsigned(t *testing.T) {
	tr := formattest.Identity(t, sigalg.P256).Trust()
	if _, err := New().Verify(t.Context(), format.BytesArtifact("list", sample(t, "x")), tr); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

func FuzzRecordsPlan(f *testing.F) {
	for _, sql := range []string{"", "SELECT 1"} {
		f.Add(sample(f, sql))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := format.BytesArtifact("list", b)
		New().Detect(a)
		p, err := New().Plan(t.Context(), a, nil)
		if err != nil {
			return
		}
		if _, err := p.Encode(); err != nil {
			t.Fatal(err)
		}
		if j, err := JobOf(p); err != nil || j.Size != int64(len(b)) {
			t.Fatal(err)
		}
	})
}
