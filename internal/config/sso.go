package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// SSO is one OpenID provider at which people sign in to the console. What it says
// lets them read: it neither requests nor endorses.
type SSO struct {
	Name             string            `yaml:"name"`                         // in addresses: a-z, 0-9 and "-"
	Title            string            `yaml:"title,omitempty"`              // on the button; default Name
	Issuer           string            `yaml:"issuer"`                       // exactly as the provider's discovery document has it
	ClientID         string            `yaml:"client_id"`                    //
	ClientSecretFile string            `yaml:"client_secret_file,omitempty"` // mode 0600, read at every login; none: a public client
	Claim            string            `yaml:"claim,omitempty"`              // email (default), preferred_username or sub
	People           map[string]string `yaml:"people,omitempty"`             // value of the claim: name in the charter; not with email
	Groups           string            `yaml:"groups,omitempty"`             // claim that lists groups
	Gives            []string          `yaml:"gives,omitempty"`              // which of them count; default all, where no other provider lists any
	Scopes           []string          `yaml:"scopes,omitempty"`             // beyond openid; default what Claim needs
	CA               string            `yaml:"ca,omitempty"`                 // PEM file; default: the system's
	MaxAge           Duration          `yaml:"max_age,omitempty"`            // how long ago a person may have proved who he is; default: as the provider likes
	Prompt           string            `yaml:"prompt,omitempty"`             // login, select_account or consent
}

// The claims that can say who somebody is.
const (
	ClaimEmail    = "email"
	ClaimUsername = "preferred_username"
	ClaimSubject  = "sub"
)

const (
	maxProviders = 16
	maxSSOPeople = 10000
	maxGives     = 1000
)

var (
	providerName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$`)
	scopeToken   = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,200}$`) // RFC 6749, section 3.3
)

func (s *SSO) resolve(dir string) error {
	if s.Title == "" {
		s.Title = s.Name
	}
	if s.Claim == "" {
		s.Claim = ClaimEmail
	}
	if s.Scopes == nil {
		switch s.Claim {
		case ClaimEmail:
			s.Scopes = []string{"email"}
		case ClaimUsername:
			s.Scopes = []string{"profile"}
		}
	}
	return paths(dir, &s.ClientSecretFile, &s.CA)
}

// resolveSSO fills in defaults and paths.
func resolveSSO(list []SSO, dir string) error {
	var errs []error
	for i := range list {
		errs = append(errs, list[i].resolve(dir))
	}
	return errors.Join(errs...)
}

// checkSSO checks the providers of a server that is reached at base.
func checkSSO(list []SSO, base string) error {
	if len(list) == 0 {
		return nil
	}
	if base == "" {
		return errors.New("config: sso: url is missing: providers send people back to one fixed address")
	}
	if len(list) > maxProviders {
		return fmt.Errorf("config: sso: more than %d providers", maxProviders)
	}
	names := map[string]bool{}
	var givers, free []string // that list groups; and of them, those that may give any
	for i := range list {
		s := &list[i]
		if s.Groups != "" {
			givers = append(givers, s.Name)
			if s.Gives == nil {
				free = append(free, s.Name)
			}
		}
		if !providerName.MatchString(s.Name) || s.Name == "link" || s.Name == "passkey" {
			return fmt.Errorf("config: sso[%d]: name: %q: want 1 to 32 of a-z, 0-9 and \"-\", and neither \"link\" nor \"passkey\"", i, s.Name)
		}
		if names[s.Name] {
			return fmt.Errorf("config: sso: two providers are called %s", s.Name)
		}
		names[s.Name] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("config: sso: %s: %w", s.Name, err)
		}
	}
	// A group called alike is not the same one at another provider: whoever makes groups at
	// one would give himself the roles of the other's.
	if len(givers) > 1 && len(free) > 0 {
		return fmt.Errorf("config: sso: %s list groups: say at %s which of them count, gives: [NAME], or leave groups away where none does", strings.Join(givers, " and "), strings.Join(free, " and "))
	}
	return nil
}

// checkGiven refuses roles of groups that no provider gives, where all of them say what
// they give: a typing error would keep everybody of the group out.
func checkGiven(list []SSO, r ConsoleRoles) error {
	var given []string
	some := false
	for _, s := range list {
		if s.Groups != "" && s.Gives == nil {
			return nil
		}
		some = some || s.Groups != ""
		given = append(given, s.Gives...)
	}
	for _, n := range slices.Concat(r.Auditor, r.Operator) {
		if g, ok := strings.CutPrefix(n, "group:"); ok && some && !slices.Contains(given, g) {
			return fmt.Errorf("config: console: roles: %s: no provider of sso has it in gives", n)
		}
	}
	return nil
}

func (s *SSO) check() error {
	if err := checkIssuer(s.Issuer); err != nil {
		return err
	}
	if s.ClientID == "" || len(s.ClientID) > 512 {
		return errors.New("client_id is missing, or too long")
	}
	switch s.Claim {
	case ClaimEmail:
		if len(s.People) > 0 {
			return errors.New("people: with claim: email, the charter's addresses say who is who")
		}
	case ClaimUsername, ClaimSubject:
		if len(s.People) == 0 && s.Groups == "" {
			return fmt.Errorf("people is missing: which person of the charter has which %s", s.Claim)
		}
	default:
		return fmt.Errorf("claim: %q: want %s, %s or %s", s.Claim, ClaimEmail, ClaimUsername, ClaimSubject)
	}
	if len(s.People) > maxSSOPeople {
		return fmt.Errorf("people: more than %d", maxSSOPeople)
	}
	for value, name := range s.People {
		if value == "" || name == "" {
			return errors.New("people: an empty value or name")
		}
	}
	if s.Gives != nil && s.Groups == "" {
		return errors.New("gives: groups is missing: the claim that lists them")
	}
	if len(s.Gives) > maxGives {
		return fmt.Errorf("gives: more than %d groups", maxGives)
	}
	for i, g := range s.Gives {
		switch {
		case g == "" || len(g) > maxGroup || strings.TrimSpace(g) != g:
			return fmt.Errorf("gives: %q: want the name of a group, of at most %d bytes", g, maxGroup)
		case strings.HasPrefix(g, "group:"):
			return fmt.Errorf("gives: %q: want the name alone, as the provider lists it", g)
		case slices.Contains(s.Gives[:i], g):
			return fmt.Errorf("gives: %q stands twice", g)
		}
	}
	for _, sc := range s.Scopes {
		if !scopeToken.MatchString(sc) {
			return fmt.Errorf("scopes: %q is none", sc)
		}
		if sc == "offline_access" {
			return errors.New("scopes: offline_access: nothing is done here while the person is away")
		}
	}
	if age := time.Duration(s.MaxAge); age != 0 && (age < time.Minute || age%time.Second != 0) {
		return fmt.Errorf("max_age: %v: want a minute or more, in whole seconds", age)
	}
	if !slices.Contains([]string{"", "login", "select_account", "consent"}, s.Prompt) {
		return fmt.Errorf("prompt: %q: want login, select_account or consent", s.Prompt)
	}
	return nil
}

// checkIssuer takes what OpenID Connect Discovery 1.0, section 3 lets an issuer be.
func checkIssuer(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "", u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "", u.Opaque != "", strings.HasSuffix(s, "#"):
		return fmt.Errorf("issuer: %q: want https://HOST, with a path if it has one", s)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && Loopback(net.JoinHostPort(u.Hostname(), "80")):
		return nil
	}
	return fmt.Errorf("issuer: %q: want https, or http on this machine", s)
}
