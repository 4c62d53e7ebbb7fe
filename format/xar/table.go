package xar

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/adler32"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// extent is a place in the heap.
type extent struct{ off, size int64 }

func (e extent) end() int64 { return e.off + e.size }

// data is what one file, or an attribute of one, has in the heap.
type data struct {
	extent
	path     string
	size     int64  // when unpacked
	encoding string // "application/x-gzip" …
	style    string // of the digest over what is in the heap
	sum      []byte
	sumNode  *node
	offNode  *node
	ea       bool // an attribute's, not the file's own
}

// table is the XML, understood.
type table struct {
	xml        string
	toc        *node
	checksum   *extent // style is the header's
	rsa, cms   *extent
	style      string
	certs      [][]byte // of the RSA and the CMS signature, which must agree
	files      []*data  // in the order of their places
	signatures int64    // bytes before the data: digest and signatures
}

// signatureElements are those that signing takes out and puts in.
var signatureElements = []string{"checksum", "signature", "x-signature"}

func parseTable(xml string) (*table, error) {
	root, err := parseXML(xml)
	if err != nil {
		return nil, err
	}
	if root.name != "xar" || len(root.kids) == 0 || root.kids[0].name != "toc" || count(root, "toc") != 1 {
		return nil, malformed("table is not one <toc> in <xar>")
	}
	t := &table{xml: xml, toc: root.kids[0]}
	if t.toc.text != "" || t.toc.shut == t.toc.end {
		return nil, malformed("table: <toc> has no place for a digest") // it is a text, or <toc/>
	}
	var spans []extent
	for _, n := range signatureElements {
		k := t.toc.child(n)
		if count(t.toc, n) > 1 {
			return nil, malformed("table: <%s> stands twice", n)
		}
		if k == nil {
			continue
		}
		e, err := place(k, "size")
		if err != nil {
			return nil, err
		}
		spans = append(spans, e)
		switch n {
		case "checksum":
			t.checksum, t.style = &e, k.style()
			continue
		case "signature":
			if k.style() != "RSA" {
				return nil, malformed("table: signature of style %.20q", k.style())
			}
			t.rsa = &e
		case "x-signature":
			if k.style() != "CMS" {
				return nil, malformed("table: signature of style %.20q", k.style())
			}
			t.cms = &e
		}
		if err := t.certificates(k); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(spans, func(a, b extent) int { return int(min(max(a.off-b.off, -1), 1)) })
	for _, s := range spans {
		if s.off != t.signatures || s.size > maxSpace || s.size == 0 {
			return nil, malformed("table: digest and signatures do not follow one another from the start of the heap")
		}
		t.signatures = s.end()
	}
	if err := t.walk(t.toc, "", t.toc.kids); err != nil {
		return nil, err
	}
	slices.SortStableFunc(t.files, func(a, b *data) int {
		if a.off != b.off {
			return int(min(max(a.off-b.off, -1), 1))
		}
		return int(min(max(a.extent.size-b.extent.size, -1), 1))
	})
	return t, nil
}

func count(n *node, name string) int {
	c := 0
	for _, k := range n.kids {
		if k.name == name {
			c++
		}
	}
	return c
}

// number reads a count of bytes in its only form.
func number(n *node) (int64, error) {
	if n == nil {
		return 0, malformed("table: a number is missing")
	}
	v, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil || v < 0 || v > 1<<50 || strconv.FormatInt(v, 10) != n.text {
		return 0, malformed("table: <%s> is %.30q", n.name, n.text)
	}
	return v, nil
}

func place(n *node, size string) (e extent, err error) {
	for _, k := range []string{"offset", size} {
		if count(n, k) != 1 {
			return e, malformed("table: <%s> has no <%s>, or several", n.name, k)
		}
	}
	if e.off, err = number(n.child("offset")); err != nil {
		return e, err
	}
	e.size, err = number(n.child(size))
	return e, err
}

// certificates reads KeyInfo, which the table's digest covers.
func (t *table) certificates(k *node) error {
	info := k.child("KeyInfo")
	if info == nil || info.child("X509Data") == nil {
		return malformed("table: a signature without certificates")
	}
	var certs [][]byte
	for _, c := range info.child("X509Data").kids {
		if c.name != "X509Certificate" || len(certs) == 32 {
			return malformed("table: <%s> in X509Data", c.name)
		}
		der, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(c.text), ""))
		if err != nil {
			return malformed("table: a certificate is not base64")
		}
		certs = append(certs, der)
	}
	if len(certs) == 0 || t.certs != nil && !slices.EqualFunc(t.certs, certs, bytes.Equal) {
		return malformed("table: the signatures do not name the same certificates")
	}
	t.certs = certs
	return nil
}

// walk collects what the elements below have in the heap.
func (t *table) walk(parent *node, path string, kids []*node) error {
	for _, k := range kids {
		if k.name != "file" {
			continue
		}
		if count(k, "name") != 1 || count(k, "data") > 1 {
			return malformed("table: a file without a name, or with two")
		}
		at := path + k.value("name")
		if len(at) > maxPath {
			return malformed("path of %d bytes", len(at))
		}
		for _, d := range k.kids {
			if d.name != "data" && d.name != "ea" {
				continue
			}
			if d.name == "ea" && d.child("offset") == nil {
				continue // names an attribute whose value stands in the element
			}
			if err := t.add(at, d); err != nil {
				return err
			}
		}
		if err := t.walk(k, at+"/", k.kids); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) add(path string, n *node) error {
	e, err := place(n, "length")
	if err != nil {
		return err
	}
	d := &data{extent: e, path: path, ea: n.name == "ea", offNode: n.child("offset"), sumNode: n.child("archived-checksum")}
	if d.size, err = number(n.child("size")); err != nil {
		return err
	}
	if x := n.child("encoding"); x != nil {
		d.encoding = x.style()
	}
	for _, once := range []string{"size", "encoding", "archived-checksum", "extracted-checksum"} {
		if count(n, once) > 1 {
			return malformed("table: <%s> stands twice", once)
		}
	}
	if d.sumNode == nil {
		return malformed("%.100q has data without a digest", path)
	}
	d.style = strings.ToLower(d.sumNode.style())
	d.sum, err = hex.DecodeString(strings.ToLower(d.sumNode.text))
	if h, ok := fileHash(d.style); err != nil || !ok || len(d.sum) != h.Size() {
		return malformed("%.100q has a digest of style %.20q", path, d.style)
	}
	if t.files = append(t.files, d); len(t.files) > maxFiles {
		return malformed("more than %d files", maxFiles)
	}
	return nil
}

func fileHash(style string) (crypto.Hash, bool) {
	switch style {
	case "sha1":
		return crypto.SHA1, true
	case "sha256":
		return crypto.SHA256, true
	case "sha512":
		return crypto.SHA512, true
	}
	return 0, false
}

// edit replaces a part of a text.
type edit struct {
	from, to int
	text     string
}

func rewrite(s string, edits []edit) string {
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out strings.Builder
	at := 0
	for _, e := range edits {
		out.WriteString(s[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.WriteString(s[at:])
	return out.String()
}

// shift gives the edits that move all data by delta bytes.
func (t *table) shift(delta int64) []edit {
	var out []edit
	for _, d := range t.files {
		out = append(out, edit{d.offNode.open, d.offNode.shut, strconv.FormatInt(d.off+delta, 10)})
	}
	return out
}

// bare is the table without digest and signatures, the data at the heap's start,
// with other digests of files where sums has one.
func (t *table) bare(sums map[*data][]byte) string {
	edits := t.shift(-t.signatures)
	for _, name := range signatureElements {
		if k := t.toc.child(name); k != nil {
			from := k.start
			for from > 0 && strings.IndexByte(" \t\r\n", t.xml[from-1]) >= 0 {
				from--
			}
			edits = append(edits, edit{from, k.end, ""})
		}
	}
	for d, sum := range sums {
		edits = append(edits, edit{d.sumNode.start, d.sumNode.end, fmt.Sprintf(`<archived-checksum style="sha256">%x</archived-checksum>`, sum)})
	}
	return rewrite(t.xml, edits)
}

// sign puts digest and signatures into a bare table: space bytes for each.
func (t *table) sign(h crypto.Hash, rsa, cms int64, certs [][]byte) string {
	var b strings.Builder
	at := int64(0)
	element := func(name, style string, size int64, info string) {
		fmt.Fprintf(&b, "\n  <%s style=%q>\n   <offset>%d</offset>\n   <size>%d</size>%s\n  </%s>", name, style, at, size, info, name)
		at += size
	}
	info := "\n   <KeyInfo xmlns=\"http://www.w3.org/2000/09/xmldsig#\">\n    <X509Data>"
	for _, c := range certs {
		info += "\n     <X509Certificate>"
		for text := base64.StdEncoding.EncodeToString(c); text != ""; {
			n := min(len(text), 72)
			info += text[:n] + "\n"
			text = text[n:]
		}
		info += "</X509Certificate>"
	}
	info += "\n    </X509Data>\n   </KeyInfo>"
	element("checksum", format.HashName(h), int64(h.Size()), "")
	if rsa > 0 {
		element("signature", "RSA", rsa, info)
	}
	if cms > 0 {
		element("x-signature", "CMS", cms, info)
	}
	return rewrite(t.xml, append(t.shift(at), edit{t.toc.open, t.toc.open, b.String()}))
}

// store writes a zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4).
func store(s string) []byte {
	b := []byte{0x78, 0x01}
	sum := adler32.Checksum([]byte(s))
	for {
		n := min(len(s), math.MaxUint16)
		last := byte(0)
		if n == len(s) {
			last = 1
		}
		b = append(b, last, byte(n), byte(n>>8), byte(^n), byte(^n>>8))
		b = append(b, s[:n]...)
		if s = s[n:]; last == 1 {
			return be.AppendUint32(b, sum)
		}
	}
}

// inflate reads a zlib stream that has exactly size bytes and nothing after it.
func inflate(b []byte, size int64) (string, error) {
	r := bytes.NewReader(b)
	z, err := zlib.NewReader(r)
	if err != nil {
		return "", malformed("table: %v", err)
	}
	out, err := io.ReadAll(io.LimitReader(z, size+1))
	if err != nil || int64(len(out)) != size || r.Len() != 0 {
		return "", malformed("table is not %d bytes in %d compressed ones: %v", size, len(b), err)
	}
	return string(out), nil
}
