package appx

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/opc"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// blockSize is what one digest of the block map is over, in bytes of content.
const blockSize = 64 << 10

// mapped is what the block map says of one file, or will say where it is made anew.
type mapped struct {
	digests []byte // of the blocks, one after the other
	packed  int64  // compressed sizes of the blocks, together
	header  int32  // length of the local header, with name and extra fields
	sizes   int32  // how many blocks tell theirs
	is      bool   // it is in the map; others are covered otherwise
}

// hashMethods are the names that block maps use.
var hashMethods = map[string]crypto.Hash{
	"http://www.w3.org/2001/04/xmlenc#sha256":       crypto.SHA256,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
	"http://www.w3.org/2001/04/xmlenc#sha512":       crypto.SHA512,
}

func badMap(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBlockMap, fmt.Sprintf(f, args...))
}

// placer says where what a block map tells of a file goes. begin is called once, before
// all files.
type placer interface {
	begin(h crypto.Hash) error
	place(name string, size int64) (*mapped, error)
}

// parseBlockMap reads AppxBlockMap.xml, the digests of all contents block by block, in
// one go: nothing of the text is kept.
func parseBlockMap(text []byte, to placer) (crypto.Hash, error) {
	x, err := opc.New("block map", text)
	if err != nil {
		return 0, err
	}
	var h crypto.Hash
	var f *mapped
	for {
		t, more, err := x.Next()
		if err != nil {
			return 0, err
		}
		if !more {
			return h, nil
		}
		switch depth := len(x.Open); {
		case t.Shut:
			if depth == 1 {
				if f != nil && f.sizes != 0 && int(f.sizes) != len(f.digests)/h.Size() {
					return 0, badMap("some blocks have a size and some have none")
				}
				f = nil
			}
		case depth == 1:
			if h = hashMethods[t.Get("HashMethod")]; t.Name != "BlockMap" || h == 0 {
				return 0, badMap("element %.40q, hash method %.80q", t.Name, t.Get("HashMethod"))
			}
			if err := to.begin(h); err != nil {
				return 0, err
			}
		case depth == 2 && t.Name == "File":
			if f, err = readFile(&t, to); err != nil {
				return 0, err
			}
		case depth == 3 && t.Name == "Block" && f != nil:
			if err := f.block(&t, h); err != nil {
				return 0, err
			}
		case strings.Contains(t.Name, ":"): // extensions, which say it once more
		default:
			return 0, badMap("element %.40q is not wanted there", t.Name)
		}
	}
}

// number reads digits alone.
func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 63)
	return n, err == nil && s[0] != '+' && s[0] != '-' && (s[0] != '0' || len(s) == 1)
}

func readFile(t *opc.Tag, to placer) (*mapped, error) {
	name := t.Get("Name")
	size, ok := number(t.Get("Size"))
	header, is := number(t.Get("LfhSize"))
	if !ok || !is || name == "" || header > 1<<17 {
		return nil, badMap("file %.80q", name)
	}
	f, err := to.place(name, size)
	if err != nil {
		return nil, err
	}
	if f.is {
		return nil, badMap("file %.80q stands twice", name)
	}
	f.is, f.header = true, int32(header)
	return f, nil
}

// strict refuses what is not base64's one way to say it.
var strict = base64.StdEncoding.Strict()

func (f *mapped) block(t *opc.Tag, h crypto.Hash) error {
	var text, d [128]byte
	s := t.Get("Hash")
	n, err := 0, error(nil)
	if len(s) <= len(text) {
		n, err = strict.Decode(d[:], text[:copy(text[:], s)])
	}
	if err != nil || n != h.Size() {
		return badMap("digest %.100q", s)
	}
	f.digests = append(f.digests, d[:n]...)
	if s := t.Get("Size"); s != "" {
		n, ok := number(s)
		if !ok || n > 1<<20 {
			return badMap("size %.40q of a block", s)
		}
		f.packed += n
		f.sizes++
	}
	return nil
}

// counter counts what a block map has.
type counter struct {
	seen  map[string]*mapped
	files []*mapped
}

func (c *counter) begin(crypto.Hash) error { return nil }

func (c *counter) place(name string, _ int64) (*mapped, error) {
	f := c.seen[name]
	if f == nil {
		f = &mapped{}
		c.seen[name] = f
		c.files = append(c.files, f)
	}
	return f, nil
}

// sameName compares the name of an entry with one in a block map.
func sameName(entry, mapped string) bool {
	if strings.IndexByte(entry, '%') >= 0 {
		name, ok := mapName(entry)
		return ok && name == mapped
	}
	if len(entry) != len(mapped) {
		return false
	}
	for i := range len(entry) {
		c := entry[i]
		if c == '/' {
			c = '\\'
		}
		if c != mapped[i] {
			return false
		}
	}
	return true
}

// mapName is the name of an entry as block maps and manifests write it: without
// percent signs, and with backslashes.
func mapName(name string) (string, bool) {
	name = strings.ReplaceAll(name, "/", `\`)
	if strings.IndexByte(name, '%') < 0 {
		return name, true
	}
	var b strings.Builder
	for {
		text, rest, more := strings.Cut(name, "%")
		b.WriteString(text)
		if !more {
			return b.String(), true
		}
		if len(rest) < 2 {
			return "", false
		}
		c, err := strconv.ParseUint(rest[:2], 16, 8)
		if err != nil || c < ' ' || c == '/' || c == '\\' {
			return "", false
		}
		b.WriteByte(byte(c))
		name = rest[2:]
	}
}

// checker compares one content with its digests, or collects them where the block map
// is made anew. Of executables it makes the digest for the catalogue, if that is wanted.
// Each worker has one.
type checker struct {
	h     hash.Hash
	image *pe.Digester // nil: no catalogue is made
	i     int          // the entry
	name  string
	f     *mapped
	anew  bool
	want  []byte // what is left of f's digests
	in    int    // bytes of the block so far
	sum   []byte
	found func(i int, image []byte, err error) // what becomes of the image's digest
}

func (c *checker) reset(i int, e *zipfile.Entry, f *mapped) {
	c.i, c.name, c.f, c.want, c.in = i, e.Name, f, f.digests, 0
	c.h.Reset()
	if c.image != nil {
		c.image.Reset(e.Size)
	}
}

func (c *checker) block() error {
	c.sum = c.h.Sum(c.sum[:0])
	if c.anew {
		c.f.digests = append(c.f.digests, c.sum...)
	} else {
		if len(c.want) < len(c.sum) || !bytes.Equal(c.want[:len(c.sum)], c.sum) {
			return badMap("%.80q has another content", c.name)
		}
		c.want = c.want[len(c.sum):]
	}
	c.h.Reset()
	c.in = 0
	return nil
}

// Write takes the next bytes of the content.
func (c *checker) Write(b []byte) (int, error) {
	n := len(b)
	if c.image != nil {
		c.image.Write(b)
	}
	for len(b) > 0 {
		k := min(len(b), blockSize-c.in)
		c.h.Write(b[:k])
		b = b[k:]
		if c.in += k; c.in == blockSize {
			if err := c.block(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Close ends the content.
func (c *checker) Close() error {
	if c.in > 0 {
		if err := c.block(); err != nil {
			return err
		}
	}
	if len(c.want) > 0 {
		return badMap("%.80q has more blocks in it than in the archive", c.name)
	}
	if c.image != nil {
		image, err := c.image.Sum()
		c.found(c.i, image, err)
	}
	return nil
}

// hashHint says what to do about a block map under another hash.
func hashHint(h crypto.Hash) string { return "option digest=" + format.HashName(h) }
