package audit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

var update = flag.Bool("update", false, "write testdata anew")

type goldenEntry struct {
	What string `json:"what"`
	Hex  string `json:"hex"`
	Leaf string `json:"leaf"`
}

// golden is everything whose bytes must never change: logs live for decades.
type golden struct {
	Key          string               `json:"key"`
	WitnessKey   string               `json:"witness_key"`
	Entries      []goldenEntry        `json:"entries"`
	Roots        map[string]tlog.Hash `json:"roots"`
	Bundle       string               `json:"bundle"`
	EdgeTile     string               `json:"edge_tile"`
	Paths        []string             `json:"paths"`
	Checkpoint   string               `json:"checkpoint"`
	Cosigned     string               `json:"cosigned"`
	Inclusion    audit.Inclusion      `json:"inclusion"`
	Consistency  audit.Consistency    `json:"consistency"`
	EmptyProof   audit.Inclusion      `json:"inclusion_of_one"`
	EmptyHistory audit.Consistency    `json:"consistency_of_none"`
}

func TestGolden(t *testing.T) {
	ctx := t.Context()
	var g golden
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g.Key, err = audit.VerifierKey(audittest.Origin, pub(audittest.Key()))
	must()
	w, err := audit.NewWitness("witness.example/w", pub(audittest.KeyOf(5)))
	must()
	g.WitnessKey = w.String()

	at := time.UnixMilli(1_790_000_000_123)
	request := [32]byte{0: 0xaa, 31: 0xbb}
	for _, e := range []struct {
		what  string
		entry audit.Entry
	}{
		{"charter", audit.NewEntry(audit.KindCharter, at, [32]byte{}, []byte(`{"payloadType":"x"}`))},
		{"request", audit.NewEntry(audit.KindRequest, at, request, []byte(`{"payloadType":"x"}`))},
		{"endorsement", audit.NewEntry(audit.KindEndorsement, at, request, nil)},
		{"receipt", audit.NewEntry(audit.KindReceipt, at, request, []byte("{}"))},
		{"rejection", audit.NewEntry(audit.KindRejection, time.UnixMilli(0), request, []byte("{}"))},
		{"cancel", audit.NewEntry(audit.KindCancel, at, request, []byte("{}"))},
		{"expire", audit.NewEntry(audit.KindExpire, at, request, []byte("{}"))},
		{"detached", audit.NewEntry(audit.KindReceipt, at, request, bytes.Repeat([]byte("a"), audit.MaxInline+1))},
	} {
		data, err := e.entry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		g.Entries = append(g.Entries, goldenEntry{e.what, hex.EncodeToString(data), audit.LeafHash(data).String()})
	}

	g.Roots = map[string]tlog.Hash{"0": audit.EmptyTree().Root}
	m := new(audittest.Memory)
	for n, end := range map[string]int64{"1": 1, "3": 3, "256": 256, "300": 300} {
		tree, err := audittest.Append(ctx, new(audittest.Memory), audittest.Entries(t, 0, end)...)
		if err != nil {
			t.Fatal(err)
		}
		g.Roots[n] = tree.Root
	}
	tree, err := audittest.Append(ctx, m, audittest.Entries(t, 0, 300)...)
	must()
	data, err := m.ReadTiles(ctx, []tlog.Tile{audit.BundleTile(1, 3), {H: audit.TileHeight, L: 1, W: 1}})
	must()
	g.Bundle, g.EdgeTile = hex.EncodeToString(data[0]), hex.EncodeToString(data[1])
	for _, x := range []tlog.Tile{{H: 8, W: 256}, {H: 8, L: 1, N: 1067, W: 8}, audit.BundleTile(1234067, 256), audit.BundleTile(0, 1)} {
		g.Paths = append(g.Paths, audit.TilePath(x))
	}
	g.Checkpoint = string(audittest.Sign(t, tree))
	c, err := audit.NewCosigner(w.Name(), audittest.KeyOf(5), time.Unix(1_790_000_000, 0))
	must()
	cosigned, err := audittest.Head(t, tree).Cosign(c)
	must()
	g.Cosigned = string(cosigned)
	g.Inclusion, err = audit.ProveInclusion(ctx, m, 300, 257)
	must()
	g.Consistency, err = audit.ProveConsistency(ctx, m, 3, 300)
	must()
	g.EmptyProof, err = audit.ProveInclusion(ctx, m, 1, 0)
	must()
	g.EmptyHistory, err = audit.ProveConsistency(ctx, m, 0, 300)
	must()

	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", "\t")
	enc.SetEscapeHTML(false)
	err = enc.Encode(g)
	must()
	const name = "testdata/golden.json"
	if *update {
		err = os.MkdirAll("testdata", 0o755)
		must()
		err = os.WriteFile(name, buf.Bytes(), 0o644)
		must()
	}
	want, err := os.ReadFile(name)
	must()
	if !bytes.Equal(buf.Bytes(), want) {
		t.Errorf("the log's encodings changed; they must not. got:\n%s", buf.Bytes())
	}

	// The frozen bytes, read by themselves: nothing of this run's making.
	var old golden
	err = json.Unmarshal(want, &old)
	must()
	v, err := audit.ParseVerifierKey(old.Key)
	must()
	head, err := audit.ParseCheckpoint([]byte(old.Cosigned), audittest.Origin, v)
	must()
	ow, err := audit.ParseWitness(old.WitnessKey)
	must()
	_, err = head.CheckCosignatures(1, []audit.Witness{ow})
	must()
	bundle, err := hex.DecodeString(old.Bundle)
	must()
	entries, err := audit.ParseBundle(bundle, 3)
	must()
	err = head.CheckInclusion(old.Inclusion, entries[1])
	must()
	err = audit.CheckConsistency(audit.Tree{Size: 3, Root: old.Roots["3"]}, head.Tree(), old.Consistency)
	must()
	if len(old.Entries) == 0 {
		t.Error("no entries")
	}
	for _, e := range old.Entries {
		data, err := hex.DecodeString(e.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := audit.DecodeEntry(data); err != nil || audit.LeafHash(data).String() != e.Leaf {
			t.Errorf("%s: %v", e.What, err)
		}
	}
}
