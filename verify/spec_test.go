package verify_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

var update = flag.Bool("update", false, "make the vectors of docs/spec anew")

const (
	spec    = "../docs/spec"
	vectors = spec + "/vectors"
)

// statementVector is one statement of docs/spec/vectors/statements.json.
type statementVector struct {
	What     string          `json:"what"`
	Payload  string          `json:"payload"`
	PAE      string          `json:"pae"` // hexadecimal
	ID       string          `json:"id"`
	Envelope json.RawMessage `json:"envelope"`
}

// treeVector is docs/spec/vectors/trees.json.
type treeVector struct {
	Items          []string     `json:"items"` // encoded, hexadecimal
	Leaves         []string     `json:"leaves"`
	Root           string       `json:"root"`
	Proof          merkle.Proof `json:"proof"` // of the last item
	Signatures     [][]string   `json:"signatures"`
	SignatureLeafs []string     `json:"signatureLeaves"`
	SignaturesRoot string       `json:"signaturesRoot"`
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	name = filepath.Join(vectors, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectors, filepath.FromSlash(name)))
	if err != nil {
		t.Fatalf("%v: make the vectors with go test ./verify -run TestVectors -update", err)
	}
	return b
}

func pretty(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// makeVectors writes docs/spec/vectors.
func makeVectors(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(vectors, "log")); err != nil { // what else is there is written over, or another package's
		t.Fatal(err)
	}
	d := verifytest.New(t)
	d.Replace(func(c *charter.Charter) { c.Policies["apps"] = describe(c.Policies["apps"], "what customers get") })
	cms := d.FormatOf("cms")
	r := d.Sign("apps", "dave", d.Item(cms, "app.bin", []byte(program), nil), d.Item(cms, "doc.txt", []byte("the manual"), nil), d.Item(cms, "notes.txt", []byte("the notes"), nil))
	d.Endorse(r, "bob", "carol", "scanner")
	d.Execute(r)
	e := d.Evidence(r, 0)
	d.Replace(long)
	refused := d.Sign("apps", "dave", item(d, 1))
	d.Say(refused, "alice", statement.Disapprove)
	d.Refuse(refused, "disapproved")
	d.Execute(asked(d, 2))

	doc, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file, detached := d.Attach(r, 0, []byte(program))
	write(t, "root", []byte(d.Root.String()+"\n"))
	write(t, "founding.json", d.Founding)
	write(t, "evidence.json", doc)
	write(t, "app.bin", file)
	write(t, "app.bin.p7s", detached)

	var list []statementVector
	for _, x := range []struct {
		what     string
		envelope []byte
	}{
		{"charter, version 1, by two founders", d.Founding},
		{"request, by an X.509 key", r.Envelope},
		{"endorsement, by an SSH key of a FIDO authenticator", r.Endorsements[0]},
		{"endorsement, by a passkey", r.Endorsements[1]},
		{"endorsement, by an SSH key of a machine", r.Endorsements[2]},
		{"receipt of signing", r.Receipt},
		{"disapproval", refused.Endorsements[0]},
		{"receipt of a refusal", refused.Receipt},
	} {
		env, err := statement.DecodeEnvelope(x.envelope)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, statementVector{x.what, string(env.Payload), hex.EncodeToString(statement.PAE(env.Payload)), env.ID().String(), x.envelope})
	}
	write(t, "statements.json", pretty(t, list))
	write(t, "trees.json", pretty(t, newTrees(t, r.Items, r.Signatures)))

	src := d.Source()
	head := copyLog(t, src, d)
	write(t, "log/checkpoint", head)
	for sum, b := range d.Bodies {
		write(t, fmt.Sprintf("log/body/%x", sum), b)
	}
}

func newTrees(t *testing.T, items [][]byte, sigs [][][]byte) treeVector {
	t.Helper()
	var v treeVector
	var leaves, sigLeaves []merkle.Hash
	for i, b := range items {
		leaves = append(leaves, format.Leaf(b))
		sigLeaves = append(sigLeaves, format.SignatureLeaf(leaves[i], sigs[i]))
		v.Items = append(v.Items, hex.EncodeToString(b))
		v.Leaves = append(v.Leaves, leaves[i].String())
		v.SignatureLeafs = append(v.SignatureLeafs, sigLeaves[i].String())
		var values []string
		for _, s := range sigs[i] {
			values = append(values, hex.EncodeToString(s))
		}
		v.Signatures = append(v.Signatures, values)
	}
	tree, err := merkle.New(merkle.Items, leaves)
	if err != nil {
		t.Fatal(err)
	}
	if v.Proof, err = tree.Prove(len(items) - 1); err != nil {
		t.Fatal(err)
	}
	v.Root = tree.Root().String()
	root, err := merkle.Root(merkle.Signatures, sigLeaves)
	if err != nil {
		t.Fatal(err)
	}
	v.SignaturesRoot = root.String()
	return v
}

// copyLog writes the tiles and bundles of a small log.
func copyLog(t *testing.T, src verify.LogSource, d *verifytest.Deployment) []byte {
	t.Helper()
	ctx := context.Background()
	tree, err := d.Store.Tree(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Size >= audit.TileWidth {
		t.Fatal("the log of the vectors is to have one tile")
	}
	for _, level := range []int{0, -1} {
		path := audit.TilePath(tlog.Tile{H: audit.TileHeight, L: level, N: 0, W: int(tree.Size)})
		b, err := src.Fetch(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, "log/"+path, b)
	}
	return d.Checkpoint()
}

// folder reads a log from docs/spec/vectors/log.
func folder(t *testing.T) verify.LogSource {
	return verify.LogSource{
		Founding: read(t, "founding.json"),
		Fetch: func(_ context.Context, path string) ([]byte, error) {
			return os.ReadFile(filepath.Join(vectors, "log", filepath.FromSlash(path)))
		},
		Body: func(_ context.Context, sum [32]byte, _ int64) ([]byte, error) {
			return os.ReadFile(filepath.Join(vectors, "log", "body", hex.EncodeToString(sum[:])))
		},
	}
}

// TestVectors holds this version of the code to what was frozen.
func TestVectors(t *testing.T) {
	if *update {
		makeVectors(t)
	}
	root, err := verify.RootFromFounding(read(t, "founding.json"))
	if err != nil || root.String()+"\n" != string(read(t, "root")) {
		t.Fatalf("root %s: %v", root, err)
	}
	doc := read(t, "evidence.json")
	e, err := verify.DecodeEvidence(doc)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.Encode(); err != nil || !bytes.Equal(again, doc) {
		t.Errorf("the document does not re-encode to itself: %v", err)
	}
	v, err := verify.File(context.Background(), verifytest.Artifact("app.bin", read(t, "app.bin")), read(t, "app.bin.p7s"), e, root, format.Trust{}, verifytest.Formats(), verify.Options{KeyFromEvidence: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Approval().Endorsers(); len(got) != 3 || got[0].Name != "bob" || !got[0].Hardware {
		t.Errorf("endorsers: %+v", got)
	}

	var list []statementVector
	if err := json.Unmarshal(read(t, "statements.json"), &list); err != nil || len(list) < 8 {
		t.Fatalf("%d statements: %v", len(list), err)
	}
	for _, x := range list {
		var compact bytes.Buffer
		if err := json.Compact(&compact, x.Envelope); err != nil {
			t.Fatal(err)
		}
		env, err := statement.DecodeEnvelope(compact.Bytes())
		if err != nil {
			t.Errorf("%s: %v", x.What, err)
			continue
		}
		if string(env.Payload) != x.Payload || hex.EncodeToString(statement.PAE(env.Payload)) != x.PAE || env.ID().String() != x.ID {
			t.Errorf("%s: payload, encoding or ID differ", x.What)
		}
		kind, _, _ := strings.Cut(x.What, " ")
		switch strings.Trim(kind, ",") {
		case "charter":
			_, err = charter.Decode(env.Payload)
		case "request":
			_, err = statement.Decode[statement.Request](env.Payload)
		case "endorsement", "disapproval":
			_, err = statement.Decode[statement.Endorsement](env.Payload)
		case "receipt":
			_, err = statement.Decode[statement.Receipt](env.Payload)
		default:
			t.Errorf("unknown kind %q", kind)
		}
		if err != nil {
			t.Errorf("%s: %v", x.What, err)
		}
	}

	var trees treeVector
	if err := json.Unmarshal(read(t, "trees.json"), &trees); err != nil {
		t.Fatal(err)
	}
	var items [][]byte
	var sigs [][][]byte
	for i, s := range trees.Items {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, b)
		var values [][]byte
		for _, s := range trees.Signatures[i] {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, b)
		}
		sigs = append(sigs, values)
	}
	if got, want := string(pretty(t, newTrees(t, items, sigs))), string(pretty(t, trees)); got != want {
		t.Errorf("trees differ:\n%s\nwant\n%s", got, want)
	}

	r, err := verify.Log(context.Background(), folder(t), root, verify.LogOptions{})
	if err != nil || !r.OK() || r.Receipts.Executed != 4 || r.Receipts.Refused != 1 {
		t.Errorf("log: %v %+v", err, r)
	}
}

// TestSpec wants every file to exist that the specification names.
func TestSpec(t *testing.T) {
	pages, err := filepath.Glob(spec + "/*.md")
	if err != nil || len(pages) < 6 {
		t.Fatalf("%d pages in %s: want statements, credentials, charter, plans, receipts-and-log, evidence", len(pages), spec)
	}
	link := regexp.MustCompile("\\]\\(([^)#]+)(?:#[^)]*)?\\)|`((?:docs|audit|circle|cms|charter|credential|format|internal|order|quorum|record|statement|tsp|verify|sigalg|merkle|receipt)/[^` ]*(?:/|\\.[a-z0-9]+))`")
	// Pages whose judges are other programs have no vectors, but name so many tests
	// that ask them.
	judged := map[string]int{"platforms.md": 3}
	named := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		here, tests := 0, 0
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			path := filepath.Join("..", m[2])
			if m[1] != "" {
				if strings.Contains(m[1], "://") {
					continue
				}
				path = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s names %s: %v", page, m[0], err)
			}
			if strings.Contains(path, "vectors") || strings.Contains(path, "testdata") {
				here++
			}
			if strings.HasSuffix(path, "_test.go") {
				tests++
			}
		}
		switch n, other := judged[filepath.Base(page)]; {
		case other && (here > 0 || tests < n):
			t.Errorf("%s refers to %d vectors and %d tests: want none and %d", page, here, tests, n)
		case !other && here == 0:
			t.Errorf("%s refers to no vector", page)
		}
		named += here
	}
	if named < 12 {
		t.Errorf("only %d references to vectors", named)
	}
}
