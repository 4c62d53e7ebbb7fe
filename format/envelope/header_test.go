package envelope

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

func TestHeader(t *testing.T) {
	for text, want := range map[string]map[any]any{ // values as HeaderValue gives them, nil: none that it takes
		"a0":                     {},
		"a10126":                 {int64(1): int64(-7)},
		"a104416b":               {int64(4): []byte("k")},
		"a1617801":               {"x": int64(1)},
		"a12001":                 {int64(-1): int64(1)},
		"a10281f5":               {int64(2): []any{true}},
		"a11823d8206175":         {int64(35): nil}, // x5u has a tag
		"a101f6":                 {int64(1): nil},
		"a101f7":                 {int64(1): nil},
		"a101c426":               {int64(1): nil},
		"a101d9d9f726":           {int64(1): nil},
		"a101c34106":             {int64(1): nil}, // -7 as a bignum
		"a1013806":               {int64(1): nil}, // in two bytes
		"a1011bffffffffffffffff": {int64(1): nil},
		"a101f94000":             {int64(1): nil}, // 2.0
		"a10181f6":               {int64(1): nil},
		"a101a10102":             {int64(1): nil},
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Header(b)
		if err != nil || len(m) != len(want) {
			t.Errorf("%s: %v, %v", text, m, err)
			continue
		}
		for k, v := range want {
			got, err := HeaderValue(m[k])
			if (err == nil) != (v != nil) || !reflect.DeepEqual(got, v) {
				t.Errorf("%s: %v: %v, %v", text, k, got, err)
			}
		}
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"null":               "f6",
		"array":              "820126",
		"tag":                "c4a0",
		"tag of CBOR itself": "d9d9f7a0",
		"longer head":        "b800",
		"longest head":       "bb0000000000000000",
		"long head":          "b8010126",
		"endless":            "bf0126ff",
		"cut off":            "a101",
		"more":               "a000",
		"label twice":        "a201260126",
		"label twice, long":  "a20126180126",
		"long label":         "a1180126",
		"label with a tag":   "a1c40126",
		"label of itself":    "a1d9d9f70126",
		"label of bytes":     "a1410126",
		"label of truth":     "a1f526",
		"label of a list":    "a1810126",
		"label, not UTF-8":   "a161ff26",
		"label of 64 bits":   "a11bffffffffffffffff26",
		"many":               "b9ffff",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := Header(b); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}

// A header that is accepted has no other byte than those of its labels, each in its
// only encoding, and its values.
func FuzzHeader(f *testing.F) {
	for _, text := range []string{"a0", "a10126", "a201260441ff", "a11823d8206175", "c4a0", "a1617881f5"} {
		b, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Header(b)
		if err != nil {
			return
		}
		n := 1
		if len(m) > 23 {
			n = 2
		}
		for k, v := range m {
			label, err := format.Encode(k)
			if err != nil {
				t.Fatal(err)
			}
			n += len(label) + len(v)
			if !bytes.Contains(b, append(label, v...)) {
				t.Fatalf("%x: %v: %x", b, k, v)
			}
			if x, err := HeaderValue(v); err == nil {
				if again, err := format.Encode(x); err != nil || !bytes.Equal(again, v) {
					t.Fatalf("%x: %v: %x is written as %x", b, k, v, again)
				}
			}
		}
		if n != len(b) {
			t.Fatalf("%x has %d bytes, its parts %d", b, len(b), n)
		}
	})
}
