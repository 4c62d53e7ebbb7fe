package macho

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// settings are a plan's options, understood.
type settings struct {
	hash         crypto.Hash
	identifier   string
	team         string
	flags        uint32
	entitlements []byte
	requirements []byte
	info         []byte
	resources    []byte
	pageSize     int64
	reserve      int64
	replace      bool
	signingTime  bool
}

const (
	minReserve = 4096
	maxReserve = 1 << 20
)

func settingsOf(p format.Params) (*settings, error) {
	s := &settings{
		identifier: p["identifier"], team: p["team"], pageSize: 4096,
		replace: p["replace"] == "true", signingTime: p["signing-time"] == "true",
	}
	var err error
	if s.hash, err = format.HashByName(p["digest"]); err != nil {
		return nil, err
	}
	if s.flags, err = codesign.ParseFlags(p["flags"]); err != nil {
		return nil, err
	}
	if s.entitlements, err = text(p["entitlements"]); err != nil {
		return nil, fmt.Errorf("macho: option entitlements: %w", err)
	}
	if len(s.entitlements) > 0 {
		if _, err := codesign.EntitlementsDER(s.entitlements); err != nil {
			return nil, err
		}
	}
	if s.requirements, err = base64.StdEncoding.Strict().DecodeString(p["requirements"]); err != nil {
		return nil, fmt.Errorf("macho: option requirements: %w", err)
	}
	if len(s.requirements) > 0 {
		if err := codesign.CheckRequirements(s.requirements); err != nil {
			return nil, err
		}
	}
	for n, at := range map[string]*[]byte{"info-plist": &s.info, "code-resources": &s.resources} {
		if *at, err = hex.DecodeString(p[n]); err != nil || hex.EncodeToString(*at) != p[n] || len(*at) != 0 && len(*at) != s.hash.Size() {
			return nil, fmt.Errorf("macho: option %s: want %d lower-case hexadecimal digits", n, 2*s.hash.Size())
		}
	}
	if p["page-size"] == "16384" {
		s.pageSize = 16384
	}
	n, err := strconv.Atoi(p["reserve"])
	if err != nil || strconv.Itoa(n) != p["reserve"] || n < minReserve || n > maxReserve || n%codeAlign != 0 {
		return nil, fmt.Errorf("macho: option reserve=%.20q: want %d to %d bytes, a multiple of %d", p["reserve"], minReserve, maxReserve, codeAlign)
	}
	s.reserve = int64(n)
	return s, nil
}

// text is a property list as it is, or in base64: options have one line.
func text(s string) ([]byte, error) {
	if s == "" || strings.HasPrefix(s, "<") {
		return []byte(s), nil
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}
