package statement

import (
	"bytes"
	"reflect"
	"testing"
)

// What decodePlain takes, decodeJSON takes, and reads alike.
func FuzzPlainIsJSON(f *testing.F) {
	seeds := []Envelope{
		{Payload: []byte("payload"), Signatures: []Signature{{"ssh:SHA256:x", []byte("signature")}}},
		{Payload: []byte{}, Signatures: []Signature{{"a", []byte{0}}}},
		{Payload: []byte{0xff}, Signatures: []Signature{{"<&>", []byte{0}}, {"b", []byte{1}}}},
	}
	for i, e := range seeds {
		b, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		if plain := decodePlain(b) != nil; plain != (i < 2) {
			f.Fatalf("%s: plain is %v", b, plain)
		}
		f.Add(b)
		f.Add(bytes.Replace(b, []byte(`"keyid":"`), []byte(`"keyid":"\\n`), 1))
		f.Add(bytes.Replace(b, []byte(`"payload":"`), []byte("\"payload\":\"\n"), 1))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := decodePlain(b)
		if p == nil {
			return
		}
		e, err := decodeJSON(b)
		if err != nil || !bytes.Equal(e.Payload, p.Payload) || !reflect.DeepEqual(e.Signatures, p.Signatures) {
			t.Fatalf("%q is plain %+v, in JSON %+v, %v", b, p, e, err)
		}
	})
}
