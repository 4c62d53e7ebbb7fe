package updateset_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
)

var rewrite = flag.Bool("update", false, "write golden files")

// fixed are signatures of the set that nobody made: bytes of the right shape that are
// the same in every run.
func fixed(t *testing.T) []record.Signature {
	t.Helper()
	sources := recordtest.Signing{}.Statement(t, operations(t, open(t, made(t, dataSource())))[0].Record())
	scripts := recordtest.Signing{ID: "script-includes", Revision: 7}.Statement(t, operations(t, open(t, made(t, script())))[0].Record())
	head := record.ListHead{Job: recordtest.Job, Issuer: recordtest.Trusted}
	tiles := merkle.MemoryTiles{}
	b, err := record.NewBuilder(head, tiles)
	if err != nil {
		t.Fatal(err)
	}
	var out []record.Signature
	for _, s := range []*record.Statement{sources, scripts} {
		enc, index, err := b.Add(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, record.Signature{Statement: enc, Index: index})
	}
	j, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	job, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := record.SignedRoot{Version: 1, Job: job, SignedAt: recordtest.At.Unix(), Scheme: "ecdsa-sha256", Certificates: [][]byte{[]byte("a certificate")}, Signature: []byte("a signature")}
	root, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	paths := merkle.NewPaths(2, tiles)
	for i := range out {
		out[i].Root = root
		if out[i].Path, err = paths.Path(int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// The rows as docs/spec/updatesets.md has them: their ids follow from their content,
// so that another version of this program adds nothing to a set that this one sealed.
func TestGolden(t *testing.T) {
	b := seal(t, open(t, made(t, dataSource(), script())), fixed(t))
	first := bytes.Index(b, []byte("<name>x_greatseal_root"))
	rows := b[bytes.LastIndex(b[:first], []byte("<sys_update_xml")):]
	name := filepath.Join("testdata", "rows.golden.xml")
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, rows, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rows, want) {
		t.Errorf("the rows are not those of %s", name)
	}
}
