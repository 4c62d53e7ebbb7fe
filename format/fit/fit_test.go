package fit

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func artifact(b []byte) format.Artifact { return format.BytesArtifact("image.itb", b) }

// pr and nd make trees by hand.
type pr struct {
	name  string
	value []byte
}

type nd struct {
	name     string
	props    []pr
	children []nd
}

func str(name string, values ...string) pr {
	return pr{name, []byte(strings.Join(values, "\x00") + "\x00")}
}

// build encodes a tree.
func build(root nd) []byte {
	var strs, b []byte
	var put func(n nd)
	put = func(n nd) {
		b = appendBegin(b, n.name)
		for _, p := range n.props {
			i := bytes.Index(append([]byte{0}, strs...), []byte("\x00"+p.name+"\x00"))
			if i < 0 {
				i = len(strs)
				strs = append(append(strs, p.name...), 0)
			}
			b = appendProp(b, &prop{nameOff: uint32(i), value: p.value})
		}
		for _, c := range n.children {
			put(c)
		}
		b = appendEnd(b)
	}
	put(root)
	b = append(b, 0, 0, 0, tokenLast)
	h := header{strings: reserveEnd + int64(len(b)), stringsSize: int64(len(strs)), structSize: int64(len(b))}
	h.total = h.strings + h.stringsSize
	return bytes.Join([][]byte{h.encode(), make([]byte, 16), b, strs}, nil)
}

func digestNode(name, algo string, sum []byte) nd {
	return nd{name: name, props: []pr{{"value", sum}, str("algo", algo)}}
}

func image(name, data string) nd {
	d := sha256.Sum256([]byte(data))
	return nd{name: name, props: []pr{{"data", []byte(data)}, str("type", "kernel")}, children: []nd{digestNode("hash-1", "sha256", d[:])}}
}

// small is a FIT of one image and one configuration; change may spoil it.
func small(data string, change ...func(root *nd)) []byte {
	root := nd{props: []pr{str("description", "test")}, children: []nd{
		{name: "images", children: []nd{image("k", data)}},
		{name: "configurations", props: []pr{str("default", "c")}, children: []nd{{name: "c", props: []pr{str("kernel", "k")}}}},
	}}
	for _, c := range change {
		c(&root)
	}
	return build(root)
}

func sign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) ([]byte, error) {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(b), p)
	if err != nil {
		return nil, err
	}
	if _, err := New().Assemble(plan, s.Identity, formattest.At, nil); err != nil {
		return nil, err
	}
	patch, err := New().Attach(t.Context(), artifact(b), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}

var dev = format.Params{"key-name": "dev"}

func TestConformance(t *testing.T) {
	for kind, scheme := range map[sigalg.Key]sigalg.Scheme{sigalg.P256: sigalg.ECDSASHA256, sigalg.RSA3072: sigalg.RSAPSSSHA256} {
		t.Run(string(kind), func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: small("kernel"), Other: small("kerne1"), Name: "image.itb", Params: dev, Signer: formattest.Identity(t, kind).With(scheme),
				Refused:  []format.Params{{}, {"key-name": "../dev"}, {"key-name": "dev", "digest": "sha1"}, {"key-name": "dev", "replace": "yes"}},
				Unsigned: []string{"Size"},
				// The key's name in the signature is for finding it; nobody signs it.
				// What pads the signature's properties is in no node that is signed.
				Open: func(b []byte, i int) bool {
					tr, err := open(artifact(b))
					if err != nil {
						t.Fatal(err)
					}
					for _, p := range tr.configs[0].node.children[0].props {
						at := int64(i) - p.off
						if p.name == "key-name-hint" && at >= 0 && at < p.size-1 || at >= p.size && at < p.size+int64(len(p.pad)) {
							return true
						}
					}
					return false
				},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(small(string(make([]byte, 8<<20)))), dev)
}

func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact(small("kernel")), dev)
	if err != nil {
		t.Fatal(err)
	}
	got, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got %x want %x", err, got, want)
	}
	if len(plan.Facts) != 5 || plan.Facts[2].Value != "c kernel=k" {
		t.Errorf("facts %v", plan.Facts)
	}
}

// Invariants 3 and 4: what no signature would cover, and what U-Boot could read
// in another way.
func TestRefusedTrees(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	images := func(r *nd) *nd { return &r.children[0] }
	configs := func(r *nd) *nd { return &r.children[1] }
	weak := sha1.Sum([]byte("kernel"))
	for name, change := range map[string]func(*nd){
		"unit address":               func(r *nd) { images(r).children = append(images(r).children, image("k@1", "evil")) },
		"node that stands twice":     func(r *nd) { images(r).children = append(images(r).children, image("k", "evil")) },
		"property that stands twice": func(r *nd) { configs(r).children[0].props = append(configs(r).children[0].props, str("kernel", "e")) },
		"image in no configuration":  func(r *nd) { images(r).children = append(images(r).children, image("e", "evil")) },
		"no digest":                  func(r *nd) { images(r).children[0].children = nil },
		"weak digest alone":          func(r *nd) { images(r).children[0].children = []nd{digestNode("hash-1", "sha1", weak[:])} },
		"wrong digest":               func(r *nd) { images(r).children[0].children = []nd{digestNode("hash-1", "sha256", make([]byte, 32))} },
		"wrong weak digest beside": func(r *nd) {
			n := &images(r).children[0]
			n.children = append(n.children, digestNode("hash-2", "crc32", []byte("crc!")))
		},
		"digest without a value": func(r *nd) { images(r).children[0].children[0].props = []pr{str("algo", "sha256")} },
		"digest that is ignored": func(r *nd) {
			h := &images(r).children[0].children[0]
			h.props = append(h.props, pr{"uboot-ignore", nil})
		},
		"unknown digest":              func(r *nd) { images(r).children[0].children[0].props[1] = str("algo", "sha3") },
		"signature of a single image": func(r *nd) { n := &images(r).children[0]; n.children = append(n.children, nd{name: "signature-1"}) },
		"another node in the root":    func(r *nd) { r.children = append(r.children, nd{name: "scripts"}) },
		"data in the root":            func(r *nd) { r.props = append(r.props, str("data", "evil")) },
		"data-offset in a configuration": func(r *nd) {
			configs(r).children[0].props = append(configs(r).children[0].props, pr{"data-offset", make([]byte, 4)})
		},
		"property of /images":              func(r *nd) { images(r).props = []pr{str("load", "0")} },
		"default that is no configuration": func(r *nd) { configs(r).props = []pr{str("default", "d")} },
		"configuration without images":     func(r *nd) { configs(r).children[0].props = []pr{str("kernel", "none")} },
		"two signatures":                   func(r *nd) { configs(r).children[0].children = []nd{{name: "signature-1"}, {name: "signature-2"}} },
		"data at a fixed position":         func(r *nd) { images(r).children[0].props[0] = pr{"data-position", make([]byte, 4)} },
		"root with a name":                 func(r *nd) { r.name = "x" },
		"more properties than there are uses for": func(r *nd) {
			for i := range maxProps {
				r.props = append(r.props, str(fmt.Sprintf("p%d", i), ""))
			}
		},
		"more to sign than there is use for": func(r *nd) {
			r.props = append(r.props, str("comment", strings.Repeat("x", 100<<10)))
			for i := range 200 {
				c := configs(r).children[0]
				c.name = fmt.Sprintf("c%d", i)
				configs(r).children = append(configs(r).children, c)
			}
		},
		"name that holds a slash": func(r *nd) { images(r).children[0].name = "a/b" },
	} {
		if _, err := sign(t, small("kernel", change), s, dev); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	good := small("kernel")
	nop := bytes.Clone(good)
	copy(nop[len(nop)-int(binary.BigEndian.Uint32(nop[32:]))-4:], []byte{0, 0, 0, 4})
	second := bytes.Clone(good)
	for name, b := range map[string][]byte{
		"NOP":            nop,
		"byte behind":    append(second, 0),
		"boot CPU":       append(append(bytes.Clone(good[:31]), 1), good[32:]...),
		"reserved":       append(append(bytes.Clone(good[:55]), 1), good[56:]...),
		"not a FIT":      build(nd{props: []pr{str("model", "board")}}),
		"second root":    secondRoot(good),
		"unused strings": nil,
	} {
		if _, err := sign(t, b, s, dev); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// secondRoot puts a root node behind the first one (CVE-2021-27097).
func secondRoot(b []byte) []byte {
	var h header
	u := func(i int) int64 { return int64(binary.BigEndian.Uint32(b[i:])) }
	h.strings, h.stringsSize, h.structSize = u(12), u(32), u(36)
	extra := append(appendEnd(appendBegin(nil, "")), 0, 0, 0, tokenLast)
	body, strs := b[reserveEnd:h.strings-4], b[h.strings:h.strings+h.stringsSize]
	h.structSize += int64(len(extra)) - 4
	h.strings = reserveEnd + h.structSize
	h.total = h.strings + h.stringsSize
	return bytes.Join([][]byte{h.encode(), make([]byte, 16), body, extra, strs}, nil)
}

// An unsigned configuration beside a signed one, a changed list of what is
// hashed, and strings that are not covered.
func TestTamperedSignatures(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	two := func(r *nd) {
		r.children[1].children = append(r.children[1].children, nd{name: "d", props: []pr{str("kernel", "k"), str("description", "second")}})
	}
	signed, err := sign(t, small("kernel", two), s, dev)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New().Verify(t.Context(), artifact(signed), s.Trust())
	if err != nil || len(r.Signatures) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := New().Plan(t.Context(), artifact(signed), dev); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	other := formattest.Identity(t, sigalg.RSA3072)
	again, err := sign(t, signed, other, format.Params{"replace": "true"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Verify(t.Context(), artifact(again), other.Trust()); err != nil {
		t.Error(err)
	}
	if _, err := New().Verify(t.Context(), artifact(again), s.Trust()); err == nil {
		t.Error("the first signer is still believed")
	}
	first, err := sign(t, small("kernel"), s, dev)
	if err != nil {
		t.Fatal(err)
	}
	root, err := open(artifact(first))
	if err != nil {
		t.Fatal(err)
	}
	sig := root.root.child("configurations").children[0].children[0]
	var props []pr
	for _, p := range sig.props {
		props = append(props, pr{p.name, p.value})
	}
	rebuilt := func(change func(props []pr) []pr, more ...func(*nd)) []byte {
		return small("kernel", append(more, func(r *nd) {
			r.children[1].children[0].children = []nd{{name: "signature-1", props: change(append([]pr(nil), props...))}}
		})...)
	}
	if _, err := New().Verify(t.Context(), artifact(rebuilt(func(p []pr) []pr { return p })), s.Trust()); err != nil {
		t.Fatalf("rebuilt: %v", err)
	}
	for name, b := range map[string][]byte{
		"unsigned configuration": rebuilt(func(p []pr) []pr { return p }, two),
		"fewer hashed nodes":     rebuilt(func(p []pr) []pr { p[3] = str("hashed-nodes", "/", "/configurations/c"); return p }),
		"fewer strings":          rebuilt(func(p []pr) []pr { p[4].value = []byte{0, 0, 0, 0, 0, 0, 0, 4}; return p }),
		"strings from elsewhere": rebuilt(func(p []pr) []pr { p[4].value = []byte{0, 0, 0, 1, 0, 0, 0, 47}; return p }),
		"unknown property":       rebuilt(func(p []pr) []pr { return append(p, str("required", "no")) }),
		"another algorithm":      rebuilt(func(p []pr) []pr { p[0] = str("algo", "sha1,ecdsa256"); return p }),
		"changed configuration": rebuilt(func(p []pr) []pr { return p }, func(r *nd) {
			r.children[1].children[0].props = append(r.children[1].children[0].props, str("bootargs", "init=/bin/sh"))
		}),
		"changed load address": rebuilt(func(p []pr) []pr { return p }, func(r *nd) {
			r.children[0].children[0].props = append(r.children[0].children[0].props, pr{"load", make([]byte, 4)})
		}),
	} {
		if _, err := New().Verify(t.Context(), artifact(b), s.Trust()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestList(t *testing.T) {
	var got []format.Entry
	err := New().(format.Lister).List(t.Context(), artifact(small("kernel")), func(e format.Entry) error { got = append(got, e); return nil })
	want := sha256.Sum256([]byte("kernel"))
	if err != nil || len(got) != 1 || got[0].Name != "k" || got[0].Size != 6 || !bytes.Equal(got[0].Digest, want[:]) || len(got[0].Facts) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	stop := errors.New("enough")
	if err := New().(format.Lister).List(t.Context(), artifact(small("kernel")), func(format.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestSchemes(t *testing.T) {
	for _, s := range []*formattest.Signer{formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P384), formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPKCS1SHA512)} {
		if _, err := sign(t, small("kernel"), s, dev); err == nil {
			t.Errorf("%s with SHA-256 is signed", s.Scheme)
		}
	}
}

func FuzzTree(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	good := small("kernel")
	signed, err := sign(f, good, s, dev)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{good, signed, secondRoot(good)} {
		f.Add(b)
	}
	stem := []byte("kernel")
	f.Fuzz(func(t *testing.T, b []byte) {
		a := artifact(b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if tr, err := open(a); err == nil {
			again, err := parseTree(format.BytesArtifact("", tr.body().Tree), 0, int64(len(tr.body().Tree)), tr.strings)
			if err != nil || !bytes.Equal(append(again.skeleton(nil), 0, 0, 0, tokenLast), tr.body().Tree) {
				t.Errorf("the tree does not re-encode to itself: %v", err)
			}
		}
		if p, err := New().Plan(t.Context(), a, format.Params{"key-name": "dev", "replace": "true"}); err == nil {
			if _, err := New().Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Errorf("a plan that is not assembled: %v", err)
			}
		}
		if _, err := New().Verify(t.Context(), a, s.Trust()); err == nil && !bytes.Contains(b, stem) {
			t.Errorf("accepted: %x", b)
		}
	})
}
