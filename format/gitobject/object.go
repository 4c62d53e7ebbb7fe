package gitobject

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
)

// MaxObject is the most bytes of a commit or tag that is read here. What is signed
// travels in the plan.
const MaxObject = 1 << 20

// The kinds of signature, and how the armour of each begins and ends.
const (
	ssh     = "ssh"
	pgp     = "openpgp"
	x509sig = "x509"

	beginSSH  = "-----BEGIN SSH SIGNATURE-----"
	beginPGP  = "-----BEGIN PGP SIGNATURE-----"
	beginX509 = "-----BEGIN SIGNED MESSAGE-----"
	endX509   = "-----END SIGNED MESSAGE-----"
	// git takes this for a signature too; nothing here makes one.
	beginMessage = "-----BEGIN PGP MESSAGE-----"
)

var errObject = errors.New("gitobject: not a commit or tag")

// object is a commit or a tag, taken apart.
type object struct {
	tag       bool
	payload   []byte // without its signature: what is signed
	signature []byte // armour, or nil
	header    string // of a commit's signature: "gpgsig", or "gpgsig-sha256" where names are SHA-256
	facts     []format.Fact
}

// isSignature says whether a line is where git sees a signature begin.
func isSignature(line []byte) bool {
	for _, b := range []string{beginSSH, beginPGP, beginX509, beginMessage} {
		if bytes.HasPrefix(line, []byte(b)) {
			return true
		}
	}
	return false
}

// parse reads an object strictly: the headers that git writes in their order, others
// after them, one signature or none, and nothing after it.
func parse(b []byte) (*object, error) {
	if len(b) > MaxObject {
		return nil, fmt.Errorf("gitobject: object of %d bytes: at most %d", len(b), MaxObject)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, fmt.Errorf("%w: zero byte", errObject)
	}
	end := bytes.Index(b, []byte("\n\n"))
	if end < 0 {
		return nil, fmt.Errorf("%w: no message", errObject)
	}
	o := &object{tag: bytes.HasPrefix(b, []byte("object "))}
	head, message := b[:end+1], b[end+2:]
	headers, err := o.headers(head)
	if err != nil {
		return nil, err
	}
	if o.tag {
		err = o.tagObject(headers, head, message)
	} else {
		err = o.commit(headers, message)
	}
	return o, err
}

// field is a header with its continuation lines, which begin with a space.
type field struct {
	name, value string
	raw         []byte
}

func (o *object) headers(head []byte) (out []field, err error) {
	for len(head) > 0 {
		i := bytes.IndexByte(head, '\n') + 1
		for i < len(head) && head[i] == ' ' {
			i += bytes.IndexByte(head[i:], '\n') + 1
		}
		raw := head[:i]
		name, value, ok := strings.Cut(strings.TrimSuffix(string(raw), "\n"), " ")
		if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("%w: header %.40q", errObject, raw)
		}
		if isSignature(raw) {
			return nil, fmt.Errorf("%w: signature among the headers", errObject)
		}
		out, head = append(out, field{name, value, raw}), head[i:]
	}
	return out, nil
}

// objectName is the name of an object in lower-case hexadecimal.
func objectName(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// oneLine refuses a value that git wants on one line.
func oneLine(s string) bool { return !strings.Contains(s, "\n") }

func (o *object) fact(name, value string) {
	o.facts = append(o.facts, format.Fact{Name: name, Value: visible(value)})
}

// visible shortens a value for a fact and makes other characters visible.
func visible(s string) string {
	s = strings.Map(func(r rune) rune {
		if format.Turns(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	for len(s) > 1000 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func (o *object) commit(hs []field, message []byte) error {
	o.header = "gpgsig"
	i := 0
	next := func(name string) (string, bool) {
		if i < len(hs) && hs[i].name == name && oneLine(hs[i].value) {
			i++
			return hs[i-1].value, true
		}
		return "", false
	}
	o.fact("object", "commit")
	tree, ok := next("tree")
	if !ok || !objectName(tree) {
		return fmt.Errorf("%w: no tree", errObject)
	}
	if len(tree) == 64 {
		o.header = "gpgsig-sha256"
	}
	o.fact("tree", tree)
	for n := 0; ; n++ {
		p, ok := next("parent")
		if !ok {
			break
		}
		if !objectName(p) || len(p) != len(tree) || n == 100 {
			return fmt.Errorf("%w: parent %.40q", errObject, p)
		}
		o.fact("parent", p)
	}
	for _, who := range []string{"author", "committer"} {
		v, ok := next(who)
		if !ok {
			return fmt.Errorf("%w: no %s", errObject, who)
		}
		o.fact(who, v)
	}
	var payload []byte
	for n, h := range hs {
		if n < i {
			payload = append(payload, h.raw...)
			continue
		}
		switch {
		case h.name == "tree" || h.name == "parent" || h.name == "author" || h.name == "committer":
			return fmt.Errorf("%w: header %s out of place", errObject, h.name)
		case h.name == o.header && o.signature == nil:
			o.signature = []byte(strings.ReplaceAll(h.value, "\n ", "\n") + "\n")
			if !isSignature(o.signature) {
				return fmt.Errorf("%w: header %s holds no signature", errObject, h.name)
			}
		case strings.HasPrefix(h.name, "gpgsig"):
			// git verifies one of them and strips all: the others would be bytes that nobody signed.
			return fmt.Errorf("%w: a second signature", errObject)
		default:
			payload = append(payload, h.raw...)
		}
	}
	o.payload = append(append(payload, '\n'), message...)
	o.subject(message)
	return nil
}

func (o *object) subject(message []byte) {
	line, _, _ := bytes.Cut(message, []byte("\n"))
	o.fact("subject", string(line))
}

func (o *object) tagObject(hs []field, head, message []byte) error {
	names := []string{"object", "type", "tag", "tagger"}
	if len(hs) != len(names) {
		return fmt.Errorf("%w: a tag has the headers object, type, tag and tagger", errObject)
	}
	for i, n := range names {
		if hs[i].name != n || !oneLine(hs[i].value) {
			return fmt.Errorf("%w: no %s", errObject, n)
		}
	}
	if t := hs[1].value; !objectName(hs[0].value) || t != "commit" && t != "tree" && t != "blob" && t != "tag" {
		return fmt.Errorf("%w: tag of %.40q", errObject, hs[0].value)
	}
	o.fact("object", "tag")
	for i, n := range []string{"target", "type", "tag", "tagger"} {
		o.fact(n, hs[i].value)
	}
	// git takes the last line that begins a signature, and all that follows it. One
	// before that would be part of the message to git and a signature to people.
	at, n := -1, 0
	for off := 0; off < len(message); {
		if isSignature(message[off:]) {
			at, n = off, n+1
		}
		i := bytes.IndexByte(message[off:], '\n')
		if i < 0 {
			break
		}
		off += i + 1
	}
	switch {
	case n > 1:
		return fmt.Errorf("%w: a second signature", errObject)
	case n == 1:
		o.signature, message = message[at:], message[:at]
	}
	o.payload = append(append(bytes.Clone(head), '\n'), message...)
	o.subject(message)
	return nil
}

// sign returns where the signature goes in an unsigned object, and what goes there.
func (o *object) sign(armor []byte) (offset int64, insert []byte, err error) {
	if o.tag {
		if !bytes.HasSuffix(o.payload, []byte("\n")) {
			return 0, nil, errors.New("gitobject: a tag's message must end in a line feed to be signed")
		}
		return int64(len(o.payload)), armor, nil
	}
	lines := strings.ReplaceAll(strings.TrimSuffix(string(armor), "\n"), "\n", "\n ")
	return int64(bytes.Index(o.payload, []byte("\n\n")) + 1), []byte(o.header + " " + lines + "\n"), nil
}

// kind is that of the signature, by its armour.
func (o *object) kind() string {
	switch {
	case bytes.HasPrefix(o.signature, []byte(beginSSH)):
		return ssh
	case bytes.HasPrefix(o.signature, []byte(beginPGP)):
		return pgp
	case bytes.HasPrefix(o.signature, []byte(beginX509)):
		return x509sig
	}
	return ""
}
