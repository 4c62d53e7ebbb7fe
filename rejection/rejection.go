// Package rejection names the reasons for which a record, an order or an update is
// refused. The same codes stand on agents, on servers, in logs and in the console.
//
// Invariants:
//
//  1. Every refusal of the packages that judge records is an [*Error]: its code says
//     what failed, Subject which field, parameter, attachment or rule.
//  2. An Error holds names, never values: a field's content, a parameter's value, a
//     credential do not stand in it, and its text is one line whatever was hostile.
package rejection

import (
	"errors"
	"slices"
	"strings"
	"unicode"
)

// Code is a reason.
type Code string

// The reasons.
const (
	SigMissing           Code = "SIG_MISSING"
	SigMalformed         Code = "SIG_MALFORMED"
	SigInvalid           Code = "SIG_INVALID" // the key did not sign this
	AlgNotAllowed        Code = "ALG_NOT_ALLOWED"
	CertUnknown          Code = "CERT_UNKNOWN"
	CertUntrusted        Code = "CERT_UNTRUSTED"
	CertExpiredAtSigning Code = "CERT_EXPIRED_AT_SIGNING"
	CertRevoked          Code = "CERT_REVOKED"
	KeyCompromised       Code = "KEY_COMPROMISED"
	PurposeMismatch      Code = "PURPOSE_MISMATCH"
	WildcardNotAllowed   Code = "WILDCARD_NOT_ALLOWED"
	AudienceMismatch     Code = "AUDIENCE_MISMATCH"
	RecordMismatch       Code = "RECORD_MISMATCH"
	FieldChanged         Code = "FIELD_CHANGED"
	FieldUncovered       Code = "FIELD_UNCOVERED"
	AttachmentChanged    Code = "ATTACHMENT_CHANGED"
	AttachmentMissing    Code = "ATTACHMENT_MISSING"
	AttachmentExtra      Code = "ATTACHMENT_EXTRA"
	ConfigOutdated       Code = "CONFIG_OUTDATED"
	RevisionRollback     Code = "REVISION_ROLLBACK"
	NotYetValid          Code = "NOT_YET_VALID"
	Expired              Code = "EXPIRED"
	OrderMalformed       Code = "ORDER_MALFORMED"
	OrderUnsigned        Code = "ORDER_UNSIGNED"
	OrderExpired         Code = "ORDER_EXPIRED"
	OrderReplayed        Code = "ORDER_REPLAYED"
	WrongAgent           Code = "WRONG_AGENT"
	ParamNotAllowed      Code = "PARAM_NOT_ALLOWED"
	ParamMissing         Code = "PARAM_MISSING"
	FirewallDenied       Code = "FIREWALL_DENIED"
	TrustStoreStale      Code = "TRUST_STORE_STALE"
	ClockBackwards       Code = "CLOCK_BACKWARDS"
	PayloadMalformed     Code = "PAYLOAD_MALFORMED"
	PayloadTooLarge      Code = "PAYLOAD_TOO_LARGE"
	ExtraOperation       Code = "PAYLOAD_EXTRA_OPERATION"
	ActionMismatch       Code = "ACTION_MISMATCH"
	DependencyUnsigned   Code = "DEPENDENCY_UNSIGNED"
	DeleteUnsigned       Code = "DELETE_UNSIGNED"
	NotProtected         Code = "NOT_PROTECTED" // signing asked of, or enforcement changed on, an instance that may not
)

// Codes lists every reason in the order above.
func Codes() []Code {
	return []Code{SigMissing, SigMalformed, SigInvalid, AlgNotAllowed, CertUnknown, CertUntrusted, CertExpiredAtSigning, CertRevoked,
		KeyCompromised, PurposeMismatch, WildcardNotAllowed, AudienceMismatch, RecordMismatch, FieldChanged, FieldUncovered,
		AttachmentChanged, AttachmentMissing, AttachmentExtra, ConfigOutdated, RevisionRollback, NotYetValid, Expired, OrderMalformed,
		OrderUnsigned, OrderExpired, OrderReplayed, WrongAgent, ParamNotAllowed, ParamMissing, FirewallDenied, TrustStoreStale,
		ClockBackwards, PayloadMalformed, PayloadTooLarge, ExtraOperation, ActionMismatch, DependencyUnsigned, DeleteUnsigned, NotProtected}
}

// Valid reports whether c is one of Codes.
func (c Code) Valid() bool { return slices.Contains(Codes(), c) }

// Error is one refusal.
type Error struct {
	Code    Code   `json:"code"`
	Subject string `json:"subject,omitzero"` // the field, attachment, parameter or rule; a name, never a value
	Detail  string `json:"detail,omitzero"`  // for people; names and digests, never values
}

// New is a refusal; subject and detail are cut to one line of bounded length.
func New(c Code, subject, detail string) *Error {
	return &Error{Code: c, Subject: line(subject, 200), Detail: line(detail, 500)}
}

// Error is "CODE(subject): detail".
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Subject != "" {
		s += "(" + e.Subject + ")"
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Is makes errors.Is(err, &Error{Code: c}) ask for the code alone, and with a
// Subject for both.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Subject == "" || t.Subject == e.Subject)
}

// Of returns the refusal in err, or nil.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// line keeps what is printable, so that a hostile name forges no second line of a
// log and turns no direction of text.
func line(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
