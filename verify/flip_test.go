package verify_test

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// small is a small document in which everything counts.
func small(tb testing.TB) (*verifytest.Deployment, []byte) {
	tb.Helper()
	d := verifytest.New(tb)
	cms := d.FormatOf("cms")
	r := d.Sign("apps", "dave", d.Item(cms, "a.bin", []byte("a"), nil), d.Item(cms, "b.bin", []byte("b"), nil), d.Item(cms, "c.bin", []byte("c"), nil))
	d.Endorse(r, "alice", "bob", "scanner")
	d.Execute(r)
	d.Sign("nightly", "ci", d.Item(cms, "later.bin", []byte("later"), nil))
	b, err := d.Evidence(r, 1).Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return d, b
}

// accepted says whether anybody would believe the bytes.
func accepted(d *verifytest.Deployment, b []byte) bool {
	e, err := verify.DecodeEvidence(b)
	if err != nil {
		return false
	}
	_, err = verify.Judge(e, d.Root, verifytest.Formats())
	return err == nil
}

// refuseAll wants every one of n changed documents to be refused, and says which
// are not.
func refuseAll(t *testing.T, d *verifytest.Deployment, n int, change func(i int) (what string, b []byte)) {
	t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				if what, b := change(i); b != nil && accepted(d, b) {
					t.Errorf("accepted: %s", what)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// TestFlips is invariant 3: no byte of a document can be another one.
func TestFlips(t *testing.T) {
	d, doc := small(t)
	if !accepted(d, doc) {
		t.Fatal("the document itself is refused")
	}
	// Bit 0 makes of most letters of base64 another letter, of digits another
	// digit; bit 5 another case. Of the charters, which package quorum flips too,
	// every sixth byte: one of nearly each byte before base64.
	chain := bytes.Index(doc, []byte(`"request":`))
	var at []int
	for i := 0; i < len(doc); i++ {
		if i > chain || i%6 == 0 {
			at = append(at, i)
		}
	}
	refuseAll(t, d, len(at), func(k int) (string, []byte) {
		i, bit := at[k], byte(0x01)
		if k%4 == 3 {
			bit = 0x20
		}
		b := bytes.Clone(doc)
		b[i] ^= bit
		return fmt.Sprintf("bit %#x of byte %d: …%s…", bit, i, doc[max(0, i-40):min(len(doc), i+40)]), b
	})
}

// TestShapes changes the structure: every number, every element of every list,
// every member of every object.
func TestShapes(t *testing.T) {
	d, doc := small(t)
	var changed [][]byte
	var what []string
	add := func(name string, v span, with []byte) {
		b := append(append(bytes.Clone(doc[:v.from]), with...), doc[v.to:]...)
		changed, what = append(changed, b), append(what, fmt.Sprintf("%s %s", name, v.pointer))
	}
	all := spans(t, doc)
	for i, v := range all {
		text := doc[v.from:v.to]
		if v.kind == '0' {
			n, err := strconv.ParseInt(string(text), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []int64{n + 1, n - 1, -n - 1, n + 1<<32} {
				add(fmt.Sprintf("%d for", m), v, strconv.AppendInt(nil, m, 10))
			}
			add("1.0e for", v, append(bytes.Clone(text), ".0"...))
		}
		if v.kind == '"' && len(text) > 2 {
			add("nothing for", v, []byte(`""`))
			add("half of", v, append(bytes.Clone(text[:len(text)/2]), '"'))
		}
		add("null for", v, []byte("null"))
		if v.list {
			add("twice", v, append(append(bytes.Clone(text), ','), text...))
			for _, w := range all[i+1:] {
				if w.list && w.parent == v.parent { // swapped
					b := append(bytes.Clone(doc[:v.from]), doc[w.from:w.to]...)
					b = append(append(b, doc[v.to:w.from]...), text...)
					b = append(b, doc[w.to:]...)
					// The founders' signatures have no order: each of them is checked.
					if !bytes.Equal(doc[w.from:w.to], text) && v.parent != "/charters/founding/signatures" {
						changed, what = append(changed, b), append(what, "swapped "+v.pointer+" "+w.pointer)
					}
				}
			}
			cut := span{v.from, v.to, 0, false, "", v.pointer}
			if doc[cut.to] == ',' {
				cut.to++
			} else if doc[cut.from-1] == ',' {
				cut.from--
			}
			add("without", cut, nil)
		}
		if v.kind == '{' {
			add("another member in", v, append([]byte(`{"x":1,`), text[1:]...))
		}
	}
	if len(changed) < 150 {
		t.Fatalf("only %d changes: the document is not what this test thinks", len(changed))
	}
	refuseAll(t, d, len(changed), func(i int) (string, []byte) { return what[i], changed[i] })
	for _, b := range [][]byte{append(bytes.Clone(doc), '\n'), append([]byte(" "), doc...), doc[:len(doc)-1], nil, []byte("{}"), []byte("null")} {
		if accepted(d, b) {
			t.Errorf("accepted: %.40q …", b)
		}
	}
}

// span is one value of a JSON text.
type span struct {
	from, to int
	kind     jsontext.Kind
	list     bool   // an element of a list
	parent   string // pointer
	pointer  string
}

// spans finds all values, without the names of members.
func spans(t *testing.T, doc []byte) []span {
	t.Helper()
	var out, open []span
	dec := jsontext.NewDecoder(bytes.NewReader(doc))
	for {
		tok, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		to := int(dec.InputOffset())
		kind := tok.Kind()
		if kind == '}' || kind == ']' {
			v := open[len(open)-1]
			open = open[:len(open)-1]
			v.to = to
			out = append(out, v)
			continue
		}
		from := to - 1
		if kind != '{' && kind != '[' {
			from = to - len(tok.String())
			if kind == '"' {
				from = bytes.LastIndexByte(doc[:to-1], '"') // no string here holds an escaped one
			}
		}
		p := dec.StackPointer()
		depth := dec.StackDepth()
		if kind == '{' || kind == '[' {
			depth--
		}
		v := span{from: from, kind: kind, pointer: string(p), parent: string(p.Parent())}
		if depth > 0 {
			parent, n := dec.StackIndex(depth)
			if parent == '{' && n%2 == 1 {
				continue // a member's name
			}
			v.list = parent == '['
		}
		if kind == '{' || kind == '[' {
			open = append(open, v)
			continue
		}
		v.to = to
		out = append(out, v)
	}
}
