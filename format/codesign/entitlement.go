package codesign

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/plist"
)

// Flags of the main program's segment in a CodeDirectory (cs_blobs.h).
const (
	ExecMain          = 0x1
	execAllowUnsigned = 0x10
	execDebugger      = 0x20
	execJIT           = 0x40
	execSkipLibraries = 0x80
	execLoadHash      = 0x100
	execExecuteHash   = 0x200
)

// entitled are the entitlements that a program's segment flags repeat.
var entitled = map[string]uint64{
	"get-task-allow":                            execAllowUnsigned,
	"run-unsigned-code":                         execAllowUnsigned,
	"com.apple.private.cs.debugger":             execDebugger,
	"dynamic-codesigning":                       execJIT,
	"com.apple.private.skip-library-validation": execSkipLibraries,
	"com.apple.private.amfi.can-load-cdhash":    execLoadHash,
	"com.apple.private.amfi.can-execute-cdhash": execExecuteHash,
}

// ParseEntitlements reads entitlements strictly: a dictionary, without comments,
// which parsers of different parts of a system have ended in different places.
func ParseEntitlements(text []byte) (plist.Dict, error) {
	if len(text) > MaxEntitlements {
		return nil, fmt.Errorf("codesign: entitlements of %d bytes: at most %d", len(text), MaxEntitlements)
	}
	v, err := plist.ParseXML(text, false)
	if err != nil {
		return nil, fmt.Errorf("codesign: entitlements: %w", err)
	}
	d, ok := v.(plist.Dict)
	if !ok {
		return nil, fmt.Errorf("codesign: entitlements: not a dictionary")
	}
	return d, nil
}

// EntitlementsDER gives the second form of entitlements, which newer systems read:
//
//	[APPLICATION 16] { INTEGER 1, Dict }
//	Dict  ::= [16] { SEQUENCE { UTF8String key, value } … }  keys in order of bytes
//	value ::= BOOLEAN | INTEGER | UTF8String | SEQUENCE OF value | Dict
func EntitlementsDER(text []byte) ([]byte, error) {
	d, err := ParseEntitlements(text)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(0x70), func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		addDER(b, d)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("codesign: entitlements: %w", err)
	}
	return der, nil
}

func addDER(b *cryptobyte.Builder, v plist.Value) {
	switch v := v.(type) {
	case bool:
		b.AddASN1Boolean(v)
	case int64:
		b.AddASN1Int64(v)
	case string:
		b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v)) })
	case plist.Array:
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, e := range v {
				addDER(b, e)
			}
		})
	case plist.Dict:
		b.AddASN1(cbasn1.Tag(0xb0), func(b *cryptobyte.Builder) {
			for _, p := range slices.SortedFunc(slices.Values(v), func(x, y plist.Pair) int { return cmp.Compare(x.Key, y.Key) }) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addDER(b, p.Key)
					addDER(b, p.Value)
				})
			}
		})
	default:
		b.SetError(fmt.Errorf("values of type %T have no form in DER", v))
	}
}

// ExecFlags are the flags of a main program with these entitlements.
func ExecFlags(d plist.Dict) uint64 {
	n := uint64(ExecMain)
	for _, p := range d {
		if on, _ := p.Value.(bool); on {
			n |= entitled[p.Key]
		}
	}
	return n
}

// EntitlementFacts shows each entitlement to those who endorse: its key and its
// value, texts as they are and the rest as JSON.
func EntitlementFacts(text []byte) ([]format.Fact, error) {
	d, err := ParseEntitlements(text)
	if err != nil {
		return nil, err
	}
	var out []format.Fact
	for _, p := range d {
		value, err := json.Marshal(plain(p.Value))
		if err != nil {
			return nil, fmt.Errorf("codesign: entitlements: %w", err)
		}
		s := strings.Trim(string(value), `"`)
		if len(p.Key) > 512 || len(s) > 2048 || !printable(p.Key) || !printable(s) {
			return nil, fmt.Errorf("codesign: entitlement %.60q is too long or cannot be shown", p.Key)
		}
		out = append(out, fact("entitlement "+p.Key, s))
	}
	if len(out) > 128 {
		return nil, fmt.Errorf("codesign: %d entitlements: at most 128", len(out))
	}
	return out, nil
}

func plain(v plist.Value) any {
	switch v := v.(type) {
	case plist.Array:
		out := []any{}
		for _, e := range v {
			out = append(out, plain(e))
		}
		return out
	case plist.Dict:
		out := map[string]any{}
		for _, p := range v {
			out[p.Key] = plain(p.Value)
		}
		return out
	case plist.Data:
		return strconv.Quote(string(v))
	}
	return v
}
