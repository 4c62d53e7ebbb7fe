//go:build cgo && unix

package module

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
)

// coded is an error with the code that the parent is told.
type coded struct {
	code wire.Code
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

func errorf(code wire.Code, format string, args ...any) error {
	return &coded{code, fmt.Errorf(format, args...)}
}

// response is the answer that tells of an error.
func response(err error) *wire.Response {
	var c *coded
	if errors.As(err, &c) {
		return &wire.Response{Code: c.code, Text: err.Error()}
	}
	return &wire.Response{Code: codeOf(err), Text: err.Error()}
}

func codeOf(err error) wire.Code {
	var ckr pkcs11.Error
	if !errors.As(err, &ckr) {
		return wire.CodeFailed
	}
	switch uint(ckr) {
	case pkcs11.CKR_USER_NOT_LOGGED_IN:
		return wire.CodeLogin
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED:
		return wire.CodePIN
	case pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT,
		pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_COUNT,
		pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return wire.CodeUnavailable
	}
	return wire.CodeFailed
}

// is reports whether err is one of the return values.
func is(err error, values ...uint) bool {
	var ckr pkcs11.Error
	if !errors.As(err, &ckr) {
		return false
	}
	for _, v := range values {
		if uint(ckr) == v {
			return true
		}
	}
	return false
}
