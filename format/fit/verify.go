package fit

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// algorithm is U-Boot's name for what a key of kind k signs with; "pss" is a
// property of its own.
func algorithm(k sigalg.Key, s sigalg.Scheme) (string, error) {
	if !s.Fits(k) {
		return "", fmt.Errorf("fit: scheme %q does not fit a key of %s", s, k)
	}
	switch {
	case k == sigalg.RSA3072 || k == sigalg.RSA4096:
		return format.HashName(s.Hash()) + "," + strings.Replace(string(k), "-", "", 1), nil
	case k == sigalg.P256 && s == sigalg.ECDSASHA256:
		return "sha256,ecdsa256", nil
	}
	return "", fmt.Errorf("fit: U-Boot does not verify %s with a key of %s: want RSA, or ECDSA with P-256 and SHA-256", s, k)
}

// toValue is a signature as U-Boot has it: ECDSA's two numbers in 32 bytes each.
func toValue(s sigalg.Scheme, sig []byte) ([]byte, error) {
	if s != sigalg.ECDSASHA256 {
		return sig, nil
	}
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &v); err != nil || v.R.BitLen() > 256 || v.S.BitLen() > 256 || v.R.Sign() <= 0 || v.S.Sign() <= 0 {
		return nil, errors.New("fit: ECDSA signature")
	}
	return append(v.R.FillBytes(make([]byte, 32)), v.S.FillBytes(make([]byte, 32))...), nil
}

// fromValue is the inverse of toValue.
func fromValue(s sigalg.Scheme, v []byte) ([]byte, error) {
	if s != sigalg.ECDSASHA256 {
		return v, nil
	}
	if len(v) != 64 {
		return nil, errors.New("fit: ECDSA signature")
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(v[:32]), new(big.Int).SetBytes(v[32:])})
}

// patch makes the edits: header, signature nodes, strings and padding.
func (t *tree) patch(size int64, algo string, scheme sigalg.Scheme, sigs []format.Signature) (*format.Patch, error) {
	h := *t.head
	strs := slices.Clone(t.strings)
	name := func(s string) uint32 {
		if i := bytes.Index(append([]byte{0}, strs...), []byte("\x00"+s+"\x00")); i >= 0 {
			return uint32(i)
		}
		strs = append(append(strs, s...), 0)
		return uint32(len(strs) - len(s) - 1)
	}
	edits := []format.Edit{{}}
	for i, c := range t.configs {
		value, err := toValue(scheme, sigs[i].Value)
		if err != nil {
			return nil, err
		}
		var b []byte
		add := func(n string, v []byte) { b = appendProp(b, &prop{nameOff: name(n), value: v}) }
		add("algo", []byte(algo+"\x00"))
		add("key-name-hint", []byte(c.key+"\x00"))
		if scheme.PSS() {
			add("padding", []byte("pss\x00"))
		}
		add("value", value)
		add("hashed-nodes", []byte(strings.Join(c.hashed, "\x00")+"\x00"))
		add("hashed-strings", binary.BigEndian.AppendUint32(make([]byte, 4), uint32(len(t.strings))))
		e := format.Edit{Offset: c.node.end, Insert: append(appendBegin(nil, c.slot), appendEnd(b)...)}
		if !c.fresh {
			s := c.node.children[0]
			e = format.Edit{Offset: s.inside, Delete: s.end - s.inside, Insert: b}
		}
		h.structSize += int64(len(e.Insert)) - e.Delete
		edits = append(edits, e)
	}
	// Data behind the tree keeps its alignment.
	align := int64(4)
	for align < 4096 && h.total%(2*align) == 0 {
		align *= 2
	}
	slack := t.head.total - t.head.strings - t.head.stringsSize
	if size == t.head.total {
		align, slack = 4, size-t.head.strings-t.head.stringsSize
	}
	h.strings, h.stringsSize = reserveEnd+h.structSize, int64(len(strs))
	end := h.strings + h.stringsSize
	h.total = (end + align - 1) / align * align
	tail := append(strs[len(t.strings):], make([]byte, h.total-end)...)
	edits[0] = format.Edit{Delete: headerSize, Insert: h.encode()}
	if len(tail) > 0 || slack > 0 {
		edits = append(edits, format.Edit{Offset: t.head.strings + t.head.stringsSize, Delete: slack, Insert: tail})
	}
	return &format.Patch{Size: size, Edits: edits}, nil
}

// signatureProps are those that a signature node may have; the ones that are true
// are neither signed nor checked.
var signatureProps = map[string]bool{
	"algo": false, "padding": false, "value": false, "hashed-nodes": false, "hashed-strings": false,
	"key-name-hint": true, "sign-images": true, "signer-name": true, "signer-version": true, "comment": true, "timestamp": true,
}

// checkSignature reads how many bytes of the strings a signature covers.
func (t *tree) checkSignature(c *config, s *node) (int, error) {
	for _, p := range s.props {
		if _, ok := signatureProps[p.name]; !ok {
			return 0, malformed("%s: property %s, which nobody signs", s.path, p.name)
		}
	}
	if s.prop("key-name-hint") != nil && !keyName(s.text("key-name-hint")) {
		return 0, malformed("%s: key-name-hint", s.path)
	}
	// Older versions of U-Boot believe what hashed-nodes says: it must say what
	// newer ones compute.
	hn := s.prop("hashed-nodes")
	if hn == nil {
		return 0, malformed("%s: no hashed-nodes", s.path)
	}
	got, want := list(hn.value), slices.Clone(c.hashed)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return 0, malformed("%s: hashed-nodes are not those of the configuration's images", s.path)
	}
	hs := s.prop("hashed-strings")
	if hs == nil || len(hs.value) != 8 || !zero(hs.value[:4]) {
		return 0, malformed("%s: hashed-strings", s.path)
	}
	n := binary.BigEndian.Uint32(hs.value[4:])
	if int64(n) > int64(len(t.strings)) {
		return 0, malformed("%s: hashed-strings", s.path)
	}
	// A name beyond what is covered could be another one tomorrow.
	beyond := ""
	var walk func(*node)
	walk = func(x *node) {
		in := slices.Contains(c.hashed, x.path)
		for _, p := range x.props {
			if in && !data[p.name] && int64(p.nameOff)+int64(len(p.name)) >= int64(n) {
				beyond = x.path
			}
		}
		for _, y := range x.children {
			walk(y)
		}
	}
	if walk(t.root); beyond != "" {
		return 0, malformed("%s: the name of a property of %s is not among the strings that are covered", s.path, beyond)
	}
	return int(n), nil
}

// schemeOf is what a key of kind k signed with, by the node's own words.
func schemeOf(s *node, k sigalg.Key) (sigalg.Scheme, error) {
	pss := false
	if p := s.prop("padding"); p != nil {
		switch s.text("padding") {
		case "pss":
			pss = true
		case "pkcs-1.5":
		default:
			return "", malformed("%s: padding", s.path)
		}
	}
	for _, c := range []sigalg.Scheme{
		sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512, sigalg.RSAPSSSHA256, sigalg.RSAPSSSHA384, sigalg.RSAPSSSHA512, sigalg.ECDSASHA256,
	} {
		if a, err := algorithm(k, c); err == nil && a == s.text("algo") && c.PSS() == pss {
			return c, nil
		}
	}
	return "", errors.New("fit: another kind of key")
}

// Verify checks the images' digests and every configuration's signatures.
func (Format) Verify(ctx context.Context, a format.Artifact, trust format.Trust) (*format.Report, error) {
	t, err := open(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: t.all()}
	keys := single.Keys(trust)
	for _, c := range t.configs {
		if len(c.node.children) == 0 {
			return nil, fmt.Errorf("fit: configuration %s: %w", c.node.name, format.ErrUnsigned)
		}
		for _, s := range c.node.children {
			if s.prop("value") == nil {
				return nil, fmt.Errorf("fit: %s: %w", s.path, format.ErrUnsigned)
			}
			n, err := t.checkSignature(c, s)
			if err != nil {
				return nil, err
			}
			m := t.message(c, n)
			pub, tbs, err := single.Key(Name, keys, func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
				scheme, err := schemeOf(s, k)
				if err != nil {
					return format.ToBeSigned{}, nil, err
				}
				v, err := fromValue(scheme, s.prop("value").value)
				return format.ToBeSigned{Scheme: scheme, Message: m}, v, err
			})
			if err != nil {
				return nil, fmt.Errorf("%w: %s", err, s.path)
			}
			info := describe(c, s, len(r.Signatures))
			info.Scheme, info.Key, info.Digest = tbs.Scheme, pub, format.HashName(tbs.Scheme.Hash())
			info.Covers = []string{"configuration " + c.node.name + ", its images and their digests"}
			r.Signatures = append(r.Signatures, info)
		}
	}
	if err := t.checkData(ctx, a, false); err != nil {
		return nil, err
	}
	// All messages together, each with the strings that were there when it was made.
	all, err := t.messages(func(c *config) (int, error) { return t.checkSignature(c, c.node.children[0]) })
	if err != nil {
		return nil, err
	}
	contents := map[crypto.Hash][]byte{}
	for i := range r.Signatures {
		h := r.Signatures[i].Scheme.Hash()
		if contents[h] == nil {
			contents[h] = content(h, all)
		}
		r.Signatures[i].Content = contents[h]
	}
	return r, nil
}

const openPad = "bytes that pad the signature's own properties"

func describe(c *config, s *node, i int) format.SignatureInfo {
	info := format.SignatureInfo{Index: i, Label: "configuration " + c.node.name, Value: s.prop("value").value, Covers: []string{}}
	if len(c.node.path) > 0 && i == 0 {
		info.Open = append(info.Open, "which configuration is the default")
	}
	for _, p := range s.props {
		if len(p.pad) > 0 && !slices.Contains(info.Open, openPad) {
			info.Open = append(info.Open, openPad)
		}
		if signatureProps[p.name] {
			info.Open = append(info.Open, p.name+" of "+s.path)
		}
	}
	for _, n := range []string{"algo", "key-name-hint"} {
		if v := s.text(n); v != "" {
			info.Facts = append(info.Facts, format.Fact{Name: n, Value: single.Text([]byte(v), 256)})
		}
	}
	return info
}

// Inspect says what the tree and its signatures say of themselves.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	t, err := open(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: t.all(), Signatures: []format.SignatureInfo{}}
	for _, c := range t.configs {
		for _, s := range c.node.children {
			if s.prop("value") != nil {
				r.Signatures = append(r.Signatures, describe(c, s, len(r.Signatures)))
			}
		}
	}
	return r, nil
}

// List yields the images, in the tree's order, with what it says of each.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	t, err := open(a)
	if err != nil {
		return err
	}
	for _, n := range t.images {
		s, err := t.locate(n, a.Size())
		if err != nil {
			return err
		}
		h := crypto.SHA256.New()
		if err := read(ctx, a, s.off, s.off+s.size, []hash.Hash{h}, false); err != nil {
			return err
		}
		e := format.Entry{Name: n.name, Size: s.size, Digest: h.Sum(nil)}
		for _, p := range []string{"description", "type", "os", "arch", "compression"} {
			if v := n.text(p); v != "" {
				e.Facts = append(e.Facts, format.Fact{Name: p, Value: single.Text([]byte(v), 1024)})
			}
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}
