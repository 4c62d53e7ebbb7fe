package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
)

// newMark makes what stands for the token in pages until they are sent. It is drawn
// anew with every start, so that nobody can write it into a request.
func newMark() string {
	b := make([]byte, 32)
	rand.Read(b)
	return "csrf" + hex.EncodeToString(b)
}

const tokenSize = 2 * sha256.Size

// Token is a token of the session with this secret: a mask and the masked value, so
// that no two pages have the same bytes (BREACH).
func Token(secret string) string {
	t := make([]byte, tokenSize)
	rand.Read(t[:sha256.Size])
	subtle.XORBytes(t[sha256.Size:], t[:sha256.Size], tokenValue(secret))
	return base64.RawURLEncoding.EncodeToString(t)
}

func tokenValue(secret string) []byte { return derived(secret, "form token") }

// derived is a key that the session's secret gives for one purpose.
func derived(secret, purpose string) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("greatseal console " + purpose + " v1\x00"))
	return m.Sum(nil)
}

func tokenFits(secret, token string) bool {
	t, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(t) != tokenSize || secret == "" {
		return false
	}
	v := make([]byte, sha256.Size)
	subtle.XORBytes(v, t[:sha256.Size], t[sha256.Size:])
	return hmac.Equal(v, tokenValue(secret))
}

// Where a token travels: in a form or, from scripts, in a header.
const (
	tokenField  = "csrf"
	tokenHeader = "X-CSRF-Token"
)

// checkToken wants a token of the very session.
func (v *Visit) checkToken() error {
	refused := Problemf(http.StatusForbidden, "form-token", "load the page again", "the form is of another session, or of none")
	token := v.Request.Header.Get(tokenHeader)
	if token == "" {
		form, err := v.Form()
		if err != nil {
			return err
		}
		if len(form[tokenField]) != 1 {
			return refused
		}
		token = form.Get(tokenField)
	}
	if !tokenFits(v.secret, token) {
		return refused
	}
	return nil
}
