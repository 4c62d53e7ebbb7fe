package attestation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential/internal/cborform"
)

// Constants of the TPM 2.0 library specification, part 2.
const (
	tpmGenerated     = 0xff544347
	tpmAttestCertify = 0x8017
	tpmAlgRSA        = 0x0001
	tpmAlgECC        = 0x0023
	tpmAlgNull       = 0x0010
	tpmAlgSHA256     = 0x000b
	tpmAlgSHA384     = 0x000c
	tpmAlgSHA512     = 0x000d
	tpmCurveP256     = 0x0003
)

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidAIK            = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
)

// tpm is section 8.3.
func (s *signed) tpm(raw cbor.RawMessage) (stated, error) {
	var st struct {
		Ver      string   `cbor:"ver"`
		Alg      int64    `cbor:"alg"`
		X5C      [][]byte `cbor:"x5c"`
		Sig      []byte   `cbor:"sig"`
		CertInfo []byte   `cbor:"certInfo"`
		PubArea  []byte   `cbor:"pubArea"`
	}
	if err := cborform.Read(raw, &st, true); err != nil {
		return stated{}, err
	}
	if st.Ver != "2.0" {
		return stated{}, fmt.Errorf("version %.10q: want 2.0", st.Ver)
	}
	chain, err := certificates(st.X5C)
	if err != nil {
		return stated{}, err
	}
	if err := aikLeaf(chain[0]); err != nil {
		return stated{}, fmt.Errorf("certificate: %w", err)
	}
	if err := s.sameModel(chain[0]); err != nil {
		return stated{}, err
	}
	nameAlg, pub, err := tpmPublic(st.PubArea)
	if err != nil {
		return stated{}, fmt.Errorf("public area: %w", err)
	}
	if k, ok := s.cred.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(pub) {
		return stated{}, errors.New("public area: is of another key")
	}
	extra, name, err := tpmCertified(st.CertInfo)
	if err != nil {
		return stated{}, fmt.Errorf("certified: %w", err)
	}
	digest, err := tpmHash(nameAlg, st.PubArea)
	if err != nil {
		return stated{}, err
	}
	if !bytes.Equal(name, append(binary.BigEndian.AppendUint16(nil, nameAlg), digest...)) {
		return stated{}, errors.New("certified: another key")
	}
	h := coseHash(st.Alg)
	if h == nil {
		return stated{result: Unverified, why: unknownAlgorithm}, nil
	}
	if !bytes.Equal(extra, h(s.message())) {
		return stated{}, errors.New("certified: for another registration")
	}
	return certified(chain, st.Alg, st.CertInfo, st.Sig)
}

// aikLeaf is section 8.3.1. What x509 does not know of the names in the certificate
// is looked at here.
func aikLeaf(c *x509.Certificate) error {
	switch {
	case c.Version != 3:
		return fmt.Errorf("version %d: want 3", c.Version)
	case len(c.Subject.Names) != 0:
		return errors.New("it has a subject")
	case !slices.ContainsFunc(c.UnknownExtKeyUsage, oidAIK.Equal):
		return errors.New("it is not for an attestation key")
	case !c.BasicConstraintsValid || c.IsCA:
		return errors.New("it is not marked as one that issues none")
	}
	v, ok := extension(c, oidSubjectAltName)
	if !ok {
		return errors.New("it does not name its TPM")
	}
	if err := tpmNames(v); err != nil {
		return err
	}
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidSubjectAltName.Equal)
	return nil
}

// tpmNames wants a directory name with manufacturer, model and version, as the TCG
// EK Credential Profile section 3.2.9 has it.
func tpmNames(v []byte) error {
	malformed := errors.New("the name of its TPM is malformed")
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(v, &seq); err != nil || len(rest) != 0 || seq.Tag != asn1.TagSequence || !seq.IsCompound {
		return malformed
	}
	for b := seq.Bytes; len(b) > 0; {
		var n asn1.RawValue
		rest, err := asn1.Unmarshal(b, &n)
		if err != nil {
			return malformed
		}
		b = rest
		if n.Class != asn1.ClassContextSpecific || n.Tag != 4 {
			continue
		}
		type attribute struct {
			ID    asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		type attributes []attribute
		var rdn []asn1.RawValue
		if rest, err := asn1.Unmarshal(n.Bytes, &rdn); err != nil || len(rest) != 0 {
			return malformed
		}
		found := map[string]bool{}
		for _, r := range rdn {
			var set attributes
			if _, err := asn1.UnmarshalWithParams(r.FullBytes, &set, "set"); err != nil {
				return malformed
			}
			for _, a := range set {
				found[a.ID.String()] = len(a.Value.Bytes) > 0
			}
		}
		if found["2.23.133.2.1"] && found["2.23.133.2.2"] && found["2.23.133.2.3"] {
			return nil
		}
	}
	return errors.New("it does not name its TPM's manufacturer, model and version")
}

// reader takes big-endian structures apart; after a failure it reads nothing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, n = true, len(r.b)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u16() uint16 {
	if b := r.take(2); len(b) == 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) sized() []byte { return r.take(int(r.u16())) }

// end is an error unless all of it was read, and nothing was missing.
func (r *reader) end() error {
	if r.bad || len(r.b) != 0 {
		return errors.New("cut short, or too long")
	}
	return nil
}

// tpmPublic reads TPMT_PUBLIC.
func tpmPublic(b []byte) (nameAlg uint16, pub crypto.PublicKey, err error) {
	r := &reader{b: b}
	kind := r.u16()
	nameAlg = r.u16()
	r.u32()   // attributes
	r.sized() // policy
	if r.u16() != tpmAlgNull {
		return 0, nil, errors.New("it is a key that encrypts")
	}
	if scheme := r.u16(); scheme != tpmAlgNull { // with its hash
		r.u16()
	}
	switch kind {
	case tpmAlgRSA:
		r.u16() // bits
		e := r.u32()
		if e == 0 {
			e = 65537
		}
		n := r.sized()
		if e > 1<<24 {
			return 0, nil, errors.New("RSA exponent")
		}
		pub = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e)}
	case tpmAlgECC:
		curve := r.u16()
		if kdf := r.u16(); kdf != tpmAlgNull {
			r.u16()
		}
		x, y := r.sized(), r.sized()
		if curve != tpmCurveP256 || len(x) > 32 || len(y) > 32 || r.bad {
			return 0, nil, errors.New("want a point of P-256")
		}
		point := make([]byte, 65)
		point[0] = 4
		copy(point[33-len(x):], x)
		copy(point[65-len(y):], y)
		k, err := ecdsa.ParseUncompressedPublicKey(p256(), point)
		if err != nil {
			return 0, nil, errors.New("not a point of P-256")
		}
		pub = k
	default:
		return 0, nil, fmt.Errorf("key of type %#x", kind)
	}
	return nameAlg, pub, r.end()
}

// tpmCertified reads TPMS_ATTEST of TPM2_Certify: what the caller added, and the name
// of the key that was certified.
func tpmCertified(b []byte) (extra, name []byte, err error) {
	r := &reader{b: b}
	if r.u32() != tpmGenerated || r.u16() != tpmAttestCertify {
		return nil, nil, errors.New("no TPM has made it, or not to certify a key")
	}
	r.sized() // who signs
	extra = r.sized()
	r.take(8 + 4 + 4 + 1) // clock, resets, restarts, safe
	r.take(8)             // firmware
	name = r.sized()
	r.sized() // qualified name
	return extra, name, r.end()
}

func tpmHash(alg uint16, b []byte) ([]byte, error) {
	switch alg {
	case tpmAlgSHA256:
		h := sha256.Sum256(b)
		return h[:], nil
	case tpmAlgSHA384:
		h := sha512.Sum384(b)
		return h[:], nil
	case tpmAlgSHA512:
		h := sha512.Sum512(b)
		return h[:], nil
	}
	return nil, fmt.Errorf("hash %#x", alg)
}

// coseHash is the hash of a signature algorithm; nil: none that is known.
func coseHash(alg int64) func([]byte) []byte {
	id := uint16(0)
	switch alg {
	case -7, -257, -37:
		id = tpmAlgSHA256
	case -35, -258, -38:
		id = tpmAlgSHA384
	case -36, -259, -39:
		id = tpmAlgSHA512
	default:
		return nil
	}
	return func(b []byte) []byte {
		h, err := tpmHash(id, b)
		if err != nil {
			return nil
		}
		return h
	}
}
