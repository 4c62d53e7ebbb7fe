package attestation

import (
	"encoding/hex"
	"slices"
	"strings"
)

// AAGUID names a model of authenticator (section 6.5.1).
type AAGUID [16]byte

// ParseAAGUID reads the form of RFC 9562 section 4, in lower case.
func ParseAAGUID(s string) (AAGUID, error) {
	var a AAGUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(a) {
		return a, refuse("%.60q is no AAGUID: want one like 2fc0579f-8113-47ea-b116-bb5a8db9202a", s)
	}
	if a = AAGUID(b); a.String() != s {
		return AAGUID{}, refuse("%.60q is no AAGUID in its one form: want %s", s, a)
	}
	return a, nil
}

// String is the form of RFC 9562.
func (a AAGUID) String() string {
	s := hex.EncodeToString(a[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// IsZero reports whether a names no model.
func (a AAGUID) IsZero() bool { return a == AAGUID{} }

// known are models that people meet. The names follow the makers' lists:
// support.yubico.com ("YubiKey Hardware FIDO2 AAGUIDs"), the FIDO Metadata Service
// (mds3.fidoalliance.org) and, for what keeps passkeys in software, the list
// passkeydeveloper/passkey-authenticator-aaguids. They are for reading: nothing is
// decided by a name.
var known = []struct{ id, name string }{
	{"08987058-cadc-4b81-b6e1-30de50dcbe96", "Windows Hello (hardware)"},
	{"2fc0579f-8113-47ea-b116-bb5a8db9202a", "YubiKey 5 with NFC (firmware 5.2, 5.4)"},
	{"531126d6-e717-415c-9320-3d9aa6981239", "Dashlane"},
	{"6028b017-b1d4-4c02-b4b3-afcdafc96bb2", "Windows Hello (software)"},
	{"73bb0cd4-e502-49b8-9c6f-b59445bf720b", "YubiKey 5 FIPS (firmware 5.4)"},
	{"9ddd1817-af5a-4672-a2b9-3e3dd95000a9", "Windows Hello (VBS)"},
	{"adce0002-35bc-c60a-648b-0b25f1f05503", "Chrome on Mac"},
	{"bada5566-a7aa-401f-bd96-45619a55120d", "1Password"},
	{"c1f9a0bc-1dd2-404a-b27f-8e29047a43fd", "YubiKey 5 FIPS with NFC (firmware 5.4)"},
	{"c5ef55ff-ad9a-4b9f-b580-adebafe026d0", "YubiKey 5Ci (firmware 5.2, 5.4)"},
	{"cb69481e-8ff7-4039-93ec-0a2729a154a8", "YubiKey 5 (firmware 5.1)"},
	{"d548826e-79b4-db40-a3d8-11116f7e8349", "Bitwarden"},
	{"d8522d9f-575b-4866-88a9-ba99fa02f35b", "YubiKey Bio (firmware 5.5)"},
	{"dd4ec289-e01d-41c9-bb89-70fa845d4bf2", "iCloud Keychain (managed)"},
	{"ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4", "Google Password Manager"},
	{"ee882879-721c-4913-9775-3dfcce97072a", "YubiKey 5 (firmware 5.2, 5.4)"},
	{"fa2b99dc-9e39-4257-8f92-4a30d23c4118", "YubiKey 5 with NFC (firmware 5.1)"},
	{"fbfc3007-154e-4ecc-8c0b-6e020557d7bd", "Apple Passwords (iCloud Keychain)"},
	{"fdb141b2-5d84-443e-8a35-4698c205a502", "KeePassXC"},
}

// Name is what a model is called, or empty.
func (a AAGUID) Name() string {
	s := a.String()
	if i := slices.IndexFunc(known, func(k struct{ id, name string }) bool { return k.id == s }); i >= 0 {
		return known[i].name
	}
	return ""
}

// Describe is the model for people: its name and AAGUID, the bare AAGUID, or that
// there is none.
func (a AAGUID) Describe() string {
	if a.IsZero() {
		return "not named"
	}
	if n := a.Name(); n != "" {
		return n + " " + a.String()
	}
	return a.String()
}
