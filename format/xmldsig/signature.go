package xmldsig

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Names of the specification (XML Signature 1.1, RFC 9231).
const (
	space             = "http://www.w3.org/2000/09/xmldsig#"
	enveloped         = space + "enveloped-signature"
	exclusive         = "http://www.w3.org/2001/10/xml-exc-c14n#"
	exclusiveComments = exclusive + "WithComments"
	inclusive         = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
	inclusiveComments = inclusive + "#WithComments"
	more              = "http://www.w3.org/2001/04/xmldsig-more#"
	enc               = "http://www.w3.org/2001/04/xmlenc#"

	// The whole document is named in two ways: the short one leaves comments out.
	wholeDocument = ""
	withComments  = "#xpointer(/)"
)

var digests = map[string]string{"sha256": enc + "sha256", "sha384": more + "sha384", "sha512": enc + "sha512"}

var schemes = []struct {
	uri    string
	scheme sigalg.Scheme
}{
	{more + "rsa-sha256", sigalg.RSAPKCS1SHA256}, {more + "rsa-sha384", sigalg.RSAPKCS1SHA384}, {more + "rsa-sha512", sigalg.RSAPKCS1SHA512},
	{more + "ecdsa-sha256", sigalg.ECDSASHA256}, {more + "ecdsa-sha384", sigalg.ECDSASHA384},
}

func methodOf(s sigalg.Scheme) (string, error) {
	for _, m := range schemes {
		if m.scheme == s {
			return m.uri, nil
		}
	}
	return "", fmt.Errorf("xmldsig: no algorithm for scheme %s: want RSA with PKCS #1 v1.5 padding, or ECDSA", s)
}

// signedInfo is what is signed, in canonical form; declare adds the namespace,
// which in the document stands in the element around it.
func signedInfo(method, digest string, sum []byte, comments, declare bool) string {
	ns, uri, transform := "", wholeDocument, inclusive
	if declare {
		ns = ` xmlns="` + space + `"`
	}
	if comments {
		uri, transform = withComments, inclusiveComments
	}
	return `<SignedInfo` + ns + `><CanonicalizationMethod Algorithm="` + exclusive + `"></CanonicalizationMethod>` +
		`<SignatureMethod Algorithm="` + method + `"></SignatureMethod>` +
		`<Reference URI="` + uri + `"><Transforms><Transform Algorithm="` + enveloped + `"></Transform><Transform Algorithm="` + transform + `"></Transform></Transforms>` +
		`<DigestMethod Algorithm="` + digests[digest] + `"></DigestMethod><DigestValue>` + base64.StdEncoding.EncodeToString(sum) + `</DigestValue></Reference></SignedInfo>`
}

// node is a piece of a signature element.
type node struct {
	*element
	children []*node
	content  []byte // text, white space between elements included
}

// only says whether the node has no other attributes than this one.
func (n *node) only(attribute string) (string, bool) {
	if len(n.attributes) != 1 || n.attributes[0].space != "" || n.attributes[0].local != attribute {
		return "", false
	}
	return n.attributes[0].value, true
}

// are says whether the children are the named elements of the specification, in
// this order, without text between them.
func (n *node) are(names ...string) bool {
	if len(n.children) != len(names) || len(bytes.TrimSpace(n.content)) > 0 {
		return false
	}
	for i, c := range n.children {
		if c.local != names[i] || c.space != space {
			return false
		}
	}
	return true
}

// base64Text is the text of an element without children.
func (n *node) base64Text() ([]byte, bool) {
	if len(n.children) > 0 || len(n.attributes) > 0 {
		return nil, false
	}
	s := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, string(n.content))
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) > 0
}

// signature is a signature element as read.
type signature struct {
	from, to  int // its bytes in the document
	scheme    sigalg.Scheme
	digest    string
	sum       []byte
	comments  bool
	exclusive bool // the document is canonicalised exclusively
	value     []byte
	certs     [][]byte
	open      []string
}

// interpret accepts one form of signature: over the whole document, by the
// transforms that are written here.
func interpret(n *node) (*signature, error) {
	bad := func(what string) (*signature, error) {
		return nil, fmt.Errorf("%w: signature: %s", ErrMalformed, what)
	}
	s := &signature{}
	if _, id := n.only("Id"); len(n.attributes) > 0 && !id {
		return bad("attributes")
	}
	if !n.are("SignedInfo", "SignatureValue") && !n.are("SignedInfo", "SignatureValue", "KeyInfo") {
		return bad("want SignedInfo, SignatureValue and KeyInfo")
	}
	info := n.children[0]
	if len(info.attributes) > 0 || !info.are("CanonicalizationMethod", "SignatureMethod", "Reference") {
		return bad("SignedInfo: want one reference")
	}
	if a, ok := info.children[0].only("Algorithm"); !ok || a != exclusive || !info.children[0].are() {
		return bad("canonicalisation: want " + exclusive)
	}
	method, ok := info.children[1].only("Algorithm")
	for _, m := range schemes {
		if ok && m.uri == method && info.children[1].are() {
			s.scheme = m.scheme
		}
	}
	if s.scheme == "" {
		return bad(fmt.Sprintf("algorithm %.80q is not accepted", method))
	}
	if what := s.reference(info.children[2]); what != "" {
		return bad(what)
	}
	if s.value, ok = n.children[1].base64Text(); !ok {
		return bad("SignatureValue")
	}
	if len(n.attributes) > 0 {
		s.open = append(s.open, "the signature's Id")
	}
	if len(n.children) == 3 {
		if what := s.keyInfo(n.children[2]); what != "" {
			return bad(what)
		}
	}
	return s, nil
}

func (s *signature) reference(n *node) (problem string) {
	uri, ok := n.only("URI")
	s.comments = uri == withComments
	if !ok || uri != wholeDocument && uri != withComments {
		return "reference: want one to the whole document"
	}
	if !n.are("Transforms", "DigestMethod", "DigestValue") || len(n.children[0].attributes) > 0 || !n.children[0].are("Transform", "Transform") {
		return "reference: want two transforms"
	}
	want := []string{inclusive, exclusive}
	if s.comments {
		want = []string{inclusiveComments, exclusiveComments}
	}
	first, second := n.children[0].children[0], n.children[0].children[1]
	if a, ok := first.only("Algorithm"); !ok || a != enveloped || !first.are() {
		return "first transform: want " + enveloped
	}
	a, ok := second.only("Algorithm")
	if !ok || !slices.Contains(want, a) || !second.are() {
		return fmt.Sprintf("second transform: want one of %q", want)
	}
	s.exclusive = a == want[1]
	method, ok := n.children[1].only("Algorithm")
	for name, u := range digests {
		if ok && u == method && n.children[1].are() {
			s.digest = name
		}
	}
	if s.digest == "" {
		return fmt.Sprintf("digest %.80q is not accepted", method)
	}
	h, _ := format.HashByName(s.digest)
	if s.sum, ok = n.children[2].base64Text(); !ok || len(s.sum) != h.Size() {
		return "DigestValue"
	}
	return ""
}

// keyInfo takes certificates; names and bare keys there count for nothing.
func (s *signature) keyInfo(n *node) (problem string) {
	if len(n.attributes) > 0 || len(bytes.TrimSpace(n.content)) > 0 {
		return "KeyInfo"
	}
	for _, k := range n.children {
		if k.space != space || k.local != "X509Data" {
			s.open = append(s.open, "KeyInfo/"+k.local)
			continue
		}
		for _, c := range k.children {
			if c.space != space || c.local != "X509Certificate" {
				s.open = append(s.open, "X509Data/"+c.local)
				continue
			}
			der, ok := c.base64Text()
			if !ok {
				return "X509Certificate"
			}
			s.certs = append(s.certs, der)
		}
		if len(k.attributes) > 0 || len(bytes.TrimSpace(k.content)) > 0 {
			return "X509Data"
		}
	}
	return ""
}

// reader reads a document: it makes the digest of all but the signature, and
// takes the signature apart.
type reader struct {
	sums     map[string]hash.Hash // by name of the digest
	outer    canon                // of the document
	inner    *canon               // of SignedInfo, while it is read
	signed   bytes.Buffer         // SignedInfo in canonical form
	root     *element
	rootEnd  int  // offset of the root's end tag
	hasNotes bool // there are comments outside the signature
	unused   bool // there are namespace declarations outside it that no name uses
	stack    []*node
	found    *node
	from, to int
}

// read reads b with comments as part of the document, or without, and gives it the
// canonical form that is asked for.
func read(b []byte, comments, exclusive bool, names ...string) (*reader, error) {
	r := &reader{sums: map[string]hash.Hash{}, rootEnd: -1}
	var all multi
	for _, n := range names {
		h, err := format.HashByName(n)
		if err != nil {
			return nil, err
		}
		r.sums[n] = h.New()
		all = append(all, r.sums[n])
	}
	r.outer = canon{w: all, comments: comments, inclusive: !exclusive}
	return r, parse(b, r)
}

// multi writes to several hashes, which do not fail.
type multi []hash.Hash

func (m multi) Write(b []byte) (int, error) {
	for _, h := range m {
		h.Write(b)
	}
	return len(b), nil
}

const maxSignature = 1 << 20 // bytes

func (r *reader) start(e *element) error {
	if r.root == nil {
		r.root = e
	}
	isSignature := e.space == space && e.local == "Signature"
	if len(r.stack) == 0 && isSignature {
		if r.found != nil {
			return fmt.Errorf("%w: more than one signature", ErrMalformed)
		}
		if e.depth != 2 {
			return fmt.Errorf("%w: a signature that is no child of the root element", ErrMalformed)
		}
		r.found = &node{element: e}
		r.stack, r.from = []*node{r.found}, e.from
		return nil
	}
	if len(r.stack) == 0 {
		return r.outer.start(e)
	}
	if e.from-r.from > maxSignature {
		return fmt.Errorf("%w: signature of more than %d bytes", ErrMalformed, maxSignature)
	}
	n := &node{element: e}
	up := r.stack[len(r.stack)-1]
	up.children = append(up.children, n)
	r.stack = append(r.stack, n)
	if isSignature {
		return fmt.Errorf("%w: a signature in a signature", ErrMalformed)
	}
	if len(r.stack) == 2 && len(up.children) == 1 && e.local == "SignedInfo" {
		r.inner = &canon{w: &r.signed}
	}
	if r.inner != nil {
		return r.inner.start(e)
	}
	return nil
}

func (r *reader) end(e *element, from, to int) error {
	if len(r.stack) == 0 {
		r.unused = r.unused || e.declares && len(e.scope.used) < len(e.scope.names)
		if e == r.root {
			r.rootEnd = from
			if from == to {
				r.rootEnd = -1 // no end tag to put a signature before
			}
		}
		return r.outer.end(e, from, to)
	}
	if r.inner != nil {
		if err := r.inner.end(e, from, to); err != nil {
			return err
		}
	}
	if len(r.stack) == 2 {
		r.inner = nil
	}
	if r.stack = r.stack[:len(r.stack)-1]; len(r.stack) == 0 {
		r.to = to
		if r.to-r.from > maxSignature {
			return fmt.Errorf("%w: signature of %d bytes", ErrMalformed, r.to-r.from)
		}
	}
	return nil
}

func (r *reader) text(s []byte) error {
	if len(r.stack) == 0 {
		return r.outer.text(s)
	}
	n := r.stack[len(r.stack)-1]
	if len(n.content)+len(s) > maxSignature {
		return fmt.Errorf("%w: text in the signature", ErrMalformed)
	}
	n.content = append(n.content, s...)
	if r.inner != nil {
		return r.inner.text(s)
	}
	return nil
}

// Between the tags of a signature there is nothing that would split its texts.
func (r *reader) instruction(s []byte, depth int, after bool) error {
	if len(r.stack) > 0 {
		return fmt.Errorf("%w: a processing instruction in the signature", ErrMalformed)
	}
	return r.outer.instruction(s, depth, after)
}

func (r *reader) comment(s []byte, depth int, after bool) error {
	if len(r.stack) > 0 {
		return fmt.Errorf("%w: a comment in the signature", ErrMalformed)
	}
	r.hasNotes = true
	return r.outer.comment(s, depth, after)
}

func (r *reader) sum(name string) []byte { return r.sums[name].Sum(nil) }
