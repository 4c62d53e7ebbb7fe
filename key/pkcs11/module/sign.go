//go:build cgo && unix

package module

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
	"github.com/greatseal-io/greatseal/sigalg"
)

// native is a CK_ULONG of 4 or 8 bytes.
func native(v []byte) uint {
	if len(v) == 4 {
		return uint(binary.NativeEndian.Uint32(v))
	}
	return uint(binary.NativeEndian.Uint64(v))
}

// digestInfo is what comes before the hash in PKCS #1 v1.5 (RFC 8017 section
// 9.2, note 1): CKM_RSA_PKCS pads, but does not say which hash it was.
func digestInfo(s sigalg.Scheme) []byte {
	switch s {
	case sigalg.RSAPKCS1SHA256:
		return []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	case sigalg.RSAPKCS1SHA384:
		return []byte{0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}
	case sigalg.RSAPKCS1SHA512:
		return []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}
	}
	return nil
}

// mechanism is how a token signs under s with a key of a kind, and what it is
// given.
func mechanism(s sigalg.Scheme, kind uint, input []byte) (*pkcs11.Mechanism, []byte, error) {
	if h := s.Hash(); h != 0 && len(input) != h.Size() {
		return nil, nil, errorf(wire.CodeFailed, "%s signs %d bytes, not %d", s, h.Size(), len(input))
	}
	pss := func(hash, mgf uint) (*pkcs11.Mechanism, []byte, error) {
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(hash, mgf, uint(s.Hash().Size()))), input, nil
	}
	switch {
	case kind == pkcs11.CKK_RSA && digestInfo(s) != nil:
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append(digestInfo(s), input...), nil
	case kind == pkcs11.CKK_RSA && s == sigalg.RSAPSSSHA256:
		return pss(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256)
	case kind == pkcs11.CKK_RSA && s == sigalg.RSAPSSSHA384:
		return pss(pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384)
	case kind == pkcs11.CKK_RSA && s == sigalg.RSAPSSSHA512:
		return pss(pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512)
	case kind == pkcs11.CKK_EC && (s == sigalg.ECDSASHA256 || s == sigalg.ECDSASHA384 || s == sigalg.ECDSASHA512):
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), input, nil
	case kind == ckkECEdwards && s == sigalg.PureEd25519:
		return pkcs11.NewMechanism(ckmEdDSA, nil), input, nil
	}
	return nil, nil, errorf(wire.CodeFailed, "scheme %q does not fit the key", s)
}

// sign queues a signature.
func (s *server) sign(q *wire.Request) {
	s.mu.Lock()
	o := s.keys[q.Key]
	s.mu.Unlock()
	if o == nil {
		s.answer(q, &wire.Response{Code: wire.CodeStale, Text: "key is not known to this child"})
		return
	}
	o.t.submit(q, func(h pkcs11.SessionHandle) (*wire.Response, error) {
		sig, err := o.sign(h, sigalg.Scheme(q.Scheme), q.Input)
		if err != nil {
			return nil, err
		}
		return &wire.Response{Signature: sig}, nil
	})
}

// sign signs; the object is looked for once more when its handle is not valid.
func (o *object) sign(h pkcs11.SessionHandle, s sigalg.Scheme, input []byte) ([]byte, error) {
	m, data, err := mechanism(s, o.kind, input)
	if err != nil {
		return nil, err
	}
	lib := o.t.s.lib
	for again := false; ; again = true {
		handle := o.handle()
		if o.gone.Load() {
			return nil, errorf(wire.CodeNotFound, "key was destroyed")
		}
		if handle == 0 {
			err = pkcs11.Error(pkcs11.CKR_KEY_HANDLE_INVALID)
		} else {
			err = lib.SignInit(h, []*pkcs11.Mechanism{m}, handle)
		}
		if err == nil {
			break
		}
		if again || !is(err, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
			return nil, fmt.Errorf("C_SignInit: %w", err)
		}
		if err := o.findAgain(h); err != nil {
			return nil, err
		}
	}
	sig, err := lib.Sign(h, data)
	if err != nil {
		return nil, fmt.Errorf("C_Sign: %w", err)
	}
	if o.kind == pkcs11.CKK_EC {
		return der(sig, o.size)
	}
	return sig, nil
}

// findAgain gives the object the handle that its key has now.
func (o *object) findAgain(h pkcs11.SessionHandle) error {
	handle, err := o.t.one(h, pkcs11.CKO_PRIVATE_KEY, o.label, o.id)
	if err != nil {
		return err
	}
	k, _, err := o.t.read(h, handle)
	if err != nil {
		return err
	}
	if err := fit(k); err != nil {
		return err
	}
	if !bytes.Equal(k.Public, o.spki) {
		return errorf(wire.CodeChanged, "another key has the name now")
	}
	o.at.Store(uint64(handle))
	return nil
}

// der makes the ASN.1 form (RFC 3279 section 2.2.3) of a signature that is two
// scalars of n bytes (PKCS #11 section 2.3.1).
func der(raw []byte, n int) ([]byte, error) {
	if n == 0 || len(raw) != 2*n {
		return nil, errorf(wire.CodeFailed, "ECDSA signature has %d bytes, not %d", len(raw), 2*n)
	}
	r, s := new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])
	if r.Sign() == 0 || s.Sign() == 0 {
		return nil, errorf(wire.CodeFailed, "ECDSA signature has a zero")
	}
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}
