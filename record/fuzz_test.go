package record_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

// seeds are the files of a folder, which must hold some.
func seeds(tb testing.TB, pattern string) [][]byte {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "seeds", pattern))
	if err != nil || len(names) == 0 {
		tb.Fatalf("no seeds %s: run go test -run TestSeeds -update (%v)", pattern, err)
	}
	var out [][]byte
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// The seeds are what this package writes.
func TestSeeds(t *testing.T) {
	if *update {
		s := recordtest.NewSigner(t, sigalg.P256)
		stamped := recordtest.Signing{Signer: s, Stamped: recordtest.At, Audience: []string{"protected"}}.Sign(t, recordtest.DataSource())[0]
		script := recordtest.Signing{Signer: s, ID: "script-includes", Deleted: true, Expires: 1 << 32}.Sign(t, recordtest.Script(), recordtest.Script())[1]
		if err := os.MkdirAll("testdata/seeds", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, sig := range map[string]record.Signature{"1": stamped, "2": script} {
			whole, err := sig.Encode()
			if err != nil {
				t.Fatal(err)
			}
			for kind, b := range map[string][]byte{"statement": sig.Statement, "root": sig.Root, "signature": whole} {
				if err := os.WriteFile("testdata/seeds/"+kind+"-"+name, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, b := range seeds(t, "statement-*") {
		if _, err := record.DecodeStatement(b); err != nil {
			t.Error(err)
		}
	}
	for _, b := range seeds(t, "root-*") {
		if _, err := record.DecodeSignedRoot(b); err != nil {
			t.Error(err)
		}
	}
	for _, b := range seeds(t, "signature-*") {
		if _, err := record.DecodeSignature(b); err != nil {
			t.Error(err)
		}
	}
}

// Both readers of a statement take the same bytes, and those re-encode to themselves.
func FuzzStatement(f *testing.F) {
	for _, b := range seeds(f, "statement-*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var general record.Statement
		ok := format.Decode(b, &general) == nil && general.Check() == nil && len(b) <= record.MaxStatement
		s, err := record.DecodeStatement(b)
		if (err == nil) != ok {
			t.Fatalf("%x: %v, and the general decoder: %v", b, err, ok)
		}
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x: %x (%v)", b, again, err)
		}
	})
}

func FuzzSignedRoot(f *testing.F) {
	for _, b := range seeds(f, "root-*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := record.DecodeSignedRoot(b)
		if err != nil {
			return
		}
		if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x: %x (%v)", b, again, err)
		}
		j, err := record.DecodeJob(r.Job)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := j.Encode(); err != nil || !bytes.Equal(again, r.Job) {
			t.Fatalf("%x (%v)", again, err)
		}
	})
}

// Whatever signature somebody writes, a verifier that believes nobody refuses it
// with a reason.
func FuzzVerify(f *testing.F) {
	for _, b := range seeds(f, "signature-*") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sig, err := record.DecodeSignature(b)
		if err != nil {
			return
		}
		if again, err := sig.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x: %x (%v)", b, again, err)
		}
		v := recordtest.Verifier(t, recordtest.Trust())
		for _, r := range []*record.Record{recordtest.DataSource(), recordtest.Script()} {
			if _, err := v.Verify(t.Context(), r, record.Queue, []record.Signature{*sig}, &recordtest.Marks{}); rejection.Of(err) == nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzList(f *testing.F) {
	var file bytes.Buffer
	w, err := record.NewListWriter(&file, record.ListHead{Job: recordtest.Job, Issuer: "x", Audience: []string{"a"}})
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range seeds(f, "statement-*") {
		if err := w.Write(b); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := record.NewListReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		w, err := record.NewListWriter(&again, r.Head)
		if err != nil {
			t.Fatal(err)
		}
		for {
			p, err := r.Next()
			if err != nil {
				break
			}
			if err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(b, again.Bytes()) {
			t.Fatalf("%x is written again as %x", b, again.Bytes())
		}
	})
}
