package attestation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/internal/cborform"
	"github.com/greatseal-io/greatseal/sigalg"
)

// signed is what statements are about.
type signed struct {
	auth   []byte   // authenticator data
	client [32]byte // SHA-256 of the client data
	data   *authData
	cred   *credential.Passkey
}

// message is authenticatorData and the client data's hash.
func (s *signed) message() []byte { return append(bytes.Clone(s.auth), s.client[:]...) }

// stated is what a statement came to. Model is said with a chain that nobody has
// looked at yet.
type stated struct {
	result Result
	why    string
	chain  []*x509.Certificate
}

// verify checks the statement of a format (section 8).
func (s *signed) verify(format string, st cbor.RawMessage) (stated, error) {
	switch format {
	case "none":
		if !bytes.Equal(st, []byte{0xa0}) {
			return stated{}, errors.New("the statement is not empty")
		}
		return stated{result: None}, nil
	case "packed":
		return s.packed(st)
	case "fido-u2f":
		return s.u2f(st)
	case "apple":
		return s.apple(st)
	case "tpm":
		return s.tpm(st)
	case "android-key":
		return s.androidKey(st)
	}
	return stated{result: Unverified, why: "the format is not known here"}, nil
}

// algorithm is that of a number of the IANA COSE registry. RS1, which is SHA-1 with
// RSA, is missing on purpose.
func algorithm(cose int64) x509.SignatureAlgorithm {
	switch cose {
	case -7:
		return x509.ECDSAWithSHA256
	case -35:
		return x509.ECDSAWithSHA384
	case -36:
		return x509.ECDSAWithSHA512
	case -8:
		return x509.PureEd25519
	case -257:
		return x509.SHA256WithRSA
	case -258:
		return x509.SHA384WithRSA
	case -259:
		return x509.SHA512WithRSA
	case -37:
		return x509.SHA256WithRSAPSS
	case -38:
		return x509.SHA384WithRSAPSS
	case -39:
		return x509.SHA512WithRSAPSS
	}
	return x509.UnknownSignatureAlgorithm
}

const unknownAlgorithm = "it is signed by an algorithm that is not verified here"

// certificates reads the chain of a statement, leaf first.
func certificates(x5c [][]byte) ([]*x509.Certificate, error) {
	if len(x5c) == 0 || len(x5c) > maxChain {
		return nil, fmt.Errorf("%d certificates: want 1 to %d", len(x5c), maxChain)
	}
	var out []*x509.Certificate
	for i, der := range x5c {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		if err := checkKey(c.PublicKey); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// checkKey bounds what verifying costs.
func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits: want 2048 to %d", n, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("key of type %T", pub)
}

// packed is section 8.2.
func (s *signed) packed(raw cbor.RawMessage) (stated, error) {
	var st struct {
		Alg int64    `cbor:"alg"`
		Sig []byte   `cbor:"sig"`
		X5C [][]byte `cbor:"x5c"`
	}
	if err := cborform.Read(raw, &st, true); err != nil {
		return stated{}, err
	}
	if st.X5C == nil {
		return s.self(st.Alg, st.Sig)
	}
	chain, err := certificates(st.X5C)
	if err != nil {
		return stated{}, err
	}
	leaf := chain[0]
	if err := packedLeaf(leaf); err != nil {
		return stated{}, fmt.Errorf("certificate: %w", err)
	}
	if err := s.sameModel(leaf); err != nil {
		return stated{}, err
	}
	return certified(chain, st.Alg, s.message(), st.Sig)
}

// certified verifies a signature by the leaf's key.
func certified(chain []*x509.Certificate, alg int64, message, sig []byte) (stated, error) {
	a := algorithm(alg)
	if a == x509.UnknownSignatureAlgorithm {
		return stated{result: Unverified, why: unknownAlgorithm}, nil
	}
	if err := chain[0].CheckSignature(a, message, sig); err != nil {
		return stated{}, errors.New("the certificate's key has not signed this")
	}
	return stated{result: Model, chain: chain}, nil
}

// self verifies a signature by the passkey itself. Its algorithm is the key's.
func (s *signed) self(alg int64, sig []byte) (stated, error) {
	var head struct {
		Alg int64 `cbor:"3,keyasint"`
	}
	if err := cborform.Read(s.data.key, &head, false); err != nil {
		return stated{}, err
	}
	if head.Alg != alg {
		return stated{}, errors.New("the algorithm is not the passkey's")
	}
	scheme, ok := map[int64]sigalg.Scheme{-7: sigalg.ECDSASHA256, -8: sigalg.PureEd25519, -257: sigalg.RSAPKCS1SHA256}[alg]
	if !ok {
		return stated{result: Unverified, why: unknownAlgorithm}, nil
	}
	if err := sigalg.Verify(s.cred.Public(), scheme, s.message(), sig); err != nil {
		return stated{}, errors.New("the passkey has not signed this")
	}
	return stated{result: Self, why: "signed with the passkey itself"}, nil
}

// The extension id-fido-gen-ce-aaguid.
var oidModel = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}

// sameModel compares the model that the certificate names, if it names one.
func (s *signed) sameModel(c *x509.Certificate) error {
	for _, x := range c.Extensions {
		if !x.Id.Equal(oidModel) {
			continue
		}
		var id []byte
		if rest, err := asn1.Unmarshal(x.Value, &id); err != nil || len(rest) != 0 || x.Critical {
			return errors.New("the certificate names its model in a form of its own")
		}
		if !bytes.Equal(id, s.data.aaguid[:]) {
			return errors.New("the certificate is of another model")
		}
	}
	return nil
}

// packedLeaf is section 8.2.1.
func packedLeaf(c *x509.Certificate) error {
	n := c.Subject
	switch {
	case c.Version != 3:
		return fmt.Errorf("version %d: want 3", c.Version)
	case len(n.Country) != 1 || len(n.Country[0]) != 2:
		return errors.New("its subject names no country")
	case len(n.Organization) == 0 || n.Organization[0] == "":
		return errors.New("its subject names no organisation")
	case !slices.Equal(n.OrganizationalUnit, []string{"Authenticator Attestation"}):
		return errors.New("its subject is no Authenticator Attestation")
	case n.CommonName == "":
		return errors.New("its subject has no common name")
	case !c.BasicConstraintsValid || c.IsCA:
		return errors.New("it is not marked as one that issues none")
	}
	return nil
}

// u2f is section 8.6. Its signature covers neither flags nor model.
func (s *signed) u2f(raw cbor.RawMessage) (stated, error) {
	var st struct {
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
	if len(chain) != 1 {
		return stated{}, errors.New("want one certificate")
	}
	pub, ok := chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve.Params().Name != "P-256" {
		return stated{}, errors.New("want a certificate for P-256")
	}
	key, ok := s.cred.Public().(*ecdsa.PublicKey)
	if !ok {
		return stated{}, errors.New("want a passkey with P-256")
	}
	point, err := key.Bytes()
	if err != nil {
		return stated{}, err
	}
	return certified(chain, -7, slices.Concat([]byte{0}, s.data.rp[:], s.client[:], s.data.id, point), st.Sig)
}

// The extension of Apple's anonymous attestation.
var oidApple = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 8, 2}

// apple is section 8.8: the certificate is of the passkey's own key.
func (s *signed) apple(raw cbor.RawMessage) (stated, error) {
	var st struct {
		X5C [][]byte `cbor:"x5c"`
	}
	if err := cborform.Read(raw, &st, true); err != nil {
		return stated{}, err
	}
	chain, err := certificates(st.X5C)
	if err != nil {
		return stated{}, err
	}
	value, ok := extension(chain[0], oidApple)
	if !ok {
		return stated{}, errors.New("the certificate has no nonce")
	}
	var nonce struct {
		Value []byte `asn1:"explicit,tag:1"`
	}
	if rest, err := asn1.Unmarshal(value, &nonce); err != nil || len(rest) != 0 {
		return stated{}, errors.New("the certificate's nonce is malformed")
	}
	if want := sha256.Sum256(s.message()); !bytes.Equal(nonce.Value, want[:]) {
		return stated{}, errors.New("the certificate is for another registration")
	}
	if !s.ofKey(chain[0]) {
		return stated{}, errors.New("the certificate is for another key")
	}
	return stated{result: Model, chain: chain}, nil
}

// ofKey reports whether c is of the passkey's own key.
func (s *signed) ofKey(c *x509.Certificate) bool {
	k, ok := s.cred.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(c.PublicKey)
}

// extension is the value of an extension; of two with one name there is none, for
// x509 refuses such certificates.
func extension(c *x509.Certificate, id asn1.ObjectIdentifier) ([]byte, bool) {
	for _, x := range c.Extensions {
		if x.Id.Equal(id) {
			return x.Value, true
		}
	}
	return nil, false
}
