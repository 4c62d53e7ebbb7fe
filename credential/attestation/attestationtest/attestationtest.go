// Package attestationtest makes registrations of passkeys for tests: makers with
// certificates of their own, and authenticators in software that register and sign.
//
// The functions panic when they are misused, for they have no way to go on.
package attestationtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("attestationtest: %v", err))
	}
	return v
}

// Maker makes authenticators and vouches for them.
type Maker struct {
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
	from time.Time
	to   time.Time
}

// NewMaker is a maker whose certificates are valid from one time to another one.
func NewMaker(name string, from, to time.Time) *Maker {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"CH"}, Organization: []string{name}, CommonName: name + " Root"},
		NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))
	return &Maker{Root: must(x509.ParseCertificate(der)), key: key, from: from, to: to}
}

// RootText is the maker's root as charters have it.
func (m *Maker) RootText() string { return attestation.RootText(m.Root) }

// How says how a passkey is registered. Its zero value is format none, without a
// model, with the user verified and no backup.
type How struct {
	Format   string // "": none; "packed-self" is packed without a certificate
	Maker    *Maker
	Model    attestation.AAGUID
	Origin   string // "": the key's
	RPID     string // "": the key's
	Type     string // "": webauthn.create
	Clear    byte   // flags that are not set
	Set      byte   // flags that are, besides UP, UV and AT
	Leaf     func(*x509.Certificate)
	State    func(map[string]any) // changes the statement
	Object   func(map[string]any) // changes the attestation object
	After    []byte               // extensions, with Set 0x80
	Swap     *Key                 // whose public key stands in the data
	Client   string               // the whole client data
	CertName string               // the model that the certificate names: "", the true one; "none"; or another one
}

// Key is a passkey whose authenticator is this process: ES256.
type Key struct {
	ID     []byte
	RPID   string
	Origin string
	Synced bool // may be backed up
	key    *ecdsa.PrivateKey
}

// NewKey is a passkey by name: the same name is the same key.
func NewKey(name, rpID, origin string) *Key {
	seed := sha256.Sum256([]byte("greatseal attestationtest " + name))
	id := sha256.Sum256([]byte("greatseal attestationtest id " + name))
	return &Key{ID: id[:], RPID: rpID, Origin: origin, key: must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:]))}
}

// Private is the key itself.
func (k *Key) Private() *ecdsa.PrivateKey { return k.key }

func encode(v any) []byte {
	return must(must(cbor.CTAP2EncOptions().EncMode()).Marshal(v))
}

func (k *Key) point() []byte { return must(k.key.PublicKey.Bytes()) }

func (k *Key) cose() []byte {
	p := k.point()
	return encode(map[int]any{1: 2, 3: -7, -1: 1, -2: p[1:33], -3: p[33:]})
}

// Credential is the passkey as a credential.
func (k *Key) Credential() *credential.Passkey {
	return must(credential.NewPasskey(k.ID, k.cose(), k.RPID, []string{k.Origin}, k.Synced))
}

func clientData(typ string, challenge []byte, origin string) []byte {
	return must(json.Marshal(struct {
		Type        string `json:"type"`
		Challenge   string `json:"challenge"`
		Origin      string `json:"origin"`
		CrossOrigin bool   `json:"crossOrigin"`
	}{typ, base64.RawURLEncoding.EncodeToString(challenge), origin, false}))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Register answers a challenge.
func (k *Key) Register(challenge []byte, how How) (object, client []byte) {
	client = clientData(or(how.Type, "webauthn.create"), challenge, or(how.Origin, k.Origin))
	if how.Client != "" {
		client = []byte(how.Client)
	}
	pub := k
	if how.Swap != nil {
		pub = how.Swap
	}
	flags := byte(0x45)
	if k.Synced {
		flags |= 0x18
	}
	rp := sha256.Sum256([]byte(or(how.RPID, k.RPID)))
	auth := append(rp[:], flags&^how.Clear|how.Set)
	auth = binary.BigEndian.AppendUint32(auth, 0)
	auth = append(auth, how.Model[:]...)
	auth = binary.BigEndian.AppendUint16(auth, uint16(len(k.ID)))
	auth = slices.Concat(auth, k.ID, pub.cose(), how.After)
	h := sha256.Sum256(client)
	format, st := k.statement(how, auth, h, rp)
	if how.State != nil {
		how.State(st)
	}
	o := map[string]any{"fmt": format, "attStmt": st, "authData": auth}
	if how.Object != nil {
		how.Object(o)
	}
	return encode(o), client
}

func sign(key *ecdsa.PrivateKey, message []byte) []byte {
	h := sha256.Sum256(message)
	return must(ecdsa.SignASN1(rand.Reader, key, h[:]))
}

// leaf makes a certificate.
func (m *Maker) leaf(how How, pub crypto.PublicKey, subject pkix.Name, ext ...pkix.Extension) []byte {
	t := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotBefore: m.from, NotAfter: m.to, BasicConstraintsValid: true, ExtraExtensions: ext}
	if how.Leaf != nil {
		how.Leaf(t)
	}
	return must(x509.CreateCertificate(rand.Reader, t, m.Root, pub, m.key))
}

func (how How) model() []pkix.Extension {
	id := how.Model
	switch how.CertName {
	case "none":
		return nil
	case "":
	default:
		id = must(attestation.ParseAAGUID(how.CertName))
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: must(asn1.Marshal(id[:]))}}
}

func (k *Key) statement(how How, auth []byte, client, rp [32]byte) (string, map[string]any) {
	message := slices.Concat(auth, client[:])
	subject := pkix.Name{Country: []string{"CH"}, Organization: []string{"Example Ltd"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Example Key"}
	fresh := func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
	switch how.Format {
	case "", "none":
		return "none", map[string]any{}
	case "packed-self":
		return "packed", map[string]any{"alg": -7, "sig": sign(k.key, message)}
	case "packed":
		key := fresh()
		return "packed", map[string]any{"alg": -7, "sig": sign(key, message), "x5c": [][]byte{how.Maker.leaf(how, key.Public(), subject, how.model()...)}}
	case "fido-u2f":
		key := fresh()
		return "fido-u2f", map[string]any{"sig": sign(key, slices.Concat([]byte{0}, rp[:], client[:], k.ID, k.point())), "x5c": [][]byte{how.Maker.leaf(how, key.Public(), subject)}}
	case "apple":
		nonce := sha256.Sum256(message)
		v := must(asn1.Marshal(struct {
			Value []byte `asn1:"explicit,tag:1"`
		}{nonce[:]}))
		return "apple", map[string]any{"x5c": [][]byte{how.Maker.leaf(how, k.key.Public(), subject, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 8, 2}, Value: v})}}
	case "tpm":
		return "tpm", k.tpm(how, message)
	case "android-key":
		return "android-key", map[string]any{"alg": -7, "sig": sign(k.key, message), "x5c": [][]byte{how.Maker.leaf(how, k.key.Public(), subject, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}, Value: description(client[:])})}}
	}
	return how.Format, map[string]any{"x": 1}
}

// description is that of a key of Android which hardware has made and which signs.
func description(challenge []byte) []byte {
	explicit := func(tag int, inner []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: inner}
	}
	purposes := must(asn1.MarshalWithParams([]int{2}, "set"))
	hard := slices.Concat(must(asn1.Marshal(explicit(1, purposes))), must(asn1.Marshal(explicit(702, must(asn1.Marshal(0))))))
	seq := func(b []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: b}
	}
	return must(asn1.Marshal(struct {
		Version       int
		Security      asn1.Enumerated
		MasterVersion int
		MasterLevel   asn1.Enumerated
		Challenge     []byte
		UniqueID      []byte
		Software      asn1.RawValue
		Hardware      asn1.RawValue
	}{4, 1, 4, 1, challenge, []byte{}, seq(nil), seq(hard)}))
}

func (k *Key) tpm(how How, message []byte) map[string]any {
	sized := func(b, x []byte) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(x))), x...) }
	u16 := func(b []byte, v ...uint16) []byte {
		for _, x := range v {
			b = binary.BigEndian.AppendUint16(b, x)
		}
		return b
	}
	p := k.point()
	area := u16(nil, 0x0023, 0x000b)
	area = append(area, 0, 0, 0, 0)
	area = u16(area, 0)                              // policy
	area = u16(area, 0x0010, 0x0010, 0x0003, 0x0010) // symmetric, scheme, curve, kdf
	area = sized(sized(area, p[1:33]), p[33:])
	name := sha256.Sum256(area)
	extra := sha256.Sum256(message)
	info := binary.BigEndian.AppendUint32(nil, 0xff544347)
	info = u16(info, 0x8017)
	info = sized(sized(info, []byte("signer")), extra[:])
	info = append(info, make([]byte, 17+8)...)
	info = sized(info, append(u16(nil, 0x000b), name[:]...))
	info = sized(info, []byte("qualified"))
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	type attribute struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	var rdns []asn1.RawValue
	for i := range 3 {
		set := must(asn1.MarshalWithParams([]attribute{{asn1.ObjectIdentifier{2, 23, 133, 2, i + 1}, []string{"id:FFFFF1D0", "model", "id:13"}[i]}}, "set"))
		rdns = append(rdns, asn1.RawValue{FullBytes: set})
	}
	dir := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: must(asn1.Marshal(rdns))}
	san := must(asn1.Marshal([]asn1.RawValue{dir}))
	grow := how
	grow.Leaf = func(c *x509.Certificate) {
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}
		if how.Leaf != nil {
			how.Leaf(c)
		}
	}
	der := how.Maker.leaf(grow, key.Public(), pkix.Name{}, append(how.model(), pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: san})...)
	return map[string]any{"ver": "2.0", "alg": -7, "x5c": [][]byte{der}, "sig": sign(key, info), "certInfo": info, "pubArea": area}
}

// Record registers the passkey for a person of a deployment.
func (k *Key) Record(deployment, person string, begun time.Time, how How) attestation.Record {
	nonce := make([]byte, attestation.NonceSize)
	must(rand.Read(nonce))
	begun = begun.UTC().Truncate(time.Second)
	o, c := k.Register(must(attestation.Challenge(deployment, person, begun, nonce)), how)
	return attestation.Record{Object: o, ClientData: c, Begun: begun, Nonce: nonce}
}

// Assert signs a message as navigator.credentials.get does.
func (k *Key) Assert(p credential.Purpose, message []byte) credential.Assertion {
	client := clientData("webauthn.get", must(credential.Challenge(p, message)), k.Origin)
	rp, h := sha256.Sum256([]byte(k.RPID)), sha256.Sum256(client)
	flags := byte(0x05)
	if k.Synced {
		flags |= 0x18
	}
	auth := binary.BigEndian.AppendUint32(append(rp[:], flags), 0)
	return credential.Assertion{AuthenticatorData: auth, ClientDataJSON: client, Signature: sign(k.key, slices.Concat(auth, h[:]))}
}

type signer struct{ k *Key }

func (s signer) Credential() credential.Credential { return s.k.Credential() }

func (s signer) Sign(ctx context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.k.Assert(p, message).Encode()
}

// Signer signs with the passkey.
func (k *Key) Signer() credential.Signer { return signer{k} }
