package attestation

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"

	"github.com/fxamacker/cbor/v2"
)

// p256 is the curve of ES256.
func p256() elliptic.Curve { return elliptic.P256() }

// The extension of Android's key attestation.
var oidAndroid = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}

// Tags of an AuthorizationList, and values in it.
const (
	androidPurpose         = 1
	androidAllApplications = 600
	androidOrigin          = 702
	androidSign            = 2 // KM_PURPOSE_SIGN
	androidGenerated       = 0 // KM_ORIGIN_GENERATED
)

// androidKey is section 8.4. What software alone enforces does not count.
func (s *signed) androidKey(raw cbor.RawMessage) (stated, error) {
	var st struct {
		Alg int64    `cbor:"alg"`
		Sig []byte   `cbor:"sig"`
		X5C [][]byte `cbor:"x5c"`
	}
	if err := unmarshalCBOR(raw, &st, true); err != nil {
		return stated{}, err
	}
	chain, err := certificates(st.X5C)
	if err != nil {
		return stated{}, err
	}
	if !s.ofKey(chain[0]) {
		return stated{}, errors.New("the certificate is for another key")
	}
	v, ok := extension(chain[0], oidAndroid)
	if !ok {
		return stated{}, errors.New("the certificate describes no key")
	}
	var d struct {
		Version       int
		Security      asn1.Enumerated
		MasterVersion int
		MasterLevel   asn1.Enumerated
		Challenge     []byte
		UniqueID      []byte
		Software      asn1.RawValue
		Hardware      asn1.RawValue
	}
	if rest, err := asn1.Unmarshal(v, &d); err != nil || len(rest) != 0 {
		return stated{}, errors.New("the key's description is malformed")
	}
	if !bytes.Equal(d.Challenge, s.client[:]) {
		return stated{}, errors.New("the certificate is for another registration")
	}
	soft, err1 := authorizations(d.Software)
	hard, err2 := authorizations(d.Hardware)
	if err := errors.Join(err1, err2); err != nil {
		return stated{}, err
	}
	if _, all := soft[androidAllApplications]; all {
		return stated{}, errors.New("the key is every application's")
	}
	if _, all := hard[androidAllApplications]; all {
		return stated{}, errors.New("the key is every application's")
	}
	var origin int
	if rest, err := asn1.Unmarshal(hard[androidOrigin], &origin); err != nil || len(rest) != 0 || origin != androidGenerated {
		return stated{}, errors.New("the key was not made in hardware")
	}
	var purposes []int
	if rest, err := asn1.UnmarshalWithParams(hard[androidPurpose], &purposes, "set"); err != nil || len(rest) != 0 || len(purposes) != 1 || purposes[0] != androidSign {
		return stated{}, errors.New("the key is not for signing alone")
	}
	return certified(chain, st.Alg, s.message(), st.Sig)
}

// authorizations are the values of an AuthorizationList by tag.
func authorizations(v asn1.RawValue) (map[int][]byte, error) {
	malformed := errors.New("the key's description is malformed")
	if v.Tag != asn1.TagSequence || !v.IsCompound || v.Class != asn1.ClassUniversal {
		return nil, malformed
	}
	out := map[int][]byte{}
	for b := v.Bytes; len(b) > 0; {
		var x asn1.RawValue
		rest, err := asn1.Unmarshal(b, &x)
		if err != nil || x.Class != asn1.ClassContextSpecific || len(out) >= 64 {
			return nil, malformed
		}
		if _, twice := out[x.Tag]; twice {
			return nil, malformed
		}
		out[x.Tag], b = x.Bytes, rest
	}
	return out, nil
}
