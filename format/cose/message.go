package cose

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Header parameters of the IANA registry.
const (
	labelAlg         = 1
	labelCritical    = 2
	labelContentType = 3
	labelKeyID       = 4
	labelChain       = 33  // RFC 9360
	labelThumb       = 34  // RFC 9360
	labelHashAlg     = 258 // RFC 9995, as the next two
	labelPreimage    = 259
	labelLocation    = 260
)

// Limits.
const (
	MaxMessage = envelope.MaxContent + 512<<10 // bytes
	MaxSigners = 16
	maxText    = 1024
)

// ErrMalformed is wrapped for what is no acceptable COSE message.
var ErrMalformed = errors.New("cose: malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// algorithms are the numbers that are written (first of a scheme) and read. ECDSA
// numbers name one curve here, as RFC 9864 asks for; those of ML-DSA are RFC 9964's.
var algorithms = []struct {
	number int64
	scheme sigalg.Scheme
}{
	{-7, sigalg.ECDSASHA256}, {-9, sigalg.ECDSASHA256},
	{-35, sigalg.ECDSASHA384}, {-51, sigalg.ECDSASHA384},
	{-8, sigalg.PureEd25519}, {-19, sigalg.PureEd25519},
	{-37, sigalg.RSAPSSSHA256}, {-38, sigalg.RSAPSSSHA384}, {-39, sigalg.RSAPSSSHA512},
	{-49, sigalg.PureMLDSA65}, {-50, sigalg.PureMLDSA87},
}

func algorithm(s sigalg.Scheme) (int64, error) {
	for _, a := range algorithms {
		if a.scheme == s {
			return a.number, nil
		}
	}
	return 0, fmt.Errorf("cose: no algorithm for scheme %s: RSA keys sign as rsa-pss-…", s)
}

// hashes are the numbers of hash algorithms (RFC 9054).
var hashes = map[string]int64{"sha256": -16, "sha384": -43, "sha512": -44}

func hashOf(n int64) (crypto.Hash, bool) {
	for name, m := range hashes {
		if m == n {
			h, err := format.HashByName(name)
			return h, err == nil
		}
	}
	return 0, false
}

// header is a header's parameters that this package knows.
type header struct {
	alg         int64
	contentType string
	keyID       []byte
	chain       [][]byte
	thumb       []byte
	hashAlg     int64
	preimage    string
	location    string
	others      []string // labels that are not known
}

// encode is the header's map in deterministic CBOR; an empty one is no bytes (RFC
// 9052 section 3).
func (h *header) encode() ([]byte, error) {
	m := map[int64]any{}
	set := func(label int64, there bool, v any) {
		if there {
			m[label] = v
		}
	}
	set(labelAlg, h.alg != 0, h.alg)
	set(labelContentType, h.contentType != "", h.contentType)
	set(labelKeyID, h.keyID != nil, h.keyID)
	set(labelHashAlg, h.hashAlg != 0, h.hashAlg)
	set(labelPreimage, h.preimage != "", h.preimage)
	set(labelLocation, h.location != "", h.location)
	set(labelThumb, h.thumb != nil, []any{hashes["sha256"], h.thumb})
	if len(h.chain) == 1 {
		m[labelChain] = h.chain[0]
	} else {
		set(labelChain, len(h.chain) > 1, h.chain)
	}
	if len(m) == 0 {
		return []byte{}, nil
	}
	return format.Encode(m)
}

var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// parseHeader reads one map. The parameters of a protected one are all read; of
// one that nobody signed only who signed is of use.
func parseHeader(b []byte, protected bool) (*header, error) {
	h := &header{}
	if protected && len(b) == 0 {
		return h, nil
	}
	m, err := envelope.Header(b)
	if err != nil {
		return nil, malformed("%v", err)
	}
	var critical []any
	for k, raw := range m {
		label, ok := k.(int64)
		if !ok {
			h.others = append(h.others, fmt.Sprintf("%.40q", k))
			continue
		}
		if !protected && label != labelKeyID && label != labelChain && label != labelThumb {
			if label == labelAlg || label == labelCritical || label == labelContentType || label >= labelHashAlg && label <= labelLocation {
				return nil, malformed("header parameter %d is not signed", label)
			}
			h.others = append(h.others, fmt.Sprint(label))
			continue
		}
		if !slices.Contains(known, label) && label != labelCritical {
			h.others = append(h.others, fmt.Sprint(label))
			continue
		}
		v, err := envelope.HeaderValue(raw)
		if err != nil {
			return nil, malformed("header parameter %d: %v", label, err)
		}
		switch label {
		case labelAlg:
			h.alg, ok = v.(int64)
		case labelCritical:
			critical, ok = v.([]any)
			ok = ok && len(critical) > 0
		case labelContentType:
			h.contentType, ok = contentType(v)
		case labelPreimage:
			h.preimage, ok = contentType(v)
		case labelLocation:
			h.location, ok = v.(string)
			ok = ok && h.location != ""
		case labelKeyID:
			h.keyID, ok = v.([]byte)
		case labelHashAlg:
			h.hashAlg, ok = v.(int64)
		case labelChain:
			h.chain, ok = chain(v)
		case labelThumb:
			h.thumb, ok = thumb(v)
		}
		if !ok {
			return nil, malformed("header parameter %d: want %s", label, wants[label])
		}
	}
	for _, c := range critical {
		n, ok := c.(int64)
		if !ok || !slices.Contains(known, n) {
			return nil, malformed("critical header parameter %.40v is not known", c)
		}
		if _, there := m[n]; !there {
			return nil, malformed("critical header parameter %d is not there", n)
		}
	}
	slices.Sort(h.others)
	return h, nil
}

// known are the parameters that may be critical.
var known = []int64{labelAlg, labelContentType, labelKeyID, labelChain, labelThumb, labelHashAlg, labelPreimage, labelLocation}

// wants says what a parameter is to be.
var wants = map[int64]string{
	labelAlg:         "the number of an algorithm",
	labelCritical:    "a list of labels that is not empty",
	labelContentType: "a media type",
	labelPreimage:    "a media type",
	labelLocation:    "a text that is not empty",
	labelKeyID:       "bytes",
	labelHashAlg:     "the number of a hash algorithm",
	labelChain:       "one certificate, or a list of two and more",
	labelThumb:       "a thumbprint under SHA-256",
}

// contentType is a media type or a number of CoAP's.
func contentType(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, x != "" && len(x) <= maxText
	case int64:
		return fmt.Sprint(x), x >= 0
	}
	return "", false
}

func chain(v any) (out [][]byte, ok bool) {
	switch x := v.(type) {
	case []byte:
		return [][]byte{x}, true
	case []any:
		for _, c := range x {
			b, ok := c.([]byte)
			if !ok {
				return nil, false
			}
			out = append(out, b)
		}
	}
	return out, len(out) > 1
}

func thumb(v any) ([]byte, bool) {
	x, ok := v.([]any)
	if !ok || len(x) != 2 || x[0] != hashes["sha256"] {
		return nil, false
	}
	sum, ok := x[1].([]byte)
	return sum, ok && len(sum) == 32
}

// signer is one signature of a message with its headers.
type signer struct {
	raw         []byte // protected header, encoded
	protected   *header
	unprotected *header
	value       []byte
}

// message is a COSE_Sign1 (several is false; its signer's protected header is
// raw and body) or a COSE_Sign.
type message struct {
	several bool
	raw     []byte  // protected header of the body, encoded
	body    *header // as decoded
	outer   *header // unprotected header of a COSE_Sign's body
	payload []byte  // nil: detached
	signers []signer
}

type wireSign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     *[]byte
	Signature   []byte
}

type wireSign struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     *[]byte
	Signatures  []wireSigner
}

type wireSigner struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Signature   []byte
}

// Tags of RFC 9052 section 2, encoded.
var (
	tagSign1 = []byte{0xd2}
	tagSign  = []byte{0xd8, 98}
	emptyMap = cbor.RawMessage{0xa0}
)

// encode writes a message without unprotected parameters.
func (m *message) encode() ([]byte, error) {
	var payload *[]byte
	if m.payload != nil {
		payload = &m.payload
	}
	if !m.several {
		b, err := encMode.Marshal(&wireSign1{Protected: m.raw, Unprotected: emptyMap, Payload: payload, Signature: m.signers[0].value})
		return append(slices.Clone(tagSign1), b...), err
	}
	w := wireSign{Protected: m.raw, Unprotected: emptyMap, Payload: payload}
	for _, s := range m.signers {
		w.Signatures = append(w.Signatures, wireSigner{Protected: s.raw, Unprotected: emptyMap, Signature: s.value})
	}
	b, err := encMode.Marshal(&w)
	return append(slices.Clone(tagSign), b...), err
}

// encMode differs from package format's in one thing: no payload is null.
var encMode = func() cbor.EncMode {
	m, err := cbor.EncOptions{Sort: cbor.SortCoreDeterministic, IndefLength: cbor.IndefLengthForbidden}.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// parse reads a tagged message. All but the maps is in deterministic encoding.
func parse(b []byte) (*message, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("cose: no signature file (%s) was given: %w", Suffix, format.ErrUnsigned)
	case len(b) > MaxMessage:
		return nil, malformed("%d bytes: at most %d", len(b), MaxMessage)
	case bytes.HasPrefix(b, tagSign1):
		return parseSign1(b[len(tagSign1):])
	case bytes.HasPrefix(b, tagSign):
		return parseSign(b[len(tagSign):])
	}
	return nil, malformed("neither COSE_Sign1 nor COSE_Sign")
}

func decode(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return malformed("%v", err)
	}
	if again, err := encMode.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("%w: %w", ErrMalformed, format.ErrEncoding)
	}
	return nil
}

func parseSign1(b []byte) (*message, error) {
	var w wireSign1
	if err := decode(b, &w); err != nil {
		return nil, err
	}
	s, err := newSigner(w.Protected, w.Unprotected, w.Signature)
	if err != nil {
		return nil, err
	}
	m := &message{raw: w.Protected, body: s.protected, outer: &header{}, signers: []signer{*s}}
	return m, m.setPayload(w.Payload)
}

func parseSign(b []byte) (*message, error) {
	var w wireSign
	if err := decode(b, &w); err != nil {
		return nil, err
	}
	if n := len(w.Signatures); n == 0 || n > MaxSigners {
		return nil, malformed("%d signatures: want 1 to %d", n, MaxSigners)
	}
	m := &message{several: true, raw: w.Protected}
	var err error
	if m.body, err = parseHeader(w.Protected, true); err != nil {
		return nil, err
	}
	if m.outer, err = parseHeader(w.Unprotected, false); err != nil {
		return nil, err
	}
	if m.body.alg != 0 || m.body.chain != nil || m.body.thumb != nil {
		return nil, malformed("the body of several signatures names an algorithm or a certificate")
	}
	for i, s := range w.Signatures {
		one, err := newSigner(s.Protected, s.Unprotected, s.Signature)
		if err != nil {
			return nil, fmt.Errorf("signature %d: %w", i, err)
		}
		if h := one.protected; h.hashAlg != 0 || h.preimage != "" || h.location != "" {
			return nil, malformed("signature %d says how the payload was hashed", i)
		}
		m.signers = append(m.signers, *one)
	}
	return m, m.setPayload(w.Payload)
}

func newSigner(protected, unprotected, value []byte) (*signer, error) {
	s := &signer{raw: protected, value: value}
	var err error
	if s.protected, err = parseHeader(protected, true); err != nil {
		return nil, err
	}
	if s.unprotected, err = parseHeader(unprotected, false); err != nil {
		return nil, err
	}
	p, u := s.protected, s.unprotected
	if p.chain != nil && u.chain != nil || p.thumb != nil && u.thumb != nil || p.keyID != nil && u.keyID != nil {
		return nil, malformed("a header parameter is both signed and not signed")
	}
	if _, err := s.scheme(); err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, malformed("no signature value")
	}
	return s, nil
}

func (s *signer) scheme() (sigalg.Scheme, error) {
	for _, a := range algorithms {
		if a.number == s.protected.alg {
			return a.scheme, nil
		}
	}
	return "", malformed("algorithm %d is not known", s.protected.alg)
}

// setPayload checks what the header says of the payload.
func (m *message) setPayload(p *[]byte) error {
	if p != nil {
		m.payload = *p
		if m.payload == nil {
			m.payload = []byte{}
		}
	}
	h := m.body
	if h.hashAlg == 0 {
		if h.preimage != "" || h.location != "" {
			return malformed("the header describes a hash that is not named")
		}
		return nil
	}
	hash, ok := hashOf(h.hashAlg)
	switch {
	case !ok:
		return malformed("hash algorithm %d: want SHA-256, SHA-384 or SHA-512", h.hashAlg)
	case len(m.payload) != hash.Size():
		return malformed("payload of %d bytes is no %v", len(m.payload), hash)
	case h.contentType != "":
		return malformed("a hash envelope has a content type")
	}
	return nil
}

// toBeSigned is the Sig_structure of RFC 9052 section 4.4, without external data.
func (m *message) toBeSigned(s *signer, payload []byte) ([]byte, error) {
	if payload == nil {
		payload = []byte{}
	}
	if m.several {
		return format.Encode([]any{"Signature", m.raw, s.raw, []byte{}, payload})
	}
	return format.Encode([]any{"Signature1", m.raw, []byte{}, payload})
}
