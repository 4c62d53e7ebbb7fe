package jws

import (
	"bytes"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Limits.
const (
	MaxMessage = envelope.MaxContent/3*4 + 1<<20 // bytes
	MaxHeader  = 256 << 10                       // bytes of one protected header
	MaxSigners = 16
	maxText    = 1024
)

// ErrMalformed is wrapped for what is no acceptable JWS.
var ErrMalformed = errors.New("jws: malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// algorithms are the names that are written (first of a scheme) and read: RFC
// 7518, RFC 8037, RFC 9864, and RFC 9964 for ML-DSA.
var algorithms = []struct {
	name   string
	scheme sigalg.Scheme
}{
	{"ES256", sigalg.ECDSASHA256}, {"ES384", sigalg.ECDSASHA384},
	{"RS256", sigalg.RSAPKCS1SHA256}, {"RS384", sigalg.RSAPKCS1SHA384}, {"RS512", sigalg.RSAPKCS1SHA512},
	{"PS256", sigalg.RSAPSSSHA256}, {"PS384", sigalg.RSAPSSSHA384}, {"PS512", sigalg.RSAPSSSHA512},
	{"EdDSA", sigalg.PureEd25519}, {"Ed25519", sigalg.PureEd25519},
	{"ML-DSA-65", sigalg.PureMLDSA65}, {"ML-DSA-87", sigalg.PureMLDSA87},
}

func algorithm(s sigalg.Scheme) (string, error) {
	for _, a := range algorithms {
		if a.scheme == s {
			return a.name, nil
		}
	}
	return "", fmt.Errorf("jws: no algorithm for scheme %s", s)
}

func schemeOf(name string) (sigalg.Scheme, error) {
	for _, a := range algorithms {
		if a.name == name {
			return a.scheme, nil
		}
	}
	return "", malformed("algorithm %.40q is not known", name)
}

var b64 = base64.RawURLEncoding.Strict()

// header is a protected header: members in the order in which they are written.
type header struct {
	Algorithm   string         `json:"alg"`
	Encoded     *bool          `json:"b64,omitempty"`
	Critical    *[]string      `json:"crit,omitempty"`
	ContentType string         `json:"cty,omitempty"`
	KeyID       string         `json:"kid,omitempty"`
	Chain       []string       `json:"x5c,omitempty"`
	Thumb       string         `json:"x5t#S256,omitempty"`
	Others      jsontext.Value `json:",unknown"`
}

// parseHeader reads a protected header: unknown members are allowed unless they
// are critical.
func parseHeader(text string) (*header, error) {
	raw, err := b64.DecodeString(text)
	if err != nil || len(raw) > MaxHeader || strings.ContainsAny(text, "\r\n") {
		return nil, malformed("protected header: want at most %d bytes in base64url", MaxHeader)
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, malformed("protected header: %v", err)
	}
	if err := noNull(raw); err != nil {
		return nil, err
	}
	if _, err := schemeOf(h.Algorithm); err != nil {
		return nil, err
	}
	if h.Critical != nil {
		// What RFC 7515 itself names may not be listed, so that b64 is all there is.
		if len(*h.Critical) != 1 || (*h.Critical)[0] != "b64" {
			return nil, malformed("critical header parameters %.80q: want b64 alone", *h.Critical)
		}
		if h.Encoded == nil {
			return nil, malformed("critical header parameter b64 is not there")
		}
	} else if h.Encoded != nil {
		return nil, malformed("header parameter b64 is not critical")
	}
	return &h, nil
}

// noNull refuses a known member that is null: here that were a missing one, to other
// readers it is not.
func noNull(raw []byte) error {
	var m map[string]jsontext.Value
	if err := json.Unmarshal(raw, &m); err != nil {
		return malformed("protected header: %v", err)
	}
	for _, n := range []string{"alg", "b64", "crit", "cty", "kid", "x5c", "x5t#S256"} {
		if v, there := m[n]; there && v.Kind() == 'n' {
			return malformed("header parameter %s is null", n)
		}
	}
	return nil
}

// plain says that the payload is signed as it is (RFC 7797).
func (h *header) plain() bool { return h.Encoded != nil && !*h.Encoded }

func (h *header) chain() ([][]byte, error) {
	if h.Chain != nil && (len(h.Chain) == 0 || len(h.Chain) > envelope.MaxCertificates) {
		return nil, malformed("%d certificates: want 1 to %d", len(h.Chain), envelope.MaxCertificates)
	}
	var out [][]byte
	for i, c := range h.Chain {
		der, err := base64.StdEncoding.Strict().DecodeString(c)
		if err != nil || strings.ContainsAny(c, "\r\n") {
			return nil, malformed("certificate %d is not base64", i)
		}
		out = append(out, der)
	}
	return out, nil
}

func (h *header) thumb() ([]byte, error) {
	if h.Thumb == "" {
		return nil, nil
	}
	sum, err := b64.DecodeString(h.Thumb)
	if err != nil || len(sum) != 32 || strings.ContainsAny(h.Thumb, "\r\n") {
		return nil, malformed("thumbprint is no SHA-256 in base64url")
	}
	return sum, nil
}

// others names the members that are not known.
func (h *header) others() []string {
	var m map[string]jsontext.Value
	if len(h.Others) == 0 || json.Unmarshal(h.Others, &m) != nil {
		return nil
	}
	var out []string
	for n := range m {
		out = append(out, fmt.Sprintf("%.40q", n))
	}
	slices.Sort(out)
	return out
}

func (h *header) encode() (string, error) {
	raw, err := json.Marshal(h, json.Deterministic(true))
	if err != nil {
		return "", fmt.Errorf("jws: %w", err)
	}
	if len(raw) > MaxHeader {
		return "", fmt.Errorf("jws: header of %d bytes: at most %d", len(raw), MaxHeader)
	}
	return b64.EncodeToString(raw), nil
}

// signer is one signature with its header.
type signer struct {
	protected string // encoded
	header    *header
	keyID     bool // an unsigned header names the key
	value     []byte
}

// message is a JWS in one of its serialisations.
type message struct {
	compact bool
	several bool    // the general JSON serialisation
	payload *string // encoded; nil: detached
	signers []signer
}

// encode writes a message without unprotected headers.
func (m *message) encode() []byte {
	if m.compact {
		p := ""
		if m.payload != nil {
			p = *m.payload
		}
		return []byte(m.signers[0].protected + "." + p + "." + b64.EncodeToString(m.signers[0].value))
	}
	b := []byte{'{'}
	if m.payload != nil {
		b = append(b, `"payload":"`+*m.payload+`",`...)
	}
	one := func(s signer) {
		b = append(b, `"protected":"`+s.protected+`","signature":"`+b64.EncodeToString(s.value)+`"`...)
	}
	if !m.several {
		one(m.signers[0])
		return append(b, '}')
	}
	b = append(b, `"signatures":[`...)
	for i, s := range m.signers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		one(s)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

type wireSigner struct {
	Protected string      `json:"protected"`
	Header    *wireHeader `json:"header"`
	Signature string      `json:"signature"`
}

// wireHeader is what an unsigned header may say.
type wireHeader struct {
	KeyID *string `json:"kid"`
}

type wireMessage struct {
	Payload    *string       `json:"payload"`
	Protected  *string       `json:"protected"`
	Header     *wireHeader   `json:"header"`
	Signature  *string       `json:"signature"`
	Signatures *[]wireSigner `json:"signatures"`
}

// parse reads the compact and the JSON serialisations (RFC 7515 section 7),
// without white space and escapes.
func parse(b []byte) (*message, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("jws: no signature file (%s) was given: %w", Suffix, format.ErrUnsigned)
	case len(b) > MaxMessage:
		return nil, malformed("%d bytes: at most %d", len(b), MaxMessage)
	case b[0] == '{':
		return parseJSON(b)
	}
	parts := strings.Split(string(b), ".")
	if len(parts) != 3 {
		return nil, malformed("want three parts")
	}
	m := &message{compact: true}
	if parts[1] != "" {
		m.payload = &parts[1]
	}
	if err := m.add(parts[0], parts[2], nil); err != nil {
		return nil, err
	}
	return m, m.check()
}

func parseJSON(b []byte) (*message, error) {
	// Strings hold base64url; nothing else needs an escape, and nobody signs it.
	if bytes.ContainsAny(b, "\\ \t\r\n") {
		return nil, malformed("white space or escapes")
	}
	var w wireMessage
	d := jsontext.NewDecoder(bytes.NewReader(b))
	if err := json.UnmarshalDecode(d, &w, json.RejectUnknownMembers(true)); err != nil {
		return nil, malformed("%v", err)
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, malformed("something follows it")
	}
	for d := jsontext.NewDecoder(bytes.NewReader(b)); ; {
		t, err := d.ReadToken()
		if err == io.EOF {
			break
		}
		if err != nil || t.Kind() == 'n' { // which is no missing member
			return nil, malformed("a member is null")
		}
	}
	m := &message{payload: w.Payload}
	if w.Signatures == nil {
		if w.Protected == nil || w.Signature == nil {
			return nil, malformed("want a protected header and a signature")
		}
		if err := m.add(*w.Protected, *w.Signature, w.Header); err != nil {
			return nil, err
		}
		return m, m.check()
	}
	if w.Protected != nil || w.Signature != nil || w.Header != nil {
		return nil, malformed("one signature and several")
	}
	m.several = true
	for i, s := range *w.Signatures {
		if i == MaxSigners {
			return nil, malformed("more than %d signatures", MaxSigners)
		}
		if err := m.add(s.Protected, s.Signature, s.Header); err != nil {
			return nil, fmt.Errorf("signature %d: %w", i, err)
		}
	}
	return m, m.check()
}

func (m *message) add(protected, value string, unsigned *wireHeader) error {
	h, err := parseHeader(protected)
	if err != nil {
		return err
	}
	s := signer{protected: protected, header: h}
	if s.value, err = b64.DecodeString(value); err != nil || len(s.value) == 0 || strings.ContainsAny(value, "\r\n") {
		return malformed("signature is not base64url")
	}
	if unsigned != nil {
		if unsigned.KeyID == nil || h.KeyID != "" {
			return malformed("an unsigned header that says nothing new")
		}
		s.keyID = true
	}
	m.signers = append(m.signers, s)
	return nil
}

// check looks at what the parts of a message say together.
func (m *message) check() error {
	if len(m.signers) == 0 {
		return malformed("nobody signed")
	}
	for _, s := range m.signers[1:] {
		if s.header.plain() != m.signers[0].header.plain() {
			return malformed("signatures over a payload in two encodings")
		}
	}
	if m.payload == nil {
		return nil
	}
	if m.signers[0].header.plain() {
		return malformed("a payload that is not encoded stands beside the message")
	}
	if _, err := b64.DecodeString(*m.payload); err != nil || strings.ContainsAny(*m.payload, "\r\n") {
		return malformed("payload is not base64url")
	}
	return nil
}

// toBeSigned is the JWS Signing Input (RFC 7515 section 5.1, RFC 7797 section 3).
func (s *signer) toBeSigned(content []byte) []byte {
	b := []byte(s.protected + ".")
	if s.header.plain() {
		return append(b, content...)
	}
	return b64.AppendEncode(b, content)
}
