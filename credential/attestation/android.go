package attestation

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential/internal/cborform"
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

// androidKey is section 8.4. What software alone enforces is no attestation.
func (s *signed) androidKey(raw cbor.RawMessage) (stated, error) {
	var st struct {
		Alg int64    `cbor:"alg"`
		Sig []byte   `cbor:"sig"`
		X5C [][]byte `cbor:"x5c"`
	}
	if err := cborform.Read(raw, &st, true); err != nil {
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
	made, err1 := only(androidGenerated, "", soft[androidOrigin], hard[androidOrigin])
	signs, err2 := only(androidSign, "set", soft[androidPurpose], hard[androidPurpose])
	if err := errors.Join(err1, err2); err != nil {
		return stated{}, err
	}
	out, err := certified(chain, st.Alg, s.message(), st.Sig)
	if err == nil && out.result == Model && !(made && signs) {
		return stated{result: Unverified, why: "no hardware says that it has made the key, for signing alone"}, nil
	}
	return out, err
}

// only reads what software and hardware say of a key: each nothing, or the one value
// that is right. hardware reports whether hardware says it.
func only(want int, params string, soft, hard []byte) (hardware bool, err error) {
	for _, v := range [][]byte{soft, hard} {
		if v == nil {
			continue
		}
		var rest []byte
		var one int
		list := []int{0}
		if params == "set" {
			rest, err = asn1.UnmarshalWithParams(v, &list, params)
		} else {
			rest, err = asn1.Unmarshal(v, &one)
			list[0] = one
		}
		if err != nil || len(rest) != 0 || len(list) != 1 || list[0] != want {
			return false, errors.New("the key was not made there, or is not for signing alone")
		}
	}
	return hard != nil, nil
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
