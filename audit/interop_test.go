package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	formatslog "github.com/transparency-dev/formats/log"
	formatsnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

// bundleHasher is tessera's own reading of a bundle.
func bundleHasher(data []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(data); err != nil {
		return nil, err
	}
	out := make([][]byte, len(b.Entries))
	for i, e := range b.Entries {
		out[i] = rfc6962.DefaultHasher.HashLeaf(e)
	}
	return out, nil
}

func publish(t *testing.T, d *audittest.Dir) audit.Head {
	t.Helper()
	tree, err := d.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put(audit.CheckpointPath, audittest.Sign(t, tree)); err != nil {
		t.Fatal(err)
	}
	return audittest.Head(t, tree)
}

// tessera's fsck accepts the folder that a log is published in, at every size,
// and refuses it when a file is altered.
func TestInteropTesseraFsck(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	d := audittest.NewDir(root)
	f := client.FileFetcher{Root: root}
	// Each finding ends one of tessera's workers, and with none left its Check
	// waits for ever; an altered entry is three findings (a tile a level).
	check := func() error {
		return fsck.New(audittest.Origin, verifier(t), f, bundleHasher, fsck.Opts{N: 16}).Check(ctx)
	}
	entries := audittest.Entries(t, 0, 66_000)
	size := int64(0)
	for _, end := range []int64{1, 255, 256, 257, 1000, 65_536, 65_537, 66_000} {
		if _, err := audittest.Append(ctx, d, entries[size:end]...); err != nil {
			t.Fatal(err)
		}
		size = end
		publish(t, d)
		if err := check(); err != nil {
			t.Fatalf("tessera refuses the log of size %d: %v", end, err)
		}
	}
	for _, path := range []string{"tile/0/100", "tile/1/000", "tile/entries/100", "tile/2/000.p/1"} {
		name := filepath.Join(root, filepath.FromSlash(path))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(data)
		bad[len(bad)-1] ^= 1
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(); err == nil {
			t.Errorf("tessera accepts the log with %s altered", path)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tessera's client builds the same proofs from our tiles, and
// transparency-dev/merkle accepts ours.
func TestInteropTesseraProofs(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	d := audittest.NewDir(root)
	const size = 1300
	entries := audittest.Entries(t, 0, size)
	if _, err := audittest.Append(ctx, d, entries...); err != nil {
		t.Fatal(err)
	}
	head := publish(t, d)
	f := client.FileFetcher{Root: root}
	cp, _, _, err := client.FetchCheckpoint(ctx, f.ReadCheckpoint, verifier(t), audittest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	if want := head.Root(); cp.Size != size || !bytes.Equal(cp.Hash, want[:]) {
		t.Fatalf("tessera reads the checkpoint as %d, %x", cp.Size, cp.Hash)
	}
	pb, err := client.NewProofBuilder(ctx, size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	for _, index := range []int64{0, 1, 255, 256, 700, 1279, 1280, 1299} {
		ours, err := audit.ProveInclusion(ctx, d, size, index)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := pb.InclusionProof(ctx, uint64(index))
		if err != nil {
			t.Fatal(err)
		}
		if err := head.CheckInclusion(audit.Inclusion{Index: index, Size: size, Hashes: toHashes(theirs)}, entries[index]); err != nil {
			t.Errorf("their proof of %d: %v", index, err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), size, rfc6962.DefaultHasher.HashLeaf(entries[index]), fromHashes(ours.Hashes), cp.Hash); err != nil {
			t.Errorf("our proof of %d: %v", index, err)
		}
		b, err := client.GetEntryBundle(ctx, f.ReadEntryBundle, uint64(index/256), size)
		if err != nil || !bytes.Equal(b.Entries[index%256], entries[index]) {
			t.Errorf("tessera reads another entry %d: %v", index, err)
		}
	}
	for _, old := range []int64{1, 2, 255, 256, 257, 1024, 1299, 1300} {
		m := new(audittest.Memory)
		small, err := audittest.Append(ctx, m, entries[:old]...)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := audit.ProveConsistency(ctx, d, old, size)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := pb.ConsistencyProof(ctx, uint64(old), size)
		if err != nil {
			t.Fatal(err)
		}
		if err := audit.CheckConsistency(small, head.Tree(), audit.Consistency{Old: old, New: size, Hashes: toHashes(theirs)}); err != nil {
			t.Errorf("their proof from %d: %v", old, err)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), size, fromHashes(ours.Hashes), small.Root[:], cp.Hash); err != nil {
			t.Errorf("our proof from %d: %v", old, err)
		}
	}
}

func toHashes(in [][]byte) []tlog.Hash {
	out := make([]tlog.Hash, len(in))
	for i := range in {
		out[i] = tlog.Hash(in[i])
	}
	return out
}

func fromHashes(in []tlog.Hash) [][]byte {
	out := make([][]byte, len(in))
	for i := range in {
		out[i] = bytes.Clone(in[i][:])
	}
	return out
}

func TestInteropPaths(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		level := rapid.IntRange(-1, audit.MaxLevel).Draw(rt, "level")
		tile := tlog.Tile{H: 8, L: level, W: rapid.IntRange(1, 256).Draw(rt, "width")}
		tile.N = rapid.Int64Range(0, audit.MaxSize>>(8*(max(level, 0)+1))).Draw(rt, "number")
		want := layout.EntriesPath(uint64(tile.N), uint8(tile.W))
		if level >= 0 {
			want = layout.TilePath(uint64(level), uint64(tile.N), uint8(tile.W))
		}
		if got := audit.TilePath(tile); got != want {
			rt.Fatalf("path %s, tessera has %s", got, want)
		}
		if back, err := audit.ParseTilePath(want); err != nil || back != tile {
			rt.Fatalf("%s read as %v, %v", want, back, err)
		}
	})
}

func TestInteropFormats(t *testing.T) {
	_, head := newLog(t, 300)
	vkey, err := audit.VerifierKey(audittest.Origin, pub(audittest.Key()))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	cp, rest, _, err := formatslog.ParseCheckpoint(head.Note(), audittest.Origin, theirs)
	if err != nil {
		t.Fatal(err)
	}
	if root := head.Root(); cp.Size != 300 || !bytes.Equal(cp.Hash, root[:]) || len(rest) != 0 {
		t.Errorf("formats reads %v, %q", cp, rest)
	}

	// Our cosignature, their check.
	at := time.Unix(1_790_000_000, 0)
	w, err := audit.NewWitness("witness.example/ours", pub(audittest.KeyOf(5)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.NewCosigner(w.Name(), audittest.KeyOf(5), at)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := head.Cosign(s)
	if err != nil {
		t.Fatal(err)
	}
	wv, err := formatsnote.NewVerifierForCosignatureV1(w.String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(msg, note.VerifierList(theirs, wv))
	if err != nil || len(n.Sigs) != 2 {
		t.Fatalf("formats refuses our cosignature: %v, %v", n, err)
	}
	if got, err := formatsnote.CoSigV1Timestamp(n.Sigs[1]); err != nil || !got.Equal(at) {
		t.Errorf("formats reads the time %v, %v", got, err)
	}

	// Their cosignature, our check.
	skey, vkey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{6}, 64)), "witness.example/theirs")
	if err != nil {
		t.Fatal(err)
	}
	ts, err := formatsnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	wkey, err := formatsnote.VKeyToCosignatureV1(vkey)
	if err != nil {
		t.Fatal(err)
	}
	tw, err := audit.ParseWitness(wkey)
	if err != nil {
		t.Fatal(err)
	}
	if msg, err = head.Cosign(s, ts); err != nil {
		t.Fatal(err)
	}
	both, err := audit.ParseCheckpoint(msg, audittest.Origin, verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.CheckCosignatures(2, []audit.Witness{w, tw}); err != nil || len(got) != 2 {
		t.Errorf("we refuse their cosignature: %v, %v", got, err)
	}
}

// A log that tessera's own types lay out is read by our client.
func TestInteropTesseraTiles(t *testing.T) {
	m, head := newLog(t, 513)
	entries := audittest.Entries(t, 0, 513)
	files := make(map[string][]byte)
	for first := 0; first < len(entries); first += 256 {
		part := entries[first:min(first+256, len(entries))]
		var bundle []byte
		var tile api.HashTile
		for _, e := range part {
			bundle = append(bundle, byte(len(e)>>8), byte(len(e)))
			bundle = append(bundle, e...)
			tile.Nodes = append(tile.Nodes, rfc6962.DefaultHasher.HashLeaf(e))
		}
		data, err := tile.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		files[layout.EntriesPath(uint64(first/256), uint8(len(part)))] = bundle
		files[layout.TilePath(0, uint64(first/256), uint8(len(part)))] = data
	}
	c := audittest.Client(t, m)
	inner := c.Fetch
	var used atomic.Int64 // bundles are fetched by several goroutines
	c.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		if data, ok := files[path]; ok {
			used.Add(1)
			return bytes.Clone(data), nil
		}
		if !strings.HasPrefix(path, "tile/1/") {
			return nil, fmt.Errorf("not expected: %s", path)
		}
		return inner(ctx, path)
	}
	if n, err := readAll(t, c, head); err != nil || n != 513 {
		t.Errorf("%d entries, %v", n, err)
	}
	if used.Load() == 0 {
		t.Error("none of the files was read")
	}
}

// The proofs' JSON is what the standard library makes of their fields.
func TestInteropProofJSON(t *testing.T) {
	m, _ := newLog(t, 300)
	p, err := audit.ProveInclusion(t.Context(), m, 300, 299)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(struct {
		Index  int64    `json:"index"`
		Size   int64    `json:"size"`
		Hashes [][]byte `json:"hashes"`
	}{299, 300, fromHashes(p.Hashes)})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s, want %s (%v)", got, want, err)
	}
}
