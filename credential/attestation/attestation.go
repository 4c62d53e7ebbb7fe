// Package attestation checks the registration of a passkey (WebAuthn Level 3
// section 7.1): that it answers a challenge, for a relying party and from an origin,
// that its user was there and was verified, and what its authenticator's maker says
// of it (section 8).
//
// # Records
//
// A registration is kept as a [Record]: what the browser returned, and what its
// challenge was made of. In a charter, and wherever else it travels, it is the
// unpadded base64url of the deterministic CBOR (RFC 8949 section 4.2.1) of
//
//	{1: attestationObject, 2: clientDataJSON, 3: begun, in seconds since 1970, 4: nonce}
//
// The challenge is the SHA-256 of
//
//	"greatseal passkey v1\n" deployment "\n" person "\n" begun "\n" nonce
//
// with begun as in RFC 3339, in UTC, and the nonce's 32 bytes in lower-case
// hexadecimal. So the authenticator itself commits to the deployment, the person and
// the time, where its format signs anything at all.
//
// # Formats
//
// packed (certificate and self attestation), fido-u2f, apple, tpm and android-key are
// verified. Format none says nothing. Of every other format [Registration.Result] is
// [Unverified], never more.
//
// # Invariants
//
//  1. A [Registration] comes from [Check] alone, which has compared its challenge,
//     origin, relying party and flags, and has verified its statement, if its format
//     is one of those above.
//  2. [Model] is the result of a registration whose certificate ends in one of the
//     roots that the caller gave, at the time that he gave, and of no other.
//  3. A statement that is wrong is an error, also where nobody asks for one; a
//     certificate of other roots is none, and a result of its own.
//  4. What is accepted of a record's text re-encodes to itself.
//  5. Parsers allocate in proportion to their input, refuse what is too long, and
//     never panic, whatever the input.
//
// The package is pure: no files, no network, no clock, no randomness.
//
// # What a caller may not conclude
//
// An attestation says of what make an authenticator is, if its maker's keys are
// still his own. It never says whose it is: whoever bought the same model has one
// that is as good. Transports are the browser's word. A key of a software
// authenticator under format none, or self, is anybody's.
package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/internal/cborform"
	"github.com/greatseal-io/greatseal/credential/internal/clientdata"
)

// ErrRegistration is wrapped by every error about a registration.
var ErrRegistration = errors.New("attestation: registration refused")

// The limits of a registration's parts, in bytes.
const (
	MaxObject     = 16 << 10
	MaxClientData = 8 << 10
	NonceSize     = 32
	maxAuthData   = 8 << 10
	maxChain      = 5    // certificates of one statement
	maxRSA        = 4096 // bits of a certificate's key
	MaxRoots      = 32
)

// The flags of authenticator data, section 6.1.
const (
	flagUP = 0x01 // user present
	flagUV = 0x04 // user verified
	flagBE = 0x08 // backup eligible
	flagBS = 0x10 // backup state
	flagAT = 0x40 // attested credential data included
	flagED = 0x80 // extension data included
)

// Result is what of a registration is attested.
type Result string

// The results, from nothing to all.
const (
	None       Result = "none"       // the authenticator says nothing
	Unverified Result = "unverified" // in a format, or by an algorithm, that is not verified here
	Self       Result = "self"       // signed with the passkey itself: it says that somebody holds it
	Unrooted   Result = "unrooted"   // signed with a certificate that ends in none of the roots
	Model      Result = "model"      // signed with a certificate of the roots: the model is what it says
)

// Expect is what a registration is compared with.
type Expect struct {
	Challenge    []byte
	RelyingParty string
	Origins      []string // that the credential may be used from; the registration came from one of them
	Transports   []string // that the browser names; nobody vouches for them

	Roots []*x509.Certificate // of the makers; none: no certificate is of a root
	At    time.Time           // when the certificates are to be valid
}

// Registration is a registration that was checked. Its zero value is none.
type Registration struct {
	cred       *credential.Passkey
	aaguid     AAGUID
	format     string
	result     Result
	why        string
	flags      byte
	transports []string
	leaf       *x509.Certificate
}

// Credential is the passkey.
func (r *Registration) Credential() *credential.Passkey { return r.cred }

// AAGUID names the model as far as Result says that it is one: zero for none.
func (r *Registration) AAGUID() AAGUID { return r.aaguid }

// Format is that of the attestation statement: "packed".
func (r *Registration) Format() string { return r.format }

// Result is what is attested.
func (r *Registration) Result() Result { return r.result }

// Why says why the result is not Model, or is empty.
func (r *Registration) Why() string { return r.why }

// BackupEligible says that the passkey may be copied to other devices.
func (r *Registration) BackupEligible() bool { return r.flags&flagBE != 0 }

// BackedUp says that it was when it was registered.
func (r *Registration) BackedUp() bool { return r.flags&flagBS != 0 }

// UserVerified is true: nothing else is accepted.
func (r *Registration) UserVerified() bool { return r.flags&flagUV != 0 }

// Transports are the browser's word on how the authenticator is reached, sorted.
func (r *Registration) Transports() []string { return slices.Clone(r.transports) }

// Maker is the subject of the attestation's certificate, or empty.
func (r *Registration) Maker() string {
	if r.leaf == nil {
		return ""
	}
	return r.leaf.Issuer.String()
}

// String is the result for people, on one line.
func (r *Registration) String() string {
	switch r.result {
	case Unverified:
		return "unverified " + r.format + ": " + r.why
	case Model:
		return "attested (" + r.format + ")"
	case Unrooted:
		return "not attested: " + r.why
	case Self:
		return "self attestation: it says nothing of the model"
	}
	return "none"
}

// Demand is what an attestation has to be.
type Demand struct {
	Models []AAGUID // one of them; none: any whose certificate is of the roots
}

// Meets says why r is not attested as demanded; nil: it is. A format that does not
// sign the model and the flags never meets a demand.
func (r *Registration) Meets(d Demand) error {
	switch {
	case r == nil || r.cred == nil:
		return refuse("there is none")
	case r.result != Model:
		return refuse("a certificate of the roots is required: %s", r)
	case r.format == "fido-u2f" || r.aaguid == (AAGUID{}):
		return refuse("format %s names no model", r.format)
	case len(d.Models) > 0 && !slices.Contains(d.Models, r.aaguid):
		return refuse("model %s is not one of those that are allowed", r.aaguid)
	}
	return nil
}

// Check checks the registration with this attestationObject and clientDataJSON. The
// error wraps [ErrRegistration].
func Check(object, clientDataJSON []byte, e Expect) (*Registration, error) {
	if n := len(clientDataJSON); n == 0 || n > MaxClientData {
		return nil, refuse("client data of %d bytes: want 1 to %d", n, MaxClientData)
	}
	if len(e.Challenge) == 0 || len(e.Roots) > MaxRoots {
		return nil, refuse("want a challenge, and at most %d roots", MaxRoots)
	}
	if err := checkClient(clientDataJSON, e); err != nil {
		return nil, refuse("client data: %w", err)
	}
	o, err := parseObject(object)
	if err != nil {
		return nil, refuse("%w", err)
	}
	a, err := parseAuthData(o.AuthData)
	if err != nil {
		return nil, refuse("authenticator data: %w", err)
	}
	if err := a.check(e.RelyingParty); err != nil {
		return nil, refuse("authenticator data: %w", err)
	}
	cred, err := credential.NewPasskey(a.id, a.key, e.RelyingParty, e.Origins, a.flags&flagBE != 0)
	if err != nil {
		return nil, refuse("%w", err)
	}
	transports, err := checkTransports(e.Transports)
	if err != nil {
		return nil, refuse("%w", err)
	}
	s := &signed{auth: o.AuthData, client: sha256.Sum256(clientDataJSON), data: a, cred: cred}
	st, err := s.verify(o.Format, o.Statement)
	if err != nil {
		return nil, refuse("format %s: %w", o.Format, err)
	}
	r := &Registration{cred: cred, aaguid: a.aaguid, format: o.Format, result: st.result, why: st.why, flags: a.flags, transports: transports}
	if o.Format == "fido-u2f" {
		r.aaguid = AAGUID{} // nothing signs it
	}
	if st.result == Model {
		r.leaf = st.chain[0]
		if err := rooted(st.chain, e.Roots, e.At); err != nil {
			r.result, r.why = Unrooted, err.Error()
		}
	}
	return r, nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRegistration, fmt.Errorf(format, args...))
}

func checkClient(b []byte, e Expect) error {
	d, err := clientdata.Parse(b)
	switch {
	case err != nil:
		return err
	case d.Type != "webauthn.create":
		return fmt.Errorf("type %.40q: want webauthn.create", d.Type)
	case d.Challenge != base64.RawURLEncoding.EncodeToString(e.Challenge):
		return errors.New("challenge is not the one that was given")
	case !slices.Contains(e.Origins, d.Origin):
		return fmt.Errorf("origin %.120q is not one of the relying party's", d.Origin)
	}
	return nil
}

// authData is authenticator data of a registration, section 6.1.
type authData struct {
	rp     [32]byte
	flags  byte
	aaguid AAGUID
	id     []byte
	key    []byte // COSE_Key
}

func parseAuthData(b []byte) (*authData, error) {
	const fixed = 32 + 1 + 4 + 16 + 2
	if len(b) > maxAuthData {
		return nil, fmt.Errorf("%d bytes: want at most %d", len(b), maxAuthData)
	}
	if len(b) < 37 || b[32]&flagAT == 0 {
		return nil, errors.New("there is no attested credential data")
	}
	if len(b) < fixed {
		return nil, errors.New("cut short")
	}
	a := &authData{rp: [32]byte(b[:32]), flags: b[32], aaguid: AAGUID(b[37:53])}
	n, rest := int(binary.BigEndian.Uint16(b[53:])), b[fixed:]
	if n == 0 || n > 1023 || n > len(rest) {
		return nil, fmt.Errorf("credential id of %d bytes", n)
	}
	a.id, rest = rest[:n], rest[n:]
	after, err := cborform.AfterFirst(rest)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	a.key, rest = rest[:len(rest)-len(after)], after
	if a.flags&flagED == 0 {
		if len(rest) != 0 {
			return nil, errors.New("bytes after the end")
		}
		return a, nil
	}
	if err := checkExtensions(rest); err != nil {
		return nil, fmt.Errorf("extensions: %w", err)
	}
	return a, nil
}

// check holds the flags to what they may be together, and the hash to the relying
// party.
func (a *authData) check(rp string) error {
	if a.rp != sha256.Sum256([]byte(rp)) {
		return errors.New("made for another relying party")
	}
	switch {
	case a.flags&flagUP == 0:
		return errors.New("user was not present")
	case a.flags&flagUV == 0:
		return errors.New("user was not verified")
	case a.flags&^(flagUP|flagUV|flagBE|flagBS|flagAT|flagED) != 0:
		return fmt.Errorf("flags %#02x: reserved ones are set", a.flags)
	case a.flags&flagBS != 0 && a.flags&flagBE == 0:
		return errors.New("backed up without being eligible")
	}
	return nil
}

// transportNames are AuthenticatorTransport, section 5.8.4.
var transportNames = []string{"ble", "hybrid", "internal", "nfc", "smart-card", "usb"}

// checkTransports keeps those that are known: browsers may add others.
func checkTransports(in []string) ([]string, error) {
	if len(in) > 16 {
		return nil, errors.New("more transports than there are")
	}
	var out []string
	for _, t := range transportNames {
		if slices.Contains(in, t) {
			out = append(out, t)
		}
	}
	return out, nil
}

// Record is a registration as it is kept; see the package comment.
type Record struct {
	Object     []byte    // attestationObject
	ClientData []byte    // clientDataJSON
	Begun      time.Time // when the challenge was made, in whole seconds
	Nonce      []byte    // 32 bytes
}

type recordForm struct {
	Object     []byte `cbor:"1,keyasint"`
	ClientData []byte `cbor:"2,keyasint"`
	Begun      int64  `cbor:"3,keyasint"`
	Nonce      []byte `cbor:"4,keyasint"`
}

// latest is the last second that RFC 3339 can write.
const latest = 253402300799

func (f *recordForm) check() error {
	switch {
	case len(f.Object) == 0 || len(f.Object) > MaxObject:
		return refuse("attestation object of %d bytes: want 1 to %d", len(f.Object), MaxObject)
	case len(f.ClientData) == 0 || len(f.ClientData) > MaxClientData:
		return refuse("client data of %d bytes: want 1 to %d", len(f.ClientData), MaxClientData)
	case len(f.Nonce) != NonceSize:
		return refuse("nonce of %d bytes: want %d", len(f.Nonce), NonceSize)
	case f.Begun <= 0 || f.Begun > latest:
		return refuse("begun at no time")
	}
	return nil
}

// MaxText is the longest text of a record, in bytes.
const MaxText = (MaxObject + MaxClientData + 128) * 4 / 3

// Text writes the record.
func (r Record) Text() (string, error) {
	f := recordForm{r.Object, r.ClientData, r.Begun.Unix(), r.Nonce}
	if err := f.check(); err != nil {
		return "", err
	}
	b, err := cborform.Encode(f)
	if err != nil {
		return "", refuse("%w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// ParseRecord reads a record's text, strictly. It verifies nothing.
func ParseRecord(text string) (Record, error) {
	if len(text) > MaxText {
		return Record{}, refuse("text of %d bytes: want at most %d", len(text), MaxText)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodeToString(b) != text {
		return Record{}, refuse("bad base64")
	}
	var f recordForm
	if err := cborform.Decode(b, &f); err != nil {
		return Record{}, refuse("%w", err)
	}
	if err := f.check(); err != nil {
		return Record{}, err
	}
	return Record{Object: f.Object, ClientData: f.ClientData, Begun: time.Unix(f.Begun, 0).UTC(), Nonce: f.Nonce}, nil
}

// Challenge is what the registration of a person's passkey in a deployment answers.
func Challenge(deployment, person string, begun time.Time, nonce []byte) ([]byte, error) {
	if strings.ContainsAny(deployment+person, "\n") || deployment == "" || person == "" || len(nonce) != NonceSize {
		return nil, refuse("challenge: want a deployment, a person and %d bytes", NonceSize)
	}
	h := sha256.Sum256([]byte("greatseal passkey v1\n" + deployment + "\n" + person + "\n" + begun.UTC().Truncate(time.Second).Format(time.RFC3339) + "\n" + hex.EncodeToString(nonce)))
	return h[:], nil
}

// Check checks the record as the registration of this passkey by this person in
// this deployment. Certificates are to be valid when it was begun: those of some
// makers last for days.
func (r Record) Check(deployment, person string, c *credential.Passkey, roots []*x509.Certificate) (*Registration, error) {
	challenge, err := Challenge(deployment, person, r.Begun, r.Nonce)
	if err != nil {
		return nil, err
	}
	reg, err := Check(r.Object, r.ClientData, Expect{Challenge: challenge, RelyingParty: c.RPID(), Origins: c.Origins(), Roots: roots, At: r.Begun})
	if err != nil {
		return nil, err
	}
	if got := reg.Credential(); got.Text() != c.Text() || !bytes.Equal(got.COSEKey(), c.COSEKey()) {
		return nil, refuse("is of another passkey: %s", got.ID())
	}
	return reg, nil
}
