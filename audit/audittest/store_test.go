package audittest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

func TestMemory(t *testing.T) {
	audittest.TestTiles(t, func() audittest.Store { return new(audittest.Memory) })
}

func TestDir(t *testing.T) {
	audittest.TestTiles(t, func() audittest.Store { return audittest.NewDir(t.TempDir()) })
}

// What a write that was killed before its end left behind must never be read.
func TestDirIgnoresUnfinishedWrite(t *testing.T) {
	root := t.TempDir()
	d := audittest.NewDir(root)
	ctx := t.Context()
	entries := audittest.Entries(t, 0, 300)
	if _, err := audittest.Append(ctx, d, entries[:100]...); err != nil {
		t.Fatal(err)
	}
	tree, err := d.Tree(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lost, err := audit.Integrate(ctx, d, tree, audittest.Entries(t, 5000, 5200))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range lost.Tiles {
		if err := d.Put(audit.TilePath(x.Tile), x.Data); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range lost.Bundles {
		if err := d.Put(audit.BundlePath(x.Index, x.W), x.Data); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "tile/0/000")); err != nil {
		t.Fatal(err)
	}
	if _, err := audittest.Append(ctx, d, entries[100:150]...); err != nil {
		t.Fatal(err)
	}
	data, err := d.ReadTiles(ctx, []tlog.Tile{audit.BundleTile(0, 120)})
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, e := range entries[:120] {
		if want, err = audit.AppendBundle(want, e); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(data[0], want) {
		t.Error("the bundle holds entries of the unfinished write")
	}
}
