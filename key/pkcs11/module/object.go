//go:build cgo && unix

package module

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
)

// PKCS #11 v3.0, which the bindings do not name.
const (
	ckkECEdwards                = 0x40
	ckmECEdwardsKeyPairGen      = 0x1055
	ckmEdDSA                    = 0x1057
	ckInvalidHandle        uint = 0
)

// object is a private key that the parent may sign with.
type object struct {
	t     *token
	label string // by which it is found again, with id
	id    []byte
	spki  []byte
	kind  uint // CKK_RSA, CKK_EC, ckkECEdwards
	size  int  // of a scalar in bytes, for CKK_EC
	at    atomic.Uint64
	gone  atomic.Bool // destroyed: its handle may be another object's
}

func (o *object) handle() pkcs11.ObjectHandle { return pkcs11.ObjectHandle(o.at.Load()) }

// objectID is what makes two objects one, for as long as the child lives.
type objectID struct {
	slot   uint
	handle uint64
	spki   [sha256.Size]byte
}

// open finds a key pair and reads it. A key that is inspected only may be unfit
// for use.
func (t *token) open(h pkcs11.SessionHandle, label string, id []byte, inspect bool) (*wire.Response, error) {
	private, err := t.one(h, pkcs11.CKO_PRIVATE_KEY, label, id)
	if err != nil {
		return nil, err
	}
	k, o, err := t.read(h, private)
	if err != nil {
		return nil, err
	}
	described, _, err := t.s.expect(t.slot, t.serial)
	if err != nil {
		return nil, err
	}
	if !inspect {
		if err := fit(k); err != nil {
			return nil, err
		}
		o.label, o.id = label, id
		k.Handle = t.remember(o)
	}
	return &wire.Response{Key: k, Token: &described}, nil
}

// fit refuses private keys that must not be used.
func fit(k *wire.Key) error {
	switch {
	case !k.Sensitive || k.Extractable:
		return errorf(wire.CodeUnfit, "private key can leave the token (CKA_SENSITIVE %v, CKA_EXTRACTABLE %v)", k.Sensitive, k.Extractable)
	case !k.Private:
		return errorf(wire.CodeUnfit, "private key can be used without a PIN (CKA_PRIVATE is false)")
	case !k.Sign:
		return errorf(wire.CodeUnfit, "private key is not for signing (CKA_SIGN is false)")
	case k.AlwaysAuthenticate:
		return errorf(wire.CodeUnfit, "private key wants its PIN for each signature (CKA_ALWAYS_AUTHENTICATE), which a service cannot give")
	}
	return nil
}

// remember gives an object a handle for the parent.
func (t *token) remember(o *object) uint64 {
	s := t.s
	id := objectID{t.slot, o.at.Load(), sha256.Sum256(append(append([]byte(o.label+"\x00"), o.id...), o.spki...))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.byObj[id]; ok {
		if old := s.keys[n]; old != nil && !old.gone.Load() && old.at.Load() == o.at.Load() {
			return n
		}
	}
	n := uint64(len(s.keys)) + 1 // never removed
	s.keys[n], s.byObj[id] = o, n
	return n
}

// destroyed marks the objects of a handle, or takes the mark away.
func (t *token) destroyed(handle pkcs11.ObjectHandle, gone bool) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for _, o := range t.s.keys {
		if o.t == t && o.handle() == handle {
			o.gone.Store(gone)
		}
	}
}

// find finds objects, at most a few more than one.
func (t *token) find(h pkcs11.SessionHandle, class uint, label string, id []byte) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if len(id) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if len(template) == 2 {
		return nil, errors.New("an object without label and ID cannot be looked for")
	}
	lib := t.s.lib
	if err := lib.FindObjectsInit(h, template); err != nil {
		return nil, fmt.Errorf("C_FindObjectsInit: %w", err)
	}
	found, _, err := lib.FindObjects(h, 4)
	if end := lib.FindObjectsFinal(h); err == nil && end != nil {
		err = end
	}
	if err != nil {
		return nil, fmt.Errorf("C_FindObjects: %w", err)
	}
	return found, nil
}

// one finds the one object of a name.
func (t *token) one(h pkcs11.SessionHandle, class uint, label string, id []byte) (pkcs11.ObjectHandle, error) {
	found, err := t.find(h, class, label, id)
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		if err := t.login(h); err != nil { // who is not logged in sees no private keys
			return 0, err
		}
		return 0, errorf(wire.CodeNotFound, "no such object")
	case len(found) > 1:
		return 0, errorf(wire.CodeAmbiguous, "more than one object has this label and ID")
	}
	return found[0], nil
}

// login checks that the session is one of the user.
func (t *token) login(h pkcs11.SessionHandle) error {
	i, err := t.s.lib.GetSessionInfo(h)
	if err != nil {
		return fmt.Errorf("C_GetSessionInfo: %w", err)
	}
	if i.State != stateROUser && i.State != stateRWUser {
		return errorf(wire.CodeLogin, "not logged in")
	}
	return nil
}

// read reads a private key's attributes and its public half.
func (t *token) read(h pkcs11.SessionHandle, private pkcs11.ObjectHandle) (*wire.Key, *object, error) {
	a := attributes{t: t, h: h, o: private}
	k := &wire.Key{
		Label: printable(string(a.bytes(pkcs11.CKA_LABEL))), ID: a.bytes(pkcs11.CKA_ID),
		// What a token does not say is taken for the worse.
		Sensitive: a.flag(pkcs11.CKA_SENSITIVE, false), AlwaysSensitive: a.flag(pkcs11.CKA_ALWAYS_SENSITIVE, false),
		Extractable: a.flag(pkcs11.CKA_EXTRACTABLE, true), NeverExtractable: a.flag(pkcs11.CKA_NEVER_EXTRACTABLE, false),
		Local: a.flag(pkcs11.CKA_LOCAL, false), Private: a.flag(pkcs11.CKA_PRIVATE, false), Sign: a.flag(pkcs11.CKA_SIGN, false),
		AlwaysAuthenticate: a.flag(pkcs11.CKA_ALWAYS_AUTHENTICATE, false), Modifiable: a.flag(pkcs11.CKA_MODIFIABLE, true),
	}
	kind := a.number(pkcs11.CKA_KEY_TYPE)
	if a.err != nil {
		return nil, nil, a.err
	}
	if len(k.ID) > 1<<10 || len(k.Label) > 1<<10 {
		return nil, nil, errorf(wire.CodeUnfit, "label or ID of the key is too long")
	}
	public, err := t.public(h, private, kind, k)
	if err != nil {
		return nil, nil, err
	}
	if k.Public, err = x509.MarshalPKIXPublicKey(public); err != nil {
		return nil, nil, errorf(wire.CodeUnfit, "public key: %w", err)
	}
	o := &object{t: t, spki: k.Public, kind: kind}
	if p, ok := public.(*ecdsa.PublicKey); ok {
		o.size = (p.Curve.Params().BitSize + 7) / 8
	}
	o.at.Store(uint64(private))
	return k, o, nil
}

// public reads the public half: of the public key object, which has the ID of
// the private one or, where that has none, its label.
func (t *token) public(h pkcs11.SessionHandle, private pkcs11.ObjectHandle, kind uint, k *wire.Key) (any, error) {
	label, id := k.Label, k.ID
	if len(id) > 0 {
		label = ""
	}
	found, err := t.find(h, pkcs11.CKO_PUBLIC_KEY, label, id)
	if err != nil {
		return nil, err
	}
	from := private // an RSA private key has its public numbers too
	switch {
	case len(found) > 1:
		return nil, errorf(wire.CodeAmbiguous, "more than one public key belongs to the private one")
	case len(found) == 1:
		from = found[0]
	case kind != pkcs11.CKK_RSA:
		return nil, errorf(wire.CodeUnfit, "private key has no public key object")
	}
	a := attributes{t: t, h: h, o: from}
	if kind == pkcs11.CKK_RSA {
		n, e := a.bytes(pkcs11.CKA_MODULUS), a.bytes(pkcs11.CKA_PUBLIC_EXPONENT)
		if a.err != nil {
			return nil, a.err
		}
		return rsaPublic(n, e)
	}
	if other := a.number(pkcs11.CKA_KEY_TYPE); a.err == nil && other != kind {
		return nil, errorf(wire.CodeUnfit, "private and public key are of two kinds")
	}
	params, point := a.bytes(pkcs11.CKA_EC_PARAMS), a.bytes(pkcs11.CKA_EC_POINT)
	if a.err != nil {
		return nil, a.err
	}
	switch kind {
	case pkcs11.CKK_EC:
		return ecPublic(params, point)
	case ckkECEdwards:
		return edPublic(params, point)
	}
	return nil, errorf(wire.CodeUnfit, "unknown kind of key %#x", kind)
}

func rsaPublic(n, e []byte) (any, error) {
	if len(n) == 0 || len(n) > 2048 || len(e) == 0 || len(bytes.TrimLeft(e, "\x00")) > 4 {
		return nil, errorf(wire.CodeUnfit, "RSA modulus or exponent of an unlikely size")
	}
	exponent := new(big.Int).SetBytes(e).Int64()
	if exponent < 3 || exponent > 1<<31-1 || exponent&1 == 0 {
		return nil, errorf(wire.CodeUnfit, "RSA exponent %d", exponent)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
}

// Object identifiers and names of curves in DER, as CKA_EC_PARAMS has them.
var (
	oidP256    = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	oidP384    = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}
	oidEd25519 = []byte{0x06, 0x03, 0x2b, 0x65, 0x70}                                     // RFC 8410
	nameEdward = append([]byte{0x13, 0x0c}, "edwards25519"...)                            // PKCS #11 v3.0 section 2.3.10
	oidEdward  = []byte{0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01} // 1.3.6.1.4.1.11591.15.1, of older tokens
)

func ecPublic(params, point []byte) (any, error) {
	var curve elliptic.Curve
	switch {
	case bytes.Equal(params, oidP256):
		curve = elliptic.P256()
	case bytes.Equal(params, oidP384):
		curve = elliptic.P384()
	default:
		return nil, errorf(wire.CodeUnfit, "elliptic curve is neither P-256 nor P-384")
	}
	p, err := ecdsa.ParseUncompressedPublicKey(curve, unwrap(point, 1+2*((curve.Params().BitSize+7)/8)))
	if err != nil {
		return nil, errorf(wire.CodeUnfit, "point of the public key: %w", err)
	}
	return p, nil
}

func edPublic(params, point []byte) (any, error) {
	if !bytes.Equal(params, oidEd25519) && !bytes.Equal(params, nameEdward) && !bytes.Equal(params, oidEdward) {
		return nil, errorf(wire.CodeUnfit, "Edwards curve is not Ed25519")
	}
	p := unwrap(point, ed25519.PublicKeySize)
	if len(p) != ed25519.PublicKeySize {
		return nil, errorf(wire.CodeUnfit, "point of the public key has %d bytes", len(point))
	}
	return ed25519.PublicKey(p), nil
}

// unwrap takes a point of n bytes out of its OCTET STRING. Some tokens give the
// point bare; the length tells, the first byte (4 in both) does not.
func unwrap(point []byte, n int) []byte {
	if n < 128 && len(point) == n+2 && point[0] == 4 && point[1] == byte(n) {
		return point[2:]
	}
	return point
}

// attributes reads attributes of an object one by one, for tokens that fail all
// for one that they do not know. The first error stays.
type attributes struct {
	t   *token
	h   pkcs11.SessionHandle
	o   pkcs11.ObjectHandle
	err error
}

// get is an attribute's value; nil if the token does not have it.
func (a *attributes) get(kind uint) []byte {
	if a.err != nil {
		return nil
	}
	got, err := a.t.s.lib.GetAttributeValue(a.h, a.o, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil
	}
	if err != nil || len(got) != 1 {
		a.err = fmt.Errorf("C_GetAttributeValue: %w", err)
		return nil
	}
	return got[0].Value
}

func (a *attributes) bytes(kind uint) []byte { return a.get(kind) }

func (a *attributes) flag(kind uint, missing bool) bool {
	if v := a.get(kind); len(v) == 1 {
		return v[0] != 0
	}
	return missing
}

// number is a CK_ULONG, in the machine's order.
func (a *attributes) number(kind uint) uint {
	v := a.get(kind)
	if a.err == nil && len(v) != 8 && len(v) != 4 {
		a.err = errorf(wire.CodeUnfit, "attribute %#x is no number", kind)
	}
	if a.err != nil {
		return 0
	}
	return native(v)
}

// any is some key of the token that was found, or nil.
func (t *token) any() *object {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for _, o := range t.s.keys {
		if o.t == t && !o.gone.Load() && o.handle() != pkcs11.ObjectHandle(ckInvalidHandle) {
			return o
		}
	}
	return nil
}

// forget drops an object's handle; the next signature looks for it again.
func (t *token) forget(o *object) { o.at.Store(uint64(ckInvalidHandle)) }
