package attestation

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/greatseal-io/greatseal/credential"
)

// Fingerprint tells passkeys apart for people who read them to each other: the first
// 120 bits of the SHA-256 of
//
//	"greatseal passkey fingerprint v1\n" SHA-256(credential id) SHA-256(COSE_Key)
//
// in six groups of four characters of Crockford's base32, which has no I, L, O and U.
// Unlike the ID it commits to the key: another key under the same ID has another one.
func Fingerprint(c *credential.Passkey) string {
	id, key := sha256.Sum256(c.CredentialID()), sha256.Sum256(c.COSEKey())
	h := sha256.New()
	h.Write([]byte("greatseal passkey fingerprint v1\n"))
	h.Write(id[:])
	h.Write(key[:])
	s := base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:15])
	var groups []string
	for ; s != ""; s = s[4:] {
		groups = append(groups, s[:4])
	}
	return strings.Join(groups, " ")
}
