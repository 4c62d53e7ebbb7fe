package records_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

var updateSeeds = flag.Bool("update", false, "write the seeds of the fuzz targets")

// seeds are the files of a fuzz target's corpus that are kept. There are some.
func seeds(t testing.TB, name string, at int) (out [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", name, "*"))
	if err != nil || len(files) < at {
		t.Fatalf("%d seeds in testdata/%s: want %d (go test -run TestSeeds -update)", len(files), name, at)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// sealed puts the end of an export behind items.
func sealed(items []byte, count uint64) []byte {
	sum := sha256.Sum256(items)
	out := append(slices.Clone(items), 'e', 0, 0, 0, 40)
	out = binary.BigEndian.AppendUint64(out, count)
	return append(out, sum[:]...)
}

// The seeds are what Export and a scan write, and they are read.
func TestSeeds(t *testing.T) {
	if *updateSeeds {
		writeSeeds(t)
	}
	moved := 0
	for _, b := range seeds(t, "export", 3) {
		must(t, records.ReadExport(t.Context(), bytes.NewReader(b), int64(len(b)), func(*records.Moved) error { moved++; return nil }))
	}
	refs := 0
	for _, b := range seeds(t, "selection", 2) {
		s, err := records.ReadSelection(bytes.NewReader(b))
		must(t, err)
		refs += len(s.Refs)
	}
	if moved < 4 || refs < 4 {
		t.Fatalf("the seeds hold %d records and %d references", moved, refs)
	}
}

// writeSeeds makes the corpus anew.
func writeSeeds(t *testing.T) {
	write := func(dir, name string, b []byte) {
		dir = filepath.Join("testdata", dir)
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	w := newWorld(t, memoryApp(t))
	w.fill(3)
	w.finish(w.create(records.Spec{Kind: records.SignSpecificRecords, Refs: []record.Ref{ref(0), ref(1)}}).ID)
	for name, all := range map[string]bool{"signed": false, "all": true} {
		var b bytes.Buffer
		_, err := records.Export(t.Context(), w.app, []records.ExportQuery{{Table: table, All: all}}, &b)
		must(t, err)
		write("export", name, b.Bytes())
	}
	write("export", "empty", sealed([]byte("greatseal export 1\n"), 0))
	w.put(1, map[string]string{"sql_statement": "SELECT changed"})
	w.clock.pass(time.Minute)
	var b bytes.Buffer
	c, err := records.NewCSV(&b)
	must(t, err)
	_, err = w.guard.Scan(t.Context(), records.ScanOptions{}, c.Write)
	must(t, err)
	must(t, c.Flush())
	write("selection", "scan", b.Bytes())
	head, _, _ := strings.Cut(b.String(), "\n")
	write("selection", "tamed", []byte(head+"\nerp,'=t,\"[\"\"a\"\",\"\"é\"\"]\",sources,missing,SIG_MISSING,\n'-x,t,\"[\"\"1\"\"]\",c,invalid,FIELD_CHANGED,'@f\n"))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What is no export is refused with a reason code; what is one has records that can
// be, whole, and the same each time.
func FuzzReadExport(f *testing.F) {
	for _, b := range seeds(f, "export", 3) {
		f.Add(b)
		f.Add(b[:max(0, len(b)-45)]) // without its end, which the target puts there
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for count := uint64(0); count < 4; count++ {
			x := b
			if count > 0 { // the digest is no obstacle for whoever forges a file
				x = sealed(b, count-1)
			}
			n, refs := uint64(0), []string{}
			err := records.ReadExport(t.Context(), bytes.NewReader(x), int64(len(x)), func(m *records.Moved) error {
				if err := m.Record.Ref.Check(); err != nil {
					t.Errorf("a record that cannot be: %v", err)
				}
				for _, s := range m.Signatures {
					if len(s.Root) == 0 || len(s.Statement) == 0 {
						t.Error("a signature without its root or its statement")
					}
				}
				n++
				refs = append(refs, m.Record.Ref.ID())
				return nil
			})
			if err != nil {
				if rejection.Of(err) == nil {
					t.Errorf("refused without a reason: %v", err)
				}
				continue
			}
			if n != binary.BigEndian.Uint64(x[len(x)-40:]) {
				t.Errorf("%d records", n)
			}
			for i := range x { // each byte counts: it is under the digest, or is one of it
				if i%97 != 0 {
					continue
				}
				y := slices.Clone(x)
				y[i] ^= 1
				if records.ReadExport(t.Context(), bytes.NewReader(y), int64(len(y)), func(*records.Moved) error { return nil }) == nil {
					t.Errorf("byte %d does not count", i)
				}
			}
		}
	})
}

// What a selection selects can be written as a scan, and selects the same.
func FuzzReadSelection(f *testing.F) {
	for _, b := range seeds(f, "selection", 2) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := records.ReadSelection(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, records.ErrSpec) {
				t.Errorf("refused without being a selection: %v", err)
			}
			return
		}
		if len(s.Platforms) == 0 && len(s.Refs) > 0 {
			t.Error("records of no platform")
		}
		var out bytes.Buffer
		c, err := records.NewCSV(&out)
		must(t, err)
		for _, r := range s.Refs {
			if err := r.Check(); err != nil {
				t.Fatalf("a record that cannot be: %v", err)
			}
			must(t, c.Write(records.Seen{Platform: s.Platforms[0], Ref: r, Configuration: s.Configurations[0], Verdict: records.Missing}))
		}
		must(t, c.Flush())
		again, err := records.ReadSelection(&out)
		must(t, err)
		ids := func(s *records.Selection) map[string]bool {
			m := map[string]bool{}
			for _, r := range s.Refs {
				m[r.ID()] = true
			}
			return m
		}
		was, is := ids(s), ids(again)
		for id := range was {
			if !is[id] {
				t.Errorf("%q is lost", id)
			}
		}
		if len(was) != len(is) {
			t.Errorf("%d records, then %d", len(was), len(is))
		}
	})
}
