package tsp

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Status is a PKIStatus (RFC 3161 section 2.4.2).
type Status int

// The statuses; the first two come with a token.
const (
	Granted Status = iota
	GrantedWithMods
	Rejected
	Waiting
	RevocationWarning
	RevocationNotification
)

func (s Status) String() string {
	switch s {
	case Granted:
		return "granted"
	case GrantedWithMods:
		return "granted with modifications"
	case Rejected:
		return "rejection"
	case Waiting:
		return "waiting"
	case RevocationWarning:
		return "revocation warning"
	case RevocationNotification:
		return "revocation notification"
	}
	return fmt.Sprintf("status %d", int(s))
}

// FailInfo is a set of PKIFailureInfo bits: bit n of the BIT STRING is 1<<n.
type FailInfo uint32

// The failures that RFC 3161 names.
const (
	FailBadAlg              FailInfo = 1 << 0
	FailBadRequest          FailInfo = 1 << 2
	FailBadDataFormat       FailInfo = 1 << 5
	FailTimeNotAvailable    FailInfo = 1 << 14
	FailUnacceptedPolicy    FailInfo = 1 << 15
	FailUnacceptedExtension FailInfo = 1 << 16
	FailAddInfoNotAvailable FailInfo = 1 << 17
	FailSystemFailure       FailInfo = 1 << 25
)

func (f FailInfo) String() string {
	var names []string
	for _, n := range []struct {
		bit  FailInfo
		name string
	}{
		{FailBadAlg, "badAlg"}, {FailBadRequest, "badRequest"}, {FailBadDataFormat, "badDataFormat"},
		{FailTimeNotAvailable, "timeNotAvailable"}, {FailUnacceptedPolicy, "unacceptedPolicy"},
		{FailUnacceptedExtension, "unacceptedExtension"}, {FailAddInfoNotAvailable, "addInfoNotAvailable"},
		{FailSystemFailure, "systemFailure"},
	} {
		if f&n.bit != 0 {
			names = append(names, n.name)
			f &^= n.bit
		}
	}
	if f != 0 {
		names = append(names, fmt.Sprintf("bits %#x", uint32(f)))
	}
	return strings.Join(names, ", ")
}

// Rejection is an error that an authority answers with a refusal.
type Rejection struct {
	Fail FailInfo
	Err  error
}

func (r *Rejection) Error() string { return r.Err.Error() }

// Unwrap gives the reason.
func (r *Rejection) Unwrap() error { return r.Err }

// Response is the refusal that says it.
func (r *Rejection) Response() []byte { return Refuse(Rejected, r.Fail) }

// StatusError is a response that refuses. Text is what the authority wrote, with
// unprintable characters taken out.
type StatusError struct {
	Status Status
	Fail   FailInfo
	Text   []string
}

func (e *StatusError) Error() string {
	s := "tsp: the authority answered " + e.Status.String()
	if e.Fail != 0 {
		s += " (" + e.Fail.String() + ")"
	}
	if len(e.Text) != 0 {
		s += ": " + strings.Join(e.Text, "; ")
	}
	return s
}

// Temporary reports whether the same request may be granted later.
func (e *StatusError) Temporary() bool {
	return e.Status == Waiting || e.Fail&(FailTimeNotAvailable|FailSystemFailure) != 0
}

// Refuse gives a response without token, with words if there are any. A granting
// status becomes a rejection: there is nothing to grant.
func Refuse(status Status, fail FailInfo, text ...string) []byte {
	if status <= GrantedWithMods || status > RevocationNotification {
		status = Rejected
	}
	clean := make([]string, len(text))
	for i, t := range text {
		clean[i] = printable(t)
	}
	// Built from valid parts of bounded length: encoding cannot fail.
	der, err := encodeResponse(status, clean, fail, nil)
	if err != nil {
		panic(err)
	}
	return der
}

const (
	maxText  = 512 // bytes of one status string
	maxTexts = 16
)

// printable makes foreign text fit for a log line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	for len(s) > maxText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func encodeResponse(status Status, text []string, fail FailInfo, token []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(int64(status))
			if len(text) != 0 {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, t := range text[:min(len(text), maxTexts)] {
						b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(t)) })
					}
				})
			}
			if fail != 0 {
				b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes(fail.bits()) })
			}
		})
		b.AddBytes(token)
	})
	return b.Bytes()
}

// bits gives the contents of a named BIT STRING: no trailing zero bits (X.690
// section 11.2.2).
func (f FailInfo) bits() []byte {
	n := bits.Len32(uint32(f))
	out := make([]byte, 1+(n+7)/8)
	out[0] = byte((8 - n%8) % 8)
	for i := range n {
		if f&(1<<i) != 0 {
			out[1+i/8] |= 0x80 >> (i % 8)
		}
	}
	return out
}

// ParseResponse reads a TimeStampResp and its token, which is not verified. A
// refusal is a *StatusError.
func ParseResponse(der []byte) (*Token, error) {
	if len(der) > MaxSize {
		return nil, syntax("response too long")
	}
	s := cryptobyte.String(der)
	var resp, info cryptobyte.String
	var status int
	if !s.ReadASN1(&resp, cbasn1.SEQUENCE) || !s.Empty() ||
		!resp.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&status) {
		return nil, syntax("response")
	}
	e := &StatusError{Status: Status(status)}
	if err := e.read(&info); err != nil {
		return nil, err
	}
	if e.Status != Granted && e.Status != GrantedWithMods {
		if !resp.Empty() {
			return nil, fmt.Errorf("%w (%w)", syntax("refusal with a token"), e)
		}
		return nil, e
	}
	if resp.Empty() {
		return nil, syntax("granted without a token")
	}
	return ParseToken(resp)
}

func (e *StatusError) read(info *cryptobyte.String) error {
	var texts, failure cryptobyte.String
	var hasText, hasFail bool
	if !info.ReadOptionalASN1(&texts, &hasText, cbasn1.SEQUENCE) ||
		!info.ReadOptionalASN1(&failure, &hasFail, cbasn1.BIT_STRING) || !info.Empty() {
		return syntax("status")
	}
	for !texts.Empty() {
		var t cryptobyte.String
		if !texts.ReadASN1(&t, cbasn1.UTF8String) || len(e.Text) == maxTexts {
			return syntax("status text")
		}
		e.Text = append(e.Text, printable(string(t)))
	}
	if !hasFail {
		return nil
	}
	// Some authorities leave trailing zero bits; their meaning is the same.
	if len(failure) < 1 || len(failure) > 5 || failure[0] > 7 || len(failure) == 1 && failure[0] != 0 {
		return syntax("failure")
	}
	for i, octet := range failure[1:] {
		e.Fail |= FailInfo(bits.Reverse8(octet)) << (8 * i)
	}
	return nil
}

// AsRejection finds the refusal that an error asks for: its own, or a system
// failure that tells nothing of what went wrong.
func AsRejection(err error) *Rejection {
	var r *Rejection
	if errors.As(err, &r) {
		return r
	}
	return &Rejection{Fail: FailSystemFailure, Err: err}
}
