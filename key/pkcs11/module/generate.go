//go:build cgo && unix

package module

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
	"github.com/greatseal-io/greatseal/sigalg"
)

// recipe is how a token makes a kind of key: the first of the alternatives that
// it knows.
type recipe struct {
	mechanism    uint
	alternatives [][]*pkcs11.Attribute // of the public key
}

func recipeOf(k sigalg.Key) (recipe, bool) {
	modulus := func(bits int) recipe {
		return recipe{pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, [][]*pkcs11.Attribute{{
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		}}}
	}
	curve := func(m uint, params ...[]byte) recipe {
		r := recipe{mechanism: m}
		for _, p := range params {
			r.alternatives = append(r.alternatives, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p)})
		}
		return r
	}
	switch k {
	case sigalg.RSA3072:
		return modulus(3072), true
	case sigalg.RSA4096:
		return modulus(4096), true
	case sigalg.P256:
		return curve(pkcs11.CKM_EC_KEY_PAIR_GEN, oidP256), true
	case sigalg.P384:
		return curve(pkcs11.CKM_EC_KEY_PAIR_GEN, oidP384), true
	case sigalg.Ed25519:
		return curve(ckmECEdwardsKeyPairGen, oidEd25519, nameEdward, oidEdward), true
	}
	return recipe{}, false
}

// generate makes a key pair whose label and ID are free.
func (t *token) generate(q *wire.Request) *wire.Response {
	return t.readWrite(func(h pkcs11.SessionHandle) (*wire.Response, error) {
		r, ok := recipeOf(sigalg.Key(q.Algorithm))
		if !ok {
			return nil, errorf(wire.CodeFailed, "tokens make no keys of kind %q", q.Algorithm)
		}
		if q.Object == "" || len(q.ObjectID) == 0 {
			return nil, errorf(wire.CodeFailed, "a key needs a label and an ID")
		}
		if err := t.login(h); err != nil {
			return nil, err
		}
		if err := t.free(h, q.Object, q.ObjectID, 0); err != nil {
			return nil, err
		}
		public, private, err := t.pair(h, r, q.Object, q.ObjectID)
		if err != nil {
			return nil, err
		}
		made, err := t.check(h, q.Object, q.ObjectID, private)
		if err != nil { // a key that is not what was asked for is not kept
			_ = t.s.lib.DestroyObject(h, private)
			_ = t.s.lib.DestroyObject(h, public)
			return nil, err
		}
		return made, nil
	})
}

// free checks that no key has the label, nor the ID, but for one pair.
func (t *token) free(h pkcs11.SessionHandle, label string, id []byte, but int) error {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		for _, by := range []struct {
			label string
			id    []byte
		}{{label: label}, {id: id}} {
			found, err := t.find(h, class, by.label, by.id)
			if err != nil {
				return err
			}
			if len(found) > but {
				return errorf(wire.CodeExists, "label or ID is taken on the token")
			}
		}
	}
	return nil
}

// pair makes a key pair. The private key can sign, and nothing else; where a
// token knows how, that cannot be changed later.
func (t *token) pair(h pkcs11.SessionHandle, r recipe, label string, id []byte) (public, private pkcs11.ObjectHandle, err error) {
	flag := pkcs11.NewAttribute
	for _, kind := range r.alternatives {
		for _, fixed := range []bool{true, false} {
			pub := append([]*pkcs11.Attribute{
				flag(pkcs11.CKA_TOKEN, true), flag(pkcs11.CKA_LABEL, label), flag(pkcs11.CKA_ID, id),
				flag(pkcs11.CKA_VERIFY, true), flag(pkcs11.CKA_ENCRYPT, false), flag(pkcs11.CKA_WRAP, false),
			}, kind...)
			priv := []*pkcs11.Attribute{
				flag(pkcs11.CKA_TOKEN, true), flag(pkcs11.CKA_PRIVATE, true), flag(pkcs11.CKA_LABEL, label), flag(pkcs11.CKA_ID, id),
				flag(pkcs11.CKA_SENSITIVE, true), flag(pkcs11.CKA_EXTRACTABLE, false),
				flag(pkcs11.CKA_SIGN, true), flag(pkcs11.CKA_DECRYPT, false), flag(pkcs11.CKA_UNWRAP, false),
				flag(pkcs11.CKA_DERIVE, false), flag(pkcs11.CKA_SIGN_RECOVER, false),
			}
			if fixed {
				pub, priv = append(pub, flag(pkcs11.CKA_MODIFIABLE, false)), append(priv, flag(pkcs11.CKA_MODIFIABLE, false))
			}
			public, private, err = t.s.lib.GenerateKeyPair(h, []*pkcs11.Mechanism{pkcs11.NewMechanism(r.mechanism, nil)}, pub, priv)
			if err == nil {
				return public, private, nil
			}
			if !is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT,
				pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_CURVE_NOT_SUPPORTED, pkcs11.CKR_DOMAIN_PARAMS_INVALID,
				pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_ARGUMENTS_BAD) {
				return 0, 0, fmt.Errorf("C_GenerateKeyPair: %w", err)
			}
		}
	}
	return 0, 0, fmt.Errorf("C_GenerateKeyPair: %w", err)
}

// check reads a key that was made, and that no other process made its namesake
// at the same time.
func (t *token) check(h pkcs11.SessionHandle, label string, id []byte, private pkcs11.ObjectHandle) (*wire.Response, error) {
	if err := t.free(h, label, id, 1); err != nil {
		return nil, err
	}
	made, err := t.open(h, label, id, false)
	if err != nil {
		return nil, err
	}
	if !made.Key.AlwaysSensitive || !made.Key.NeverExtractable || !made.Key.Local {
		return nil, errorf(wire.CodeUnfit, "token made a key that it does not call its own")
	}
	return made, nil
}

// destroy destroys a key pair, the private key first: what an interruption
// leaves is a public key, which the next attempt finds.
func (t *token) destroy(q *wire.Request) *wire.Response {
	return t.readWrite(func(h pkcs11.SessionHandle) (*wire.Response, error) {
		if err := t.login(h); err != nil {
			return nil, err
		}
		label, id := q.Object, q.ObjectID
		private, err := t.find(h, pkcs11.CKO_PRIVATE_KEY, label, id)
		if err != nil {
			return nil, err
		}
		if len(private) > 1 {
			return nil, errorf(wire.CodeAmbiguous, "more than one private key has this label and ID")
		}
		if len(private) == 1 {
			// The public key is the one that belongs to the private one.
			a := attributes{t: t, h: h, o: private[0]}
			if own := a.bytes(pkcs11.CKA_ID); a.err != nil {
				return nil, a.err
			} else if len(own) > 0 {
				label, id = "", own
			}
		}
		public, err := t.find(h, pkcs11.CKO_PUBLIC_KEY, label, id)
		if err != nil {
			return nil, err
		}
		if len(public) > 1 {
			return nil, errorf(wire.CodeAmbiguous, "more than one public key belongs to the private one")
		}
		if len(private)+len(public) == 0 {
			return nil, errorf(wire.CodeNotFound, "no such object")
		}
		for _, o := range append(private, public...) {
			// Before, for the handle may be given to another object at once.
			t.destroyed(o, true)
			if err := t.s.lib.DestroyObject(h, o); err != nil {
				t.destroyed(o, false)
				return nil, fmt.Errorf("C_DestroyObject: %w", err)
			}
		}
		return &wire.Response{}, nil
	})
}
