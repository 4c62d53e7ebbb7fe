package statement

import (
	"bytes"
	"encoding/base64"
)

// decodePlain reads the envelopes that there are: one signature, and a key ID in
// which JSON escapes nothing. Such an envelope is five fixed strings around four
// values, so that it is read without a JSON decoder and needs no comparison with
// its encoding. It returns nil for everything else, which is decodeJSON's to take
// or to refuse; a fuzz target holds the two against each other.
func decodePlain(b []byte) *Envelope {
	s := &scanner{b: b}
	s.literal(`{"payload":`)
	payload := s.base64(MaxPayload)
	s.literal(`,"payloadType":"` + PayloadType + `","signatures":[{"keyid":`)
	keyID := s.quoted()
	s.literal(`,"sig":`)
	sig := s.base64(MaxSignature)
	s.literal(`}]}`)
	if s.bad || len(s.b) != 0 || len(keyID) == 0 || len(sig) == 0 {
		return nil
	}
	for _, c := range keyID {
		if c < 0x20 || c > 0x7e || c == '\\' {
			return nil
		}
	}
	return &Envelope{Payload: payload, Signatures: []Signature{{string(keyID), sig}}}
}

type scanner struct {
	b   []byte
	bad bool
}

func (s *scanner) literal(l string) {
	if s.bad || len(s.b) < len(l) || string(s.b[:len(l)]) != l {
		s.bad = true
		return
	}
	s.b = s.b[len(l):]
}

// quoted takes a string up to the next quotation mark.
func (s *scanner) quoted() []byte {
	s.literal(`"`)
	end := bytes.IndexByte(s.b, '"')
	if s.bad || end < 0 {
		s.bad = true
		return nil
	}
	v := s.b[:end]
	s.b = s.b[end+1:]
	return v
}

func (s *scanner) base64(limit int) []byte {
	v := s.quoted()
	// encoding/base64 skips line breaks, wherever they are.
	if s.bad || bytes.ContainsAny(v, "\r\n") {
		s.bad = true
		return nil
	}
	out, err := base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(v))), v)
	if err != nil || len(out) > limit {
		s.bad = true
		return nil
	}
	return out
}
