package sigalg

import "crypto"

// SchemeOf finds the scheme of the key under which sig verifies over message, for
// envelopes that do not carry it (DSSE). ErrSignature when there is none.
func SchemeOf(pub crypto.PublicKey, message, sig []byte) (Scheme, error) {
	k, err := KeyOf(pub)
	if err != nil {
		return "", err
	}
	for _, s := range [...]Scheme{
		RSAPKCS1SHA256, RSAPKCS1SHA384, RSAPKCS1SHA512, RSAPSSSHA256, RSAPSSSHA384, RSAPSSSHA512,
		ECDSASHA256, ECDSASHA384, ECDSASHA512, PureEd25519, PureMLDSA65, PureMLDSA87,
	} {
		if s.Fits(k) && Verify(pub, s, message, sig) == nil {
			return s, nil
		}
	}
	return "", ErrSignature
}
