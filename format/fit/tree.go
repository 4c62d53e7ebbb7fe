package fit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read. U-Boot's own are narrower (32 levels, 100 hashed nodes).
const (
	maxSkeleton = 1 << 20 // bytes of the tree without the images' data
	maxNodes    = 4096
	maxProps    = 256 // of one node
	maxDepth    = 8
	maxName     = 190 // bytes of a name; U-Boot compares paths in 200
)

const (
	headerSize = 40
	magic      = 0xd00dfeed
	reserveEnd = headerSize + 16 // one empty entry of the memory reservation block

	tokenBegin = 1
	tokenEnd   = 2
	tokenProp  = 3
	tokenLast  = 9
)

// data are the properties that no signature covers (tools/image-host.c, exc_prop).
// They may stand in the images' own nodes only.
var data = map[string]bool{"data": true, "data-size": true, "data-position": true, "data-offset": true}

// prop is a property; of "data" in an image the value stays in the file.
type prop struct {
	name    string
	nameOff uint32
	value   []byte
	pad     []byte // behind the value; libfdt leaves there what was before
	off     int64  // of an image's data in the file
	size    int64
}

// node is a node of the tree, with the places in the file where its properties
// begin and where its end stands.
type node struct {
	name     string
	path     string
	props    []prop
	children []*node
	inside   int64
	end      int64
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (n *node) prop(name string) *prop {
	for i := range n.props {
		if n.props[i].name == name {
			return &n.props[i]
		}
	}
	return nil
}

// text is a property that is one string, or "".
func (n *node) text(name string) string {
	if p := n.prop(name); p != nil {
		if s := list(p.value); len(s) == 1 {
			return s[0]
		}
	}
	return ""
}

// list cuts a value into its strings; nil where it is not made of strings.
func list(v []byte) []string {
	if len(v) == 0 || v[len(v)-1] != 0 {
		return nil
	}
	return strings.Split(string(v[:len(v)-1]), "\x00")
}

// header is what of a tree's header may vary (Devicetree Specification, 5.2).
type header struct{ total, strings, stringsSize, structSize int64 }

func parseHeader(a format.Artifact) (*header, error) {
	if a.Size() < reserveEnd {
		return nil, ErrNotFIT
	}
	b := make([]byte, reserveEnd)
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	u := func(i int) int64 { return int64(binary.BigEndian.Uint32(b[i:])) }
	if u(0) != magic {
		return nil, ErrNotFIT
	}
	h := &header{total: u(4), strings: u(12), stringsSize: u(32), structSize: u(36)}
	// The header is not signed: what could be otherwise is refused.
	if !bytes.Equal(b, append(h.encode(), make([]byte, 16)...)) {
		return nil, malformed("its header is not that of version 17 with an empty memory reservation")
	}
	switch {
	case h.total > a.Size() || h.structSize%4 != 0 || h.strings != reserveEnd+h.structSize:
		return nil, malformed("its blocks are not packed behind each other")
	case h.stringsSize > h.total-h.strings || h.stringsSize > maxSkeleton:
		return nil, malformed("size of its strings")
	}
	return h, nil
}

func (h *header) encode() []byte {
	var b []byte
	for _, v := range []int64{magic, h.total, reserveEnd, h.strings, headerSize, 17, 16, 0, h.stringsSize, h.structSize} {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return b
}

func malformed(s string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(s, args...))
}

// parser walks the structure block through a small window.
type parser struct {
	a       format.Artifact
	at, end int64
	window  []byte
	from    int64
	strings []byte
	nodes   int
	bytes   int64 // of the skeleton
}

const windowSize = 4096

// take reads n bytes of the skeleton.
func (p *parser) take(n int64) ([]byte, error) {
	if n < 0 || n > p.end-p.at {
		return nil, malformed("its structure is cut")
	}
	if p.bytes += n; p.bytes > maxSkeleton {
		return nil, malformed("more than %d bytes besides the images", maxSkeleton)
	}
	if p.at < p.from || p.at+n > p.from+int64(len(p.window)) {
		p.from = p.at
		p.window = make([]byte, min(max(n, windowSize), p.end-p.at))
		if err := format.ReadFull(p.a, p.window, p.at); err != nil {
			return nil, fmt.Errorf("fit: %w", err)
		}
	}
	b := p.window[p.at-p.from:][:n:n]
	p.at += n
	return b, nil
}

func (p *parser) word() (uint32, error) {
	b, err := p.take(4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// align wants zeros up to a multiple of four.
func (p *parser) align(n int64) error {
	b, err := p.take(-n & 3)
	if err == nil && !zero(b) {
		err = malformed("its padding is not zero")
	}
	return err
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// parseTree reads the structure block of size bytes at off, but for images' data.
func parseTree(a format.Artifact, off, size int64, strs []byte) (*node, error) {
	p := &parser{a: a, at: off, end: off + size, strings: strs}
	if t, err := p.word(); err != nil || t != tokenBegin {
		return nil, malformed("it does not begin with a node: %v", err)
	}
	root, err := p.node("", 0)
	if err != nil {
		return nil, err
	}
	if t, err := p.word(); err != nil || t != tokenLast || p.at != p.end {
		return nil, malformed("there is something behind the root node")
	}
	return root, nil
}

// node reads what follows a BEGIN_NODE token.
func (p *parser) node(parent string, depth int) (*node, error) {
	if p.nodes++; p.nodes > maxNodes || depth > maxDepth {
		return nil, malformed("too many nodes")
	}
	n := &node{}
	for done := false; !done; {
		b, err := p.take(4)
		if err != nil {
			return nil, err
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			if done = true; !zero(b[i:]) {
				return nil, malformed("its padding is not zero")
			}
			b = b[:i]
		}
		if n.name += string(b); len(n.name) > maxName {
			return nil, malformed("node %.64q: length of its name", n.name)
		}
	}
	if err := n.checkName(parent, depth); err != nil {
		return nil, err
	}
	n.inside = p.at
	for {
		at := p.at
		t, err := p.word()
		if err != nil {
			return nil, err
		}
		switch t {
		case tokenProp:
			if len(n.children) > 0 {
				return nil, malformed("%s: a property stands behind a node", n.path)
			}
			if err := p.prop(n, depth); err != nil {
				return nil, err
			}
		case tokenBegin:
			c, err := p.node(n.path, depth+1)
			if err != nil {
				return nil, err
			}
			if n.child(c.name) != nil {
				return nil, malformed("%s stands twice", c.path)
			}
			n.children = append(n.children, c)
		case tokenEnd:
			n.end = at
			return n, nil
		default:
			return nil, malformed("token %d in node %s", t, n.path)
		}
	}
}

// checkName refuses names that readers of trees may find by another name: a unit
// address ("kernel@1" answers to "kernel", CVE-2021-27138) and slashes.
func (n *node) checkName(parent string, depth int) error {
	if depth == 0 {
		if n.name != "" {
			return malformed("the root node has a name")
		}
		n.path = "/"
		return nil
	}
	for _, c := range []byte(n.name) {
		if c != '-' && c != '_' && c != '.' && c != ',' && c != '+' && !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return malformed("node %.64q: a name holds letters, digits and ,._+- only", n.name)
		}
	}
	n.path = strings.TrimSuffix(parent, "/") + "/" + n.name
	if n.name == "" || len(n.path) > maxName {
		return malformed("node %.64q: length of its name", n.path)
	}
	return nil
}

func (p *parser) prop(n *node, depth int) error {
	b, err := p.take(8)
	if err != nil {
		return err
	}
	size, off := int64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
	if int64(off) >= int64(len(p.strings)) {
		return malformed("name of a property of %s", n.path)
	}
	// A short window: names may be suffixes of each other, and each is kept.
	name, _, ok := bytes.Cut(p.strings[off:min(int64(off)+maxName+1, int64(len(p.strings)))], []byte{0})
	if !ok || len(name) == 0 {
		return malformed("name of a property of %s", n.path)
	}
	if len(n.props) == maxProps {
		return malformed("%s has more than %d properties", n.path, maxProps)
	}
	if n.prop(string(name)) != nil {
		return malformed("%s: property %s stands twice", n.path, name)
	}
	v := prop{name: string(name), nameOff: off, off: p.at, size: size}
	image := depth == 2 && strings.HasPrefix(n.path, imagesPath+"/")
	switch {
	case data[v.name] && !image:
		return malformed("%s: property %s, which nobody signs there", n.path, name)
	case v.name == "data":
		if size > p.end-p.at {
			return malformed("%s: data", n.path)
		}
		p.at += size
	default:
		if v.value, err = p.take(size); err != nil {
			return err
		}
	}
	if v.name == "data" {
		err = p.align(size)
	} else {
		v.pad, err = p.take(-size & 3)
	}
	n.props = append(n.props, v)
	return err
}

// The structure block is written back from its parts.

func appendBegin(b []byte, name string) []byte {
	b = binary.BigEndian.AppendUint32(b, tokenBegin)
	return pad(append(append(b, name...), 0))
}

func appendProp(b []byte, p *prop) []byte {
	b = binary.BigEndian.AppendUint32(b, tokenProp)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.value)))
	b = binary.BigEndian.AppendUint32(b, p.nameOff)
	return pad(append(append(b, p.value...), p.pad...))
}

func appendEnd(b []byte) []byte { return binary.BigEndian.AppendUint32(b, tokenEnd) }

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// skeleton appends the node without the images' data: what a plan holds.
func (n *node) skeleton(b []byte) []byte {
	b = appendBegin(b, n.name)
	for i := range n.props {
		if !data[n.props[i].name] {
			b = appendProp(b, &n.props[i])
		}
	}
	for _, c := range n.children {
		b = c.skeleton(b)
	}
	return appendEnd(b)
}

// covered appends what a signature covers of the node (boot/fdt_region.c): of a
// node in set all but data, of its children begin and end, of others nothing. want
// is 2 for a node in set, 1 for the child of one.
func (n *node) covered(b []byte, set map[string]bool, want int) []byte {
	if set[n.path] {
		want = 2
	}
	if want > 0 {
		b = appendBegin(b, n.name)
	}
	for i := range n.props {
		if want == 2 && !data[n.props[i].name] {
			b = appendProp(b, &n.props[i])
		}
	}
	for _, c := range n.children {
		b = c.covered(b, set, max(want-1, 0))
	}
	if want > 0 {
		b = appendEnd(b)
	}
	return b
}
