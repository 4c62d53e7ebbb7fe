package ipa

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/plist"
)

// profile is what a provisioning profile grants: a property list in a CMS message that
// Apple signs ("TN3125: Inside Code Signing: Provisioning Profiles").
type profile struct {
	name, uuid   string
	teams        []string
	expires      time.Time
	entitlements plist.Dict
	certificates [][]byte
	devices      int
}

func parseProfile(b []byte) (*profile, error) {
	sd, err := codesign.ParseCMS(b)
	if err != nil {
		return nil, fmt.Errorf("ipa: provisioning profile: %w", err)
	}
	v, err := plist.ParseXML(sd.Content, true)
	if err != nil {
		return nil, fmt.Errorf("ipa: provisioning profile: %w", err)
	}
	d, _ := v.(plist.Dict)
	p := &profile{name: d.String("Name"), uuid: d.String("UUID")}
	if teams, ok := d.Get("TeamIdentifier").(plist.Array); ok {
		for _, t := range teams {
			s, _ := t.(string)
			p.teams = append(p.teams, s)
		}
	}
	date, _ := d.Get("ExpirationDate").(plist.Date)
	if p.expires, err = time.Parse(time.RFC3339, string(date)); err != nil {
		return nil, malformed("provisioning profile that expires %.40q", date)
	}
	var ok bool
	if p.entitlements, ok = d.Get("Entitlements").(plist.Dict); !ok {
		return nil, malformed("provisioning profile without entitlements")
	}
	certificates, _ := d.Get("DeveloperCertificates").(plist.Array)
	for _, c := range certificates {
		if der, ok := c.(plist.Data); ok {
			p.certificates = append(p.certificates, der)
		}
	}
	if len(p.certificates) == 0 {
		return nil, malformed("provisioning profile without certificates")
	}
	devices, _ := d.Get("ProvisionedDevices").(plist.Array)
	p.devices = len(devices)
	return p, nil
}

func (p *profile) facts() []format.Fact {
	plain := codesign.PlainText
	return []format.Fact{
		{Name: "profile", Value: plain(p.name)},
		{Name: "profile UUID", Value: plain(p.uuid)},
		{Name: "profile team", Value: plain(strings.Join(p.teams, " "))},
		{Name: "profile expires", Value: p.expires.UTC().Format(time.RFC3339)},
		{Name: "profile devices", Value: fmt.Sprint(p.devices)},
	}
}

// allows refuses entitlements that the profile does not grant. text may be empty.
func (p *profile) allows(text []byte, identifier string) error {
	if len(text) == 0 {
		return nil
	}
	d, err := codesign.ParseEntitlements(text)
	if err != nil {
		return err
	}
	for _, e := range d {
		if on, ok := e.Value.(bool); ok && !on {
			continue // asks for nothing
		}
		if !covers(p.entitlements.Get(e.Key), e.Value) {
			return fmt.Errorf("%w: entitlement %.100q", ErrProfile, e.Key)
		}
		if id, ok := e.Value.(string); ok && e.Key == "application-identifier" {
			if _, after, _ := strings.Cut(id, "."); after != identifier {
				return fmt.Errorf("%w: application-identifier is %.100q, and the bundle is %.100q", ErrProfile, id, identifier)
			}
		}
	}
	return nil
}

// covers says whether what is granted has what is asked for: texts are equal, or the
// granted one ends with a star; of an array each element is covered by one.
func covers(granted, asked plist.Value) bool {
	switch a := asked.(type) {
	case plist.Array:
		for _, e := range a {
			if !covers(granted, e) {
				return false
			}
		}
		return granted != nil
	case string:
		switch g := granted.(type) {
		case string:
			prefix, star := strings.CutSuffix(g, "*")
			return g == a || star && strings.HasPrefix(a, prefix)
		case plist.Array:
			return slices.ContainsFunc(g, func(v plist.Value) bool { _, text := v.(string); return text && covers(v, a) })
		}
		return false
	case nil:
		return false
	}
	return granted != nil && bytes.Equal(plist.EncodeXML(granted), plist.EncodeXML(asked))
}

// names refuses a certificate that is not one of the profile's.
func (p *profile) names(c *x509.Certificate) error {
	if c == nil || !slices.ContainsFunc(p.certificates, func(der []byte) bool { return bytes.Equal(der, c.Raw) }) {
		return fmt.Errorf("%w: the certificate that signs is not one of those in it", ErrProfile)
	}
	return nil
}
