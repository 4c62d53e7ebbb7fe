package oci

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/sigalg"
)

// target is what a signature is about: the manifest's descriptor. Bundles of
// cosign name the digest alone.
type target struct {
	mediaType string
	digest    []byte // SHA-256
	size      int64
}

// MaxEnvelope limits a signature, in bytes.
const MaxEnvelope = 1 << 20

// signed is one signature as read from any of the forms.
type signed struct {
	form    string
	target  target
	claim   envelope.Claim
	hint    string // of a bundle: names the key
	time    time.Time
	expires time.Time
	open    []string
}

// parseEnvelope reads a signature of any form.
func parseEnvelope(b []byte) (*signed, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("oci: no signature file was given: %w", format.ErrUnsigned)
	case len(b) > MaxEnvelope:
		return nil, malformed("signature of %d bytes: at most %d", len(b), MaxEnvelope)
	case b[0] == tagSign1:
		return parseCOSE(b[1:])
	case b[0] != '{' || b[len(b)-1] != '}':
		return nil, malformed("signature is neither JSON nor COSE")
	}
	var kind struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return nil, malformed("signature: %v", err)
	}
	if kind.MediaType != "" {
		return parseBundle(b)
	}
	return parseJWS(b)
}

// strict reads JSON with no members but those of v.
func strict(b []byte, v any) error {
	if err := json.Unmarshal(b, v, json.RejectUnknownMembers(true)); err != nil {
		return malformed("%v", err)
	}
	return nil
}

var std, url = base64.StdEncoding.Strict(), base64.RawURLEncoding.Strict()

func decode64(e *base64.Encoding, s string) ([]byte, error) {
	b, err := e.DecodeString(s)
	if err != nil || len(b) == 0 || e.EncodeToString(b) != s {
		return nil, malformed("base64")
	}
	return b, nil
}

// Cosign's bundle (protobuf-specs, sigstore_bundle.proto, version 0.3).

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

func (t target) statement() []byte {
	return []byte(`{"_type":"` + statementType + `","subject":[{"digest":{"sha256":"` + hex.EncodeToString(t.digest) + `"}}],"predicateType":"` + signPredicate + `","predicate":{}}`)
}

func preAuth(payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

func encodeBundle(payload []byte, keyID, sig []byte) []byte {
	return []byte(`{"mediaType":"` + bundleType + `","verificationMaterial":{"publicKey":{"hint":"` + std.EncodeToString(keyID) +
		`"}},"dsseEnvelope":{"payload":"` + std.EncodeToString(payload) + `","payloadType":"` + payloadType + `","signatures":[{"sig":"` + std.EncodeToString(sig) + `"}]}}`)
}

type wireBundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		PublicKey *struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
		Log        []jsontext.Value `json:"tlogEntries"`
		Timestamps jsontext.Value   `json:"timestampVerificationData"`
	} `json:"verificationMaterial"`
	Envelope *struct {
		Payload     string `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig   string `json:"sig"`
			KeyID string `json:"keyid"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

type wireStatement struct {
	Type    string `json:"_type"`
	Subject []struct {
		Name   string            `json:"name"`
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     jsontext.Value `json:"predicate"`
}

// parseBundle reads a bundle that a key made; there are no certificates in it.
func parseBundle(b []byte) (*signed, error) {
	var w wireBundle
	if err := strict(b, &w); err != nil {
		return nil, err
	}
	switch {
	case w.MediaType != bundleType:
		return nil, malformed("bundle of media type %.80q: want %s", w.MediaType, bundleType)
	case w.Material.PublicKey == nil || w.Envelope == nil || len(w.Envelope.Signatures) != 1:
		return nil, malformed("bundle: want a key and an envelope with one signature")
	case w.Envelope.PayloadType != payloadType:
		return nil, malformed("payload type %.80q: want %s", w.Envelope.PayloadType, payloadType)
	}
	payload, err := decode64(std, w.Envelope.Payload)
	if err != nil {
		return nil, err
	}
	s := &signed{form: FormCosign, hint: w.Material.PublicKey.Hint}
	s.claim.Message = preAuth(payload)
	if s.claim.Value, err = decode64(std, w.Envelope.Signatures[0].Sig); err != nil {
		return nil, err
	}
	var st wireStatement
	if err := strict(payload, &st); err != nil {
		return nil, err
	}
	if st.Type != statementType || len(st.Subject) != 1 || st.PredicateType != signPredicate {
		return nil, malformed("want a statement %s about one manifest", signPredicate)
	}
	if s.target.digest, err = hex.DecodeString(st.Subject[0].Digest["sha256"]); err != nil || len(s.target.digest) != 32 {
		return nil, malformed("the statement names no SHA-256")
	}
	s.target.size = -1
	for what, there := range map[string]bool{
		"log entries in the bundle": len(w.Material.Log) > 0, "timestamps in the bundle": len(w.Material.Timestamps) > 0 && string(w.Material.Timestamps) != "{}",
		"key name in the envelope": w.Envelope.Signatures[0].KeyID != "",
	} {
		if there {
			s.open = append(s.open, what)
		}
	}
	slices.Sort(s.open)
	return s, nil
}

// The Notary Project's envelopes (specifications 1.1, signature-envelope-jws.md
// and signature-envelope-cose.md).

const (
	notaryPayload = "application/vnd.cncf.notary.payload.v1+json"
	notaryScheme  = "io.cncf.notary.signingScheme"
	tagTime       = 0xc1
	maxTime       = 253402300799 // end of the year 9999
	notaryTime    = "io.cncf.notary.signingTime"
	notaryExpiry  = "io.cncf.notary.expiry"
	notaryAgent   = "io.cncf.notary.signingAgent"
	notaryStamp   = "io.cncf.notary.timestampSignature"
	schemeX509    = "notary.x509"
)

func (t target) payload() []byte {
	return fmt.Appendf(nil, `{"targetArtifact":{"mediaType":"%s","digest":"sha256:%x","size":%d}}`, t.mediaType, t.digest, t.size)
}

type wireTarget struct {
	Artifact struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations"`
	} `json:"targetArtifact"`
}

func parseTarget(payload []byte) (target, error) {
	var w wireTarget
	if err := strict(payload, &w); err != nil {
		return target{}, err
	}
	t := target{mediaType: w.Artifact.MediaType, size: w.Artifact.Size}
	if !isDigest(w.Artifact.Digest) || len(w.Artifact.Digest) != len("sha256:")+64 {
		return t, malformed("the payload names no SHA-256")
	}
	t.digest, _ = hex.DecodeString(w.Artifact.Digest[len("sha256:"):]) // checked
	return t, nil
}

// notaryAlgorithms are those that the Notary Project knows: each key has one.
var notaryAlgorithms = []struct {
	key    sigalg.Key
	scheme sigalg.Scheme
	jose   string
	cose   int64
}{
	{sigalg.RSA3072, sigalg.RSAPSSSHA384, "PS384", -38},
	{sigalg.RSA4096, sigalg.RSAPSSSHA512, "PS512", -39},
	{sigalg.P256, sigalg.ECDSASHA256, "ES256", -7},
	{sigalg.P384, sigalg.ECDSASHA384, "ES384", -35},
	{"", sigalg.RSAPSSSHA256, "PS256", -37}, // RSA-2048, which others have
}

// protectedJWS is the protected header; names in alphabetical order.
type protectedJWS struct {
	Algorithm   string     `json:"alg"`
	Critical    []string   `json:"crit"`
	ContentType string     `json:"cty"`
	Expiry      *time.Time `json:"io.cncf.notary.expiry,omitempty"`
	Scheme      string     `json:"io.cncf.notary.signingScheme"`
	Time        *time.Time `json:"io.cncf.notary.signingTime,omitempty"`
}

func newProtectedJWS(alg string, at time.Time) (string, error) {
	at = at.UTC().Truncate(time.Second)
	b, err := json.Marshal(&protectedJWS{Algorithm: alg, Critical: []string{notaryScheme}, ContentType: notaryPayload, Scheme: schemeX509, Time: &at})
	return url.EncodeToString(b), err
}

func encodeJWS(protected string, payload, sig []byte, chain []*x509.Certificate) []byte {
	b := []byte(`{"payload":"` + url.EncodeToString(payload) + `","protected":"` + protected + `","header":{"x5c":[`)
	for i, c := range chain {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `"`+std.EncodeToString(c.Raw)+`"`...)
	}
	return append(b, `]},"signature":"`+url.EncodeToString(sig)+`"}`...)
}

type wireJWS struct {
	Payload   string `json:"payload"`
	Protected string `json:"protected"`
	Header    struct {
		Chain []string `json:"x5c"`
		Agent string   `json:"io.cncf.notary.signingAgent"`
		Stamp string   `json:"io.cncf.notary.timestampSignature"`
	} `json:"header"`
	Signature string `json:"signature"`
}

func parseJWS(b []byte) (*signed, error) {
	var w wireJWS
	if err := strict(b, &w); err != nil {
		return nil, err
	}
	s := &signed{form: FormNotationJWS}
	raw, err := decode64(url, w.Protected)
	if err != nil {
		return nil, err
	}
	var p protectedJWS
	if err := strict(raw, &p); err != nil {
		return nil, err
	}
	for _, a := range notaryAlgorithms {
		if a.jose == p.Algorithm {
			s.claim.Scheme = a.scheme
		}
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, malformed("%v", err)
	}
	for n, v := range members {
		if v.Kind() == 'n' { // which is no missing member
			return nil, malformed("signed attribute %s is null", n)
		}
	}
	if s.time, err = stated(p.Time); err != nil {
		return nil, err
	}
	if s.expires, err = stated(p.Expiry); err != nil {
		return nil, err
	}
	if err := s.checkHeader(p.ContentType, p.Scheme, p.Critical, p.Expiry != nil); err != nil {
		return nil, err
	}
	payload, err := decode64(url, w.Payload)
	if err != nil {
		return nil, err
	}
	if s.target, err = parseTarget(payload); err != nil {
		return nil, err
	}
	s.claim.Message = []byte(w.Protected + "." + w.Payload)
	if s.claim.Value, err = decode64(url, w.Signature); err != nil {
		return nil, err
	}
	var ders [][]byte
	for _, c := range w.Header.Chain {
		der, err := decode64(std, c)
		if err != nil {
			return nil, err
		}
		ders = append(ders, der)
	}
	s.unsigned(w.Header.Agent != "", w.Header.Stamp != "")
	return s, s.setChain(ders)
}

// stated is a time that may be missing; the year 1 is another thing than that.
func stated(at *time.Time) (time.Time, error) {
	switch {
	case at == nil:
		return time.Time{}, nil
	case at.Unix() <= 0:
		return time.Time{}, malformed("signed time %s is of another age", at)
	}
	return *at, nil
}

// checkHeader looks at the signed attributes that both envelopes have.
func (s *signed) checkHeader(contentType, scheme string, critical []string, expires bool) error {
	want := []string{notaryScheme}
	if expires {
		want = []string{notaryExpiry, notaryScheme}
	}
	critical = slices.Clone(critical)
	slices.Sort(critical)
	switch {
	case s.claim.Scheme == "":
		return malformed("algorithm is not one of the Notary Project's")
	case contentType != notaryPayload:
		return malformed("content type %.80q: want %s", contentType, notaryPayload)
	case scheme != schemeX509:
		return malformed("signing scheme %.80q: want %s", scheme, schemeX509)
	case !slices.Equal(critical, want):
		return malformed("critical attributes %.200q: want %q", critical, want)
	}
	return nil
}

func (s *signed) unsigned(agent, stamp bool) {
	if agent {
		s.open = append(s.open, "name of the signing agent")
	}
	if stamp {
		s.open = append(s.open, "timestamp, which is not judged")
	}
}

func (s *signed) setChain(ders [][]byte) (err error) {
	if len(ders) == 0 {
		return malformed("no certificates")
	}
	s.claim.Chain, err = envelope.ParseChain(ders)
	return err
}

// COSE.

const tagSign1 = 0xd2

type wireSign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

func newProtectedCOSE(alg int64, at time.Time) ([]byte, error) {
	return format.Encode(map[any]any{1: alg, 2: []string{notaryScheme}, 3: notaryPayload, notaryScheme: schemeX509, notaryTime: cbor.Tag{Number: 1, Content: at.Unix()}})
}

func toBeSignedCOSE(protected, payload []byte) ([]byte, error) {
	return format.Encode([]any{"Signature1", protected, []byte{}, payload})
}

func encodeCOSE(protected, payload, sig []byte, chain []*x509.Certificate) ([]byte, error) {
	var ders [][]byte
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	u, err := format.Encode(map[int]any{33: ders})
	if err != nil {
		return nil, err
	}
	b, err := format.Encode(&wireSign1{Protected: protected, Unprotected: u, Payload: payload, Signature: sig})
	return append([]byte{tagSign1}, b...), err
}

var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func parseCOSE(b []byte) (*signed, error) {
	var w wireSign1
	if err := decMode.Unmarshal(b, &w); err != nil {
		return nil, malformed("%v", err)
	}
	if again, err := format.Encode(&w); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, format.ErrEncoding)
	}
	s := &signed{form: FormNotationCOSE}
	m, err := envelope.Header(w.Protected)
	if err != nil {
		return nil, malformed("protected header: %v", err)
	}
	var alg int64
	var contentType, scheme string
	var critical []string
	for k, v := range m {
		var err error
		switch k {
		case int64(1):
			alg, err = headerValue[int64](v)
		case int64(2):
			critical, err = headerValues[string](v)
		case int64(3):
			contentType, err = headerValue[string](v)
		case notaryScheme:
			scheme, err = headerValue[string](v)
		case notaryTime:
			s.time, err = headerTime(v)
		case notaryExpiry:
			s.expires, err = headerTime(v)
		default:
			err = errors.New("it is not known")
		}
		if err != nil {
			return nil, malformed("signed attribute %.80v: %v", k, err)
		}
	}
	for _, a := range notaryAlgorithms {
		if a.cose == alg {
			s.claim.Scheme = a.scheme
		}
	}
	_, expires := m[notaryExpiry]
	if err := s.checkHeader(contentType, scheme, critical, expires); err != nil {
		return nil, err
	}
	if s.target, err = parseTarget(w.Payload); err != nil {
		return nil, err
	}
	if s.claim.Message, err = toBeSignedCOSE(w.Protected, w.Payload); err != nil {
		return nil, err
	}
	s.claim.Value = w.Signature
	return s, s.unprotected(w.Unprotected)
}

// unprotected reads who signed, and what else nobody signed.
func (s *signed) unprotected(b []byte) error {
	m, err := envelope.Header(b)
	if err != nil {
		return malformed("unprotected header: %v", err)
	}
	var ders [][]byte
	for k, v := range m {
		switch k {
		case int64(33):
			if ders, err = headerValues[[]byte](v); err != nil {
				return malformed("certificates: %v", err)
			}
		case notaryAgent, notaryStamp:
		default:
			return malformed("unprotected header parameter %.80v", k)
		}
	}
	_, agent := m[notaryAgent]
	_, stamp := m[notaryStamp]
	s.unsigned(agent, stamp)
	return s.setChain(ders)
}

// headerValue is a value of the one type that it may have.
func headerValue[T any](b []byte) (v T, err error) {
	x, err := envelope.HeaderValue(b)
	if err != nil {
		return v, err
	}
	v, ok := x.(T)
	if !ok {
		return v, fmt.Errorf("a %T", x)
	}
	return v, nil
}

func headerValues[T any](b []byte) (out []T, err error) {
	list, err := headerValue[[]any](b)
	for _, x := range list {
		v, ok := x.(T)
		if !ok {
			return nil, fmt.Errorf("a %T in the list", x)
		}
		out = append(out, v)
	}
	return out, err
}

// headerTime is a time in whole seconds, with the tag of such.
func headerTime(b []byte) (time.Time, error) {
	if b[0] != tagTime {
		return time.Time{}, errors.New("a time has tag 1")
	}
	n, err := headerValue[int64](b[1:])
	if err == nil && (n <= 0 || n > maxTime) {
		err = errors.New("a time of another age")
	}
	return time.Unix(n, 0), err
}
