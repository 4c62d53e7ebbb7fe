package apk

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxManifest limits AndroidManifest.xml, in bytes.
const maxManifest = 16 << 20

// manifest is what AndroidManifest.xml says of a package.
type manifest struct {
	Package     string
	VersionName string // empty when it is a resource
	VersionCode uint64
	MinSDK      int // 1 when nothing is said
	TargetSDK   int // MinSDK when nothing is said
	Debuggable  bool
	Sandbox     int // targetSandboxVersion

	Permissions []string // that it uses
	Declares    []string // that it declares
	Features    []string // that it requires
	Exported    []string // components that others may call, as KIND NAME
	Application string   // the class that runs first
	SharedUser  string
	TestOnly    bool
	Cleartext   bool
	Backup      bool
}

// Chunk types of binary XML, and identifiers of attributes in the framework.
const (
	resStrings = 0x0001
	resXML     = 0x0003
	resMap     = 0x0180
	resStart   = 0x0102
	resEnd     = 0x0103

	attrDebuggable  = 0x0101000f
	attrMinSDK      = 0x0101020c
	attrVersionCode = 0x0101021b
	attrVersionName = 0x0101021c
	attrTargetSDK   = 0x01010270
	attrSandbox     = 0x0101054c
	attrCodeMajor   = 0x01010576
	attrName        = 0x01010003
	attrExported    = 0x01010010
	attrSharedUser  = 0x0101000b
	attrTestOnly    = 0x01010272
	attrBackup      = 0x01010280
	attrRequired    = 0x0101028e
	attrCleartext   = 0x010104ec

	maxListed = 4096 // permissions, and what else is listed

	typeString = 0x03
	typeFirst  = 0x10 // the first kind of number
	typeLast   = 0x1f
)

// pool is a string pool: decoded when asked, since most strings are not.
type pool struct {
	offsets []byte
	data    []byte
	utf8    bool
}

func (p *pool) get(i uint32) (string, bool) {
	if uint64(i)*4+4 > uint64(len(p.offsets)) {
		return "", false
	}
	at := le.Uint32(p.offsets[i*4:])
	if uint64(at) >= uint64(len(p.data)) {
		return "", false
	}
	b := p.data[at:]
	if p.utf8 {
		if _, b = length8(b); b == nil { // in UTF-16 units
			return "", false
		}
		n, b := length8(b)
		if b == nil || n > len(b) || n > 1<<16 {
			return "", false
		}
		return string(b[:n]), utf8.Valid(b[:n])
	}
	if len(b) < 2 {
		return "", false
	}
	n := int(le.Uint16(b))
	b = b[2:]
	if n&0x8000 != 0 {
		if len(b) < 2 {
			return "", false
		}
		n, b = (n&0x7fff)<<16|int(le.Uint16(b)), b[2:]
	}
	if n > len(b)/2 || n > 1<<16 {
		return "", false
	}
	units := make([]uint16, n)
	for k := range units {
		units[k] = le.Uint16(b[2*k:])
	}
	return string(utf16.Decode(units)), true
}

// length8 reads a length of one or two bytes; nil when it is cut off.
func length8(b []byte) (int, []byte) {
	switch {
	case len(b) < 1:
		return 0, nil
	case b[0]&0x80 == 0:
		return int(b[0]), b[1:]
	case len(b) < 2:
		return 0, nil
	}
	return int(b[0]&0x7f)<<8 | int(b[1]), b[2:]
}

// resChunk splits off one chunk: header and body.
func resChunk(b []byte) (typ uint16, header, body, rest []byte, ok bool) {
	if len(b) < 8 {
		return 0, nil, nil, nil, false
	}
	typ = le.Uint16(b)
	head, size := uint32(le.Uint16(b[2:])), le.Uint32(b[4:])
	if head < 8 || size < head || uint64(size) > uint64(len(b)) {
		return 0, nil, nil, nil, false
	}
	return typ, b[:head], b[head:size], b[size:], true
}

func parsePool(head, whole []byte) (*pool, bool) {
	if len(head) < 28 {
		return nil, false
	}
	count, flags, start := le.Uint32(head[8:]), le.Uint32(head[16:]), le.Uint32(head[20:])
	if uint64(count)*4 > uint64(len(whole)-len(head)) || uint64(start) > uint64(len(whole)) {
		return nil, false
	}
	return &pool{offsets: whole[len(head):][:4*count], data: whole[start:], utf8: flags&(1<<8) != 0}, true
}

// parseManifest reads the binary XML of AndroidManifest.xml as far as is needed:
// attributes of manifest, uses-sdk and application. Attributes are known by their
// number, as the platform knows them, and count once.
func parseManifest(b []byte) (*manifest, error) {
	bad := func(what string) (*manifest, error) { return nil, malformed("AndroidManifest.xml: %s", what) }
	typ, _, body, rest, ok := resChunk(b)
	if !ok || typ != resXML || len(rest) > 3 {
		return bad("not binary XML")
	}
	var strings *pool
	var ids []byte
	m := &manifest{MinSDK: 1}
	target := -1
	depth, roots, applications, uses := 0, 0, 0, 0
	for len(body) > 0 {
		all := body
		typ, head, content, next, ok := resChunk(body)
		if !ok {
			return bad("a part is cut off")
		}
		body = next
		switch typ {
		case resStrings:
			if strings != nil {
				return bad("two string pools")
			}
			if strings, ok = parsePool(head, all[:len(head)+len(content)]); !ok {
				return bad("string pool")
			}
		case resMap:
			ids = content
		case resEnd:
			if depth--; depth < 0 {
				return bad("an element ends that did not begin")
			}
		case resStart:
			depth++
			if strings == nil || depth > 1000 {
				return bad("elements without strings, or nested too deeply")
			}
			element, attrs, ok := startElement(strings, ids, content)
			if !ok {
				return bad("element")
			}
			path := strconv.Itoa(depth) + element
			switch path {
			case "1manifest":
				roots++
				m.Package = attrs.text("package", 0)
				m.VersionName = attrs.text("", attrVersionName)
				code, _ := attrs.number(attrVersionCode)
				major, _ := attrs.number(attrCodeMajor)
				m.VersionCode = uint64(major)<<32 | uint64(code)
				m.SharedUser = attrs.text("", attrSharedUser)
				sandbox, _ := attrs.number(attrSandbox)
				m.Sandbox = int(sandbox)
			case "2uses-sdk":
				if uses++; uses > 1 {
					return bad("two uses-sdk elements") // readers differ in which one counts
				}
				v, err := attrs.sdk(attrMinSDK)
				if err != nil {
					return nil, err
				}
				if v >= 0 {
					m.MinSDK = v
				}
				if v, err = attrs.sdk(attrTargetSDK); err != nil {
					return nil, err
				}
				if v >= 0 {
					target = v
				}
			case "2application":
				applications++
				v, _ := attrs.number(attrDebuggable)
				m.Debuggable = v != 0
				m.Application = attrs.text("", attrName)
				m.TestOnly, m.Cleartext, m.Backup = attrs.is(attrTestOnly), attrs.is(attrCleartext), attrs.is(attrBackup)
			case "2uses-permission", "2uses-permission-sdk-23", "2uses-permission-sdk-m":
				m.Permissions = listed(m.Permissions, attrs.text("", attrName))
			case "2permission":
				m.Declares = listed(m.Declares, attrs.text("", attrName))
			case "2uses-feature":
				if v, there := attrs.number(attrRequired); !there || v != 0 {
					m.Features = listed(m.Features, attrs.text("", attrName))
				}
			case "3activity", "3activity-alias", "3service", "3receiver", "3provider":
				if attrs.is(attrExported) {
					m.Exported = listed(m.Exported, element+" "+attrs.text("", attrName))
				}
			}
		}
	}
	if roots != 1 || depth != 0 || m.Package == "" || applications > 1 {
		return bad("no manifest element with a package name, or parts that do not fit")
	}
	if m.TargetSDK = target; target < 0 {
		m.TargetSDK = m.MinSDK
	}
	return m, nil
}

// attribute is one attribute of an element.
type attribute struct {
	id    uint32 // 0 when the framework has no number for it
	name  string
	plain bool // in no namespace
	typ   byte
	data  uint32
	s     string // of a string
}

// attributeKey is what an attribute is known by; it is plain for all numbers.
type attributeKey struct {
	id    uint32
	name  string
	plain bool
}

// noString is the number of no string.
const noString = 0xffffffff

type attributes []attribute

func startElement(p *pool, ids, b []byte) (string, attributes, bool) {
	if len(b) < 20 {
		return "", nil, false
	}
	name, ok := p.get(le.Uint32(b[4:]))
	start, size, count := int(le.Uint16(b[8:])), int(le.Uint16(b[10:])), int(le.Uint16(b[12:]))
	if !ok || size < 20 || start+size*count > len(b) {
		return "", nil, false
	}
	var out attributes
	seen := make(map[attributeKey]bool, count)
	for i := range count {
		a := b[start+i*size:]
		k := le.Uint32(a[4:])
		x := attribute{typ: a[15], data: le.Uint32(a[16:]), plain: le.Uint32(a) == noString}
		if uint64(k)*4+4 <= uint64(len(ids)) {
			x.id = le.Uint32(ids[k*4:])
		}
		if x.id == 0 {
			if x.name, ok = p.get(k); !ok {
				return "", nil, false
			}
		}
		if x.typ == typeString {
			if x.s, ok = p.get(x.data); !ok {
				return "", nil, false
			}
			// The text as it was written: the platform takes names from there.
			if raw := le.Uint32(a[8:]); raw != x.data && raw != noString {
				return "", nil, false
			}
		}
		// Readers differ in which one of two counts.
		key := attributeKey{x.id, x.name, x.plain || x.id != 0}
		if seen[key] {
			return "", nil, false
		}
		seen[key] = true
		out = append(out, x)
	}
	return name, out, true
}

func (as attributes) find(name string, id uint32) (attribute, bool) {
	for _, a := range as {
		if a.id == id && (id != 0 || a.plain && a.name == name) {
			return a, true
		}
	}
	return attribute{}, false
}

func (as attributes) text(name string, id uint32) string {
	a, _ := as.find(name, id)
	return a.s
}

func (as attributes) number(id uint32) (uint32, bool) {
	a, ok := as.find("", id)
	return a.data, ok && a.typ >= typeFirst && a.typ <= typeLast
}

func (as attributes) is(id uint32) bool {
	v, _ := as.number(id)
	return v != 0
}

// listed adds a name, up to a limit that no honest manifest comes near.
func listed(l []string, name string) []string {
	if name == "" || len(l) == maxListed {
		return l
	}
	return append(l, name)
}

// sdk reads a version of the platform: a number, or the code name of one that was not
// finished, which counts as later than all. -1 when there is none.
func (as attributes) sdk(id uint32) (int, error) {
	a, ok := as.find("", id)
	switch {
	case !ok:
		return -1, nil
	case a.typ == typeString:
		if n, err := strconv.Atoi(a.s); err == nil && n >= 0 && n < maxSDK {
			return n, nil
		}
		return unfinishedSDK, nil
	case a.typ >= typeFirst && a.typ <= typeLast && a.data < maxSDK:
		return int(a.data), nil
	}
	return 0, malformed("AndroidManifest.xml: a platform version that is a resource or out of range")
}

const (
	maxSDK        = 1<<31 - 1
	unfinishedSDK = 10000 // as the platform numbers them
)
