package format

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/greatseal-io/greatseal/merkle"
)

func TestPatch(t *testing.T) {
	const old = "0123456789"
	e := func(off, del int64, ins string) Edit { return Edit{off, del, []byte(ins)} }
	for name, c := range map[string]struct {
		size  int64
		edits []Edit
		want  string // "" when refused
	}{
		"append":           {10, []Edit{e(10, 0, "ab")}, "0123456789ab"},
		"insert first":     {10, []Edit{e(0, 0, "ab")}, "ab0123456789"},
		"replace":          {10, []Edit{e(2, 3, "xyz")}, "01xyz56789"},
		"touching":         {10, []Edit{e(2, 3, "x"), e(5, 1, "y"), e(6, 0, "z")}, "01xyz6789"},
		"delete all":       {10, []Edit{e(0, 10, "n")}, "n"},
		"no edit":          {10, nil, ""},
		"other size":       {11, []Edit{e(0, 1, "x")}, ""},
		"negative size":    {-1, []Edit{e(0, 0, "x")}, ""},
		"negative offset":  {10, []Edit{e(-1, 0, "x")}, ""},
		"negative delete":  {10, []Edit{e(1, -1, "x")}, ""},
		"behind the end":   {10, []Edit{e(11, 0, "x")}, ""},
		"over the end":     {10, []Edit{e(9, 2, "x")}, ""},
		"offset overflows": {10, []Edit{e(1<<62, 1<<62, "x")}, ""},
		"delete overflows": {10, []Edit{e(2, 1<<63-1, "x")}, ""},
		"overlapping":      {10, []Edit{e(2, 3, "x"), e(4, 1, "y")}, ""},
		"out of order":     {10, []Edit{e(5, 1, "x"), e(2, 1, "y")}, ""},
		"same place":       {10, []Edit{e(5, 0, "x"), e(5, 0, "y")}, ""},
		"nothing":          {10, []Edit{e(5, 0, "")}, ""},
	} {
		p := &Patch{Size: c.size, Edits: c.edits}
		got, err := p.Bytes(BytesArtifact("f", []byte(old)))
		if c.want == "" {
			if !errors.Is(err, ErrPatch) {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
			continue
		}
		if err != nil || string(got) != c.want || p.NewSize() != int64(len(got)) {
			t.Errorf("%s: got %q (%d), %v", name, got, p.NewSize(), err)
		}
	}
	for _, s := range []string{"", ".", "p7s", "/x", "./x", "..x", ".a..b", ".a.", ".A", ".a/b", ".\x00", "." + string(bytes.Repeat([]byte("a"), 32))} {
		if err := (&Patch{Sidecar: &Sidecar{s, []byte("x")}}).Check(); !errors.Is(err, ErrPatch) {
			t.Errorf("suffix %q: %v", s, err)
		}
	}
	side := &Patch{Size: 3, Sidecar: &Sidecar{".dsse.json", []byte("x")}}
	if err := side.Check(); err != nil {
		t.Error(err)
	}
	if _, err := side.Bytes(BytesArtifact("", []byte("abc"))); !errors.Is(err, ErrPatch) {
		t.Error("a sidecar is no edit")
	}
	side.Edits = []Edit{e(0, 0, "x")}
	if err := side.Check(); !errors.Is(err, ErrPatch) {
		t.Error("edits and a sidecar")
	}
	if err := (&Patch{Sidecar: &Sidecar{".p7s", nil}}).Check(); !errors.Is(err, ErrPatch) {
		t.Error("empty sidecar")
	}
}

// lying says that it is longer than it is.
type lying struct{ Artifact }

func (l lying) Size() int64 { return l.Artifact.Size() + 1 }

func TestSum(t *testing.T) {
	b := bytes.Repeat([]byte("greatseal"), 100_000)
	for _, b := range [][]byte{nil, b[:1], b[:readBuffer], b} {
		got, err := Sum(t.Context(), BytesArtifact("", b), crypto.SHA256, crypto.SHA512)
		want := sha256.Sum256(b)
		if err != nil || len(got) != 2 || !bytes.Equal(got[0], want[:]) || len(got[1]) != 64 {
			t.Errorf("%d bytes: %x, %v", len(b), got, err)
		}
	}
	if _, err := Sum(t.Context(), lying{BytesArtifact("", b)}, crypto.SHA256); !errors.Is(err, ErrShort) {
		t.Errorf("short artifact: %v", err)
	}
	if _, err := Sum(t.Context(), BytesArtifact("", b), crypto.MD4); err == nil {
		t.Error("unknown hash")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Sum(ctx, BytesArtifact("", b), crypto.SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Frozen: receipts of old carry these roots.
func TestSignatureLeaf(t *testing.T) {
	item := Leaf([]byte("item"))
	leaf := SignatureLeaf(item, [][]byte{[]byte("round 1"), []byte("round 2")})
	item2 := hex.EncodeToString(item[:])
	cbor, _ := hex.DecodeString("a2" + "01" + "5820" + item2 + "02" + "82" + "47" + hex.EncodeToString([]byte("round 1")) + "47" + hex.EncodeToString([]byte("round 2")))
	if want := merkle.Leaf(merkle.Signatures, cbor); leaf != want {
		t.Fatalf("leaf %s, want %s", leaf, want)
	}
	seen := map[merkle.Hash]string{leaf: "itself"}
	for name, l := range map[string]merkle.Hash{
		"joined":     SignatureLeaf(item, [][]byte{[]byte("round 1round 2")}),
		"swapped":    SignatureLeaf(item, [][]byte{[]byte("round 2"), []byte("round 1")}),
		"other item": SignatureLeaf(Leaf([]byte("other")), [][]byte{[]byte("round 1"), []byte("round 2")}),
		"none":       SignatureLeaf(item, nil),
		"one empty":  SignatureLeaf(item, [][]byte{nil}),
	} {
		if other, ok := seen[l]; ok {
			t.Errorf("%s is %s", name, other)
		}
		seen[l] = name
	}
	root, err := SignaturesRoot([]merkle.Hash{item}, [][][]byte{{[]byte("round 1"), []byte("round 2")}})
	want, _ := merkle.Root(merkle.Signatures, []merkle.Hash{leaf})
	if err != nil || root != want {
		t.Errorf("root %s, %v", root, err)
	}
	if _, err := SignaturesRoot([]merkle.Hash{item}, nil); err == nil {
		t.Error("signatures missing")
	}
	if _, err := SignaturesRoot(nil, nil); !errors.Is(err, merkle.ErrEmpty) {
		t.Error("empty")
	}
}

func TestPlanEncoding(t *testing.T) {
	p := &Plan{Format: "x", Version: 1, Digest: "sha256", Size: 9, Content: make([]byte, 32), Params: []Fact{{"a", "1"}, {"b", "2"}}, Facts: []Fact{{"v", "1.2"}}, Body: []byte{}}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	q, err := DecodePlan(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := q.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Fatalf("%x, %v", again, err)
	}
	for n := range b {
		if _, err := DecodePlan(b[:n]); err == nil {
			t.Errorf("the first %d bytes are accepted", n)
		}
	}
	if _, err := DecodePlan(append(bytes.Clone(b), 0)); err == nil {
		t.Error("trailing byte accepted")
	}
	for name, spoil := range map[string]func(*Plan){
		"no format":       func(p *Plan) { p.Format = "" },
		"digest":          func(p *Plan) { p.Digest = "sha1" },
		"digest's length": func(p *Plan) { p.Content = make([]byte, 31) },
		"size":            func(p *Plan) { p.Size = -1 },
		"order":           func(p *Plan) { p.Params[0], p.Params[1] = p.Params[1], p.Params[0] },
		"twice":           func(p *Plan) { p.Params[1] = p.Params[0] },
		"long fact":       func(p *Plan) { p.Facts[0].Value = string(make([]byte, MaxText+1)) },
		"long option":     func(p *Plan) { p.Params[0].Value = string(make([]byte, MaxParam+1)) },
		"UTF-8":           func(p *Plan) { p.Facts[0].Value = "\xff" },
		"no name":         func(p *Plan) { p.Facts[0].Name = "" },
		"many":            func(p *Plan) { p.Facts = make([]Fact, MaxFacts+1) },
	} {
		q, _ := DecodePlan(b)
		spoil(q)
		if _, err := q.Encode(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		raw, err := Encode(q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePlan(raw); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	it := &Item{Plan: b, Name: "dist/app.exe", Claims: []Fact{{"version", "1"}}}
	enc, err := it.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, p, err := DecodeItem(enc); err != nil || p.Size != 9 {
		t.Errorf("%v", err)
	}
	for n := range enc {
		if _, _, err := DecodeItem(enc[:n]); err == nil {
			t.Errorf("the first %d bytes of an item are accepted", n)
		}
	}
}

// A line of one's own in a name or a claim reads like one of the program that
// shows it: "found" where the truth is "claimed".
func TestTextsAreOneLine(t *testing.T) {
	plan := func(change func(*Plan)) []byte {
		p := &Plan{Format: "x", Version: 1, Digest: "sha256", Content: make([]byte, 32), Params: []Fact{{"a", "1"}}, Facts: []Fact{{"v", "1.2"}}, Body: []byte{}}
		change(p)
		b, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := plan(func(*Plan) {})
	for _, text := range []string{"Größe 二 🌱", "a b"} {
		it := Item{Plan: plan(func(p *Plan) { p.Facts[0].Value, p.Params[0].Value = text, text }), Name: text, Claims: []Fact{{text, text}}}
		if b, err := it.Encode(); err != nil {
			t.Errorf("%q: %v", text, err)
		} else if _, _, err := DecodeItem(b); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"1\n  found    scan = clean", "1\r2", "\x1b[2K", "a\x00", "a\u0085b", "a\u2028b", "a\u2029b", "exe.\u202egpj", "\u2066a", "a\x7f", "a\u200eb", "a\u200fb", "a\u061cb", "a\u2069"} {
		for what, it := range map[string]Item{
			"name":          {Plan: good, Name: text, Claims: []Fact{}},
			"claim's name":  {Plan: good, Name: "a", Claims: []Fact{{text, "1"}}},
			"claim":         {Plan: good, Name: "a", Claims: []Fact{{"version", text}}},
			"fact's name":   {Plan: plan(func(p *Plan) { p.Facts[0].Name = text }), Name: "a", Claims: []Fact{}},
			"fact":          {Plan: plan(func(p *Plan) { p.Facts[0].Value = text }), Name: "a", Claims: []Fact{}},
			"option's name": {Plan: plan(func(p *Plan) { p.Params[0].Name = text }), Name: "a", Claims: []Fact{}},
		} {
			b, err := Encode(it)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := DecodeItem(b); err == nil {
				t.Errorf("%s %q is accepted", what, text)
			}
		}
	}
	// A predicate is an option, and canonical JSON leaves most characters as they are.
	if _, err := DecodePlan(plan(func(p *Plan) { p.Params[0].Value = "{\"a\":\"\u2028\"}" })); err != nil {
		t.Error(err)
	}
	if _, err := DecodePlan(plan(func(p *Plan) { p.Params[0].Value = "a\nb" })); err == nil {
		t.Error("an option of two lines is accepted")
	}
}

func FuzzDecodeItem(f *testing.F) {
	p := &Plan{Format: "x", Version: 1, Digest: "sha256", Size: 9, Content: make([]byte, 32), Body: []byte{}}
	b, err := p.Encode()
	if err != nil {
		f.Fatal(err)
	}
	it, err := (&Item{Plan: b, Name: "a"}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(it)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if it, _, err := DecodeItem(b); err == nil {
			if again, err := it.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("accepted %x, re-encodes to %x, %v", b, again, err)
			}
		}
		if p, err := DecodePlan(b); err == nil {
			if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("accepted %x, re-encodes to %x, %v", b, again, err)
			}
		}
	})
}

// A patch may come from anywhere: the size of its result must be a size.
func TestPatchSizeDoesNotOverflow(t *testing.T) {
	for _, size := range []int64{math.MaxInt64, math.MaxInt64 - MaxInsert + 1} {
		p := &Patch{Size: size, Edits: []Edit{{Offset: size, Insert: make([]byte, MaxInsert)}}}
		if err := p.Check(); !errors.Is(err, ErrPatch) {
			t.Errorf("a file of %d bytes: error %v, new size %d", size, err, p.NewSize())
		}
	}
}
