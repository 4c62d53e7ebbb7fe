package fit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/md5"  // U-Boot checks every digest of an image, weak ones too
	"crypto/sha1" // beside the SHA-2 one that is wanted
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

const (
	imagesPath  = "/images"
	configsPath = "/configurations"

	maxConfigs  = 256
	maxHashed   = 100      // IMAGE_MAX_HASHED_NODES
	maxMessages = 16 << 20 // bytes of all configurations' messages together
)

// tree is a FIT: the device tree and what follows from it.
type tree struct {
	head    *header // nil for a plan's tree
	root    *node
	strings []byte
	images  []*node
	configs []*config
}

// config is a configuration.
type config struct {
	node   *node
	images []*node
	hashed []string // paths of the nodes that its signature covers
	slot   string   // name of the node that our signature goes to
	fresh  bool     // which is not there yet
	key    string   // the key's name
}

// open reads a file's tree.
func open(a format.Artifact) (*tree, error) {
	h, err := parseHeader(a)
	if err != nil {
		return nil, err
	}
	t := &tree{head: h, strings: make([]byte, h.stringsSize)}
	if err := format.ReadFull(a, t.strings, h.strings); err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	// So that zeros behind cannot be counted among them.
	if n := len(t.strings); n < 2 || t.strings[n-1] != 0 || t.strings[n-2] == 0 {
		return nil, malformed("its strings do not end with one")
	}
	if t.root, err = parseTree(a, reserveEnd, h.structSize, t.strings); err != nil {
		return nil, err
	}
	return t, t.check()
}

// check wants nothing in the tree but images and configurations, each image to be
// in a configuration and to have a digest.
func (t *tree) check() error {
	for _, n := range t.root.children {
		if n.path != imagesPath && n.path != configsPath {
			return malformed("node %s, which nobody signs", n.path)
		}
		for _, p := range n.props {
			if n.path != configsPath || p.name != "default" || !zero(p.pad) {
				return malformed("%s: property %s, which nobody signs", n.path, p.name)
			}
		}
	}
	images, configs := t.root.child("images"), t.root.child("configurations")
	if images == nil || configs == nil || len(configs.children) == 0 {
		return malformed("it has no images or no configurations")
	}
	t.images = images.children
	for _, n := range t.images {
		if err := checkImage(n); err != nil {
			return err
		}
	}
	if len(configs.children) > maxConfigs {
		return malformed("%d configurations: at most %d", len(configs.children), maxConfigs)
	}
	used, byName := map[*node]bool{}, map[string]*node{}
	for _, n := range t.images {
		byName[n.name] = n
	}
	for _, n := range configs.children {
		c, err := t.config(n, byName)
		if err != nil {
			return err
		}
		for _, i := range c.images {
			used[i] = true
		}
		t.configs = append(t.configs, c)
	}
	for _, n := range t.images {
		if !used[n] {
			return malformed("%s is in no configuration: nobody signs it", n.path)
		}
	}
	if d := configs.prop("default"); d != nil && configs.child(configs.text("default")) == nil {
		return malformed("the default is no configuration")
	}
	return nil
}

// checkImage wants digests, one of them SHA-2, and no other nodes but a cipher.
func checkImage(n *node) error {
	strong := false
	for _, c := range n.children {
		if len(c.children) > 0 {
			return malformed("%s has nodes", c.path)
		}
		if c.name == "cipher" {
			continue
		}
		if !strings.HasPrefix(c.name, "hash") {
			return malformed("%s: nodes for digests and ciphers are wanted; signatures of single images are not supported", c.path)
		}
		h := newHash(c.text("algo"))
		if h == nil {
			return malformed("%s: algorithm %.32q", c.path, c.text("algo"))
		}
		if v := c.prop("value"); v == nil || len(v.value) != h.Size() || c.prop("ignore") != nil || c.prop("uboot-ignore") != nil {
			return malformed("%s: want a value and nothing that has it ignored: let mkimage fill it in", c.path)
		}
		strong = strong || strings.HasPrefix(c.text("algo"), "sha") && h.Size() >= 32
	}
	if !strong {
		return malformed("%s has no digest sha256, sha384 or sha512: a signature would not cover its data", n.path)
	}
	return nil
}

func newHash(algo string) hash.Hash {
	switch algo {
	case "sha256":
		return crypto.SHA256.New()
	case "sha384":
		return crypto.SHA384.New()
	case "sha512":
		return crypto.SHA512.New()
	case "sha1":
		return sha1.New()
	case "md5":
		return md5.New()
	case "crc32":
		return crc32.NewIEEE()
	}
	return nil
}

// config finds the images of a configuration as U-Boot does that does not believe
// hashed-nodes: every string of every property may be one.
func (t *tree) config(n *node, images map[string]*node) (*config, error) {
	c := &config{node: n, hashed: []string{"/", n.path}}
	for _, p := range n.props {
		if p.name == "description" || p.name == "compatible" || p.name == "default" {
			continue
		}
		for _, name := range list(p.value) {
			i := images[name]
			if i == nil || slices.Contains(c.images, i) {
				continue
			}
			c.images = append(c.images, i)
			c.hashed = append(c.hashed, i.path)
			for _, s := range i.children {
				c.hashed = append(c.hashed, s.path)
			}
			if len(c.hashed) > maxHashed {
				return nil, malformed("%s covers more than the %d nodes that U-Boot reads", n.path, maxHashed)
			}
		}
	}
	if len(c.images) == 0 {
		return nil, malformed("%s names no image", n.path)
	}
	for _, s := range n.children {
		if !strings.HasPrefix(s.name, "signature") || len(s.children) > 0 {
			return nil, malformed("%s: signatures are wanted in a configuration, nothing else", s.path)
		}
	}
	return c, nil
}

// prepare decides in which node each signature goes. A node that is not there yet
// is added to the tree: its name is signed.
func (t *tree) prepare(o format.Params) error {
	for _, c := range t.configs {
		switch len(c.node.children) {
		case 0:
			c.slot, c.fresh = "signature-1", true
		case 1:
			s := c.node.children[0]
			if c.slot = s.name; s.prop("value") != nil && o["replace"] != "true" {
				return ErrSigned
			}
			c.key = s.text("key-name-hint")
		default:
			return malformed("%s has %d signatures: each covers the names of all: one is supported", c.node.path, len(c.node.children))
		}
		if o["key-name"] != "" {
			c.key = o["key-name"]
		}
		if !keyName(c.key) {
			return fmt.Errorf("fit: key name %.64q: give U-Boot's name of the key as option key-name: letters, digits and ._-", c.key)
		}
	}
	return nil
}

func keyName(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && c != '_' && c != '.' && !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// message is what a configuration's signature covers, with the first n bytes of
// the strings.
func (t *tree) message(c *config, n int) []byte {
	set := map[string]bool{}
	for _, p := range c.hashed {
		set[p] = true
	}
	root := t.root
	if c.fresh {
		root = with(root, c.node, &node{name: c.slot, path: c.node.path + "/" + c.slot})
	}
	b := root.covered(nil, set, 0)
	return append(binary.BigEndian.AppendUint32(b, tokenLast), t.strings[:n]...)
}

// with is a copy of the tree in which one node has one more child.
func with(n, at, child *node) *node {
	c := *n
	c.children = slices.Clone(n.children)
	for i := range c.children {
		c.children[i] = with(c.children[i], at, child)
	}
	if n == at {
		c.children = append(c.children, child)
	}
	return &c
}

// messages are those of all configurations; the strings of a signature that is
// there may be fewer than there are now.
func (t *tree) messages(strings func(*config) (int, error)) ([][]byte, error) {
	var out [][]byte
	total := 0
	for _, c := range t.configs {
		n, err := strings(c)
		if err != nil {
			return nil, err
		}
		m := t.message(c, n)
		if total += len(m); total > maxMessages {
			return nil, malformed("its signatures cover more than %d bytes", maxMessages)
		}
		out = append(out, m)
	}
	return out, nil
}

// toSign are the messages of a tree that is being signed.
func (t *tree) toSign() ([][]byte, error) {
	return t.messages(func(*config) (int, error) { return len(t.strings), nil })
}

// content is the digest by which a tree is known: over all its messages, in order.
func content(h crypto.Hash, messages [][]byte) []byte {
	x := h.New()
	for _, m := range messages {
		x.Write(m)
	}
	return x.Sum(nil)
}

// facts follow from the tree alone.
func (t *tree) facts() []format.Fact {
	var out []format.Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, format.Fact{Name: name, Value: single.Text([]byte(value), 1024)})
		}
	}
	add("description", t.root.text("description"))
	add("default", t.root.child("configurations").text("default"))
	for _, c := range t.configs {
		s := c.node.name
		for _, p := range c.node.props {
			if v := list(p.value); v != nil {
				s += " " + p.name + "=" + strings.Join(v, ",")
			}
		}
		add("configuration", s)
	}
	for _, n := range t.images {
		s := n.name
		for _, p := range []string{"type", "os", "arch", "compression"} {
			if v := n.text(p); v != "" {
				s += " " + v
			}
		}
		for _, c := range n.children {
			if v := c.prop("value"); v != nil {
				s += fmt.Sprintf(" %s=%x", c.text("algo"), v.value)
			}
		}
		add("image", s)
	}
	if n := len(out) - format.MaxFacts; n > 0 {
		out = append(out[:format.MaxFacts-1], format.Fact{Name: "more", Value: fmt.Sprintf("%d configurations and images", n+1)})
	}
	return out
}

// span is where in the file an image's data is.
type span struct{ off, size int64 }

// locate finds an image's data: in the tree or, at data-offset, behind it.
func (t *tree) locate(n *node, size int64) (span, error) {
	number := func(name string) (int64, bool) {
		p := n.prop(name)
		if p == nil || len(p.value) != 4 {
			return 0, false
		}
		return int64(binary.BigEndian.Uint32(p.value)), true
	}
	_, far := number("data-offset")
	switch p := n.prop("data"); {
	case n.prop("data-position") != nil:
		return span{}, malformed("%s: data at a fixed position in the file would not move with the tree", n.path)
	case p != nil && !far && n.prop("data-offset") == nil && n.prop("data-size") == nil:
		return span{p.off, p.size}, nil
	case p != nil || !far:
		return span{}, malformed("%s: want data, or data-offset and data-size", n.path)
	}
	off, _ := number("data-offset")
	length, ok := number("data-size")
	if s := (span{t.head.total + off, length}); ok && t.head.total%4 == 0 && s.off <= size && length <= size-s.off {
		return s, nil
	}
	return span{}, malformed("%s: data behind the tree", n.path)
}

// checkData compares the images with their digests, and wants zeros where nothing
// is: between the data and, unless the tree will be written anew, behind the
// strings, where mkimage leaves pieces of what it moved away.
func (t *tree) checkData(ctx context.Context, a format.Artifact, anew bool) error {
	at, far := t.head.strings+t.head.stringsSize, false
	if err := read(ctx, a, at, t.head.total, nil, !anew); err != nil {
		return err
	}
	at = t.head.total
	type piece struct {
		span
		n *node
	}
	var pieces []piece
	for _, n := range t.images {
		s, err := t.locate(n, a.Size())
		if err != nil {
			return err
		}
		pieces = append(pieces, piece{s, n})
	}
	slices.SortStableFunc(pieces, func(x, y piece) int { return int(min(max(x.off-y.off, -1), 1)) })
	for _, p := range pieces {
		hs := make([]hash.Hash, len(p.n.children))
		for i, c := range p.n.children {
			if c.name != "cipher" {
				hs[i] = newHash(c.text("algo"))
			}
		}
		if p.off >= at { // behind the tree
			if err := read(ctx, a, at, p.off, nil, true); err != nil {
				return err
			}
			at, far = p.off+p.size, true
		} else if p.n.prop("data") == nil {
			return malformed("%s: its data overlaps others'", p.n.path)
		}
		if err := read(ctx, a, p.off, p.off+p.size, hs, false); err != nil {
			return err
		}
		for i, c := range p.n.children {
			if hs[i] != nil && !bytes.Equal(hs[i].Sum(nil), c.prop("value").value) {
				return fmt.Errorf("fit: %s does not have the digest that %s says", p.n.path, c.path)
			}
		}
	}
	// mkimage rounds the size of data behind the tree up.
	if end := a.Size(); !far && end != t.head.total || far && (end-at >= 4096 || end%4 != 0) {
		return malformed("its size: there are %d bytes more than it needs", end-at)
	}
	return read(ctx, a, at, a.Size(), nil, true)
}

// read hands a piece of the file to hashes, or wants it to be zeros.
func read(ctx context.Context, a format.Artifact, from, to int64, hs []hash.Hash, zeros bool) error {
	buf := make([]byte, max(0, min(to-from, 256<<10)))
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), to-from)]
		if err := format.ReadFull(a, b, from); err != nil {
			return fmt.Errorf("fit: %w", err)
		}
		if zeros && !zero(b) {
			return malformed("there are bytes that belong to no image")
		}
		for _, h := range hs {
			if h != nil {
				h.Write(b)
			}
		}
		from += int64(len(b))
	}
	return ctx.Err()
}
