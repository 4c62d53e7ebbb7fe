package trust

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of a statement. MaxStatement limits the whole.
const (
	MaxInstances      = 1_000
	MaxAnchors        = 256
	MaxConfigurations = 1_000
	MaxRuntimeKeys    = 16 // of one instance
	MaxRoots          = 16 // of timestamps
	MaxLifetime       = 5 * 366 * 24 * time.Hour
	MaxFreshness      = 366 * 24 * 60 * 60 // seconds
	maxCertificate    = 16 << 10
	maxList           = 256
	maxLine           = 256
)

func problem(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrTrust}, args...)...)
}

// Check refuses a statement that contradicts itself or exceeds a limit.
func (s Statement) Check() error {
	for _, step := range []func() error{s.checkHead, s.checkInstances, s.checkAnchors, s.checkConfigurations, s.checkRevocations, s.checkFloors, s.checkRoots} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Statement) checkHead() error {
	if err := errors.Join(statement.CheckName("deployment", s.Deployment), statement.CheckTime("created", s.Created), statement.CheckTime("expires", s.Expires)); err != nil {
		return fmt.Errorf("%w: %w", ErrTrust, err)
	}
	switch {
	case s.Version == 0 || s.Version > 1<<53:
		return problem("version %d: want 1 for the first, then one more each time", s.Version)
	case (s.Version == 1) != s.Previous.IsZero():
		return problem("version 1 has no previous statement, every other one has its ID")
	case !s.Expires.After(s.Created) || s.Expires.Sub(s.Created) > MaxLifetime:
		return problem("expires at %s: want a time after it is created, at most 5 years later", s.Expires.Format(time.RFC3339))
	case s.Freshness > MaxFreshness:
		return problem("freshness of %d seconds: at most %d", s.Freshness, MaxFreshness)
	}
	return nil
}

func (s *Statement) checkInstances() error {
	if n := len(s.Instances); n == 0 || n > MaxInstances {
		return problem("%d instances: want 1 to %d", n, MaxInstances)
	}
	owner := map[string]string{}
	trusted := false
	for _, n := range slices.Sorted(maps.Keys(s.Instances)) {
		i := s.Instances[n]
		if err := statement.CheckName("instance", n); err != nil {
			return fmt.Errorf("%w: %w", ErrTrust, err)
		}
		switch i.Role {
		case Trusted:
			trusted = true
			if i.Enforcement != "" || i.RuntimeKeys != nil {
				return problem("instance %s is trusted: enforcement and runtime keys are those of protected instances", n)
			}
		case Protected:
			if i.Enforcement != On && i.Enforcement != Off && i.Enforcement != Report {
				return problem("instance %s: enforcement %.40q: want on, off or report", n, i.Enforcement)
			}
		default:
			return problem("instance %s: role %.40q: want trusted or protected", n, i.Role)
		}
		if err := checkRuntimeKeys(n, i.RuntimeKeys, owner); err != nil {
			return err
		}
	}
	if !trusted {
		return problem("no instance is trusted: want the one on which records are signed")
	}
	return nil
}

// checkRuntimeKeys wants a key to speak for one instance: an order of one would
// be good for another one.
func checkRuntimeKeys(name string, keys [][]byte, owner map[string]string) error {
	if len(keys) > MaxRuntimeKeys || keys != nil && len(keys) == 0 {
		return problem("instance %s: %d runtime keys: want 1 to %d, or none", name, len(keys), MaxRuntimeKeys)
	}
	for i, der := range keys {
		if _, err := RuntimeKey(der); err != nil {
			return problem("instance %s: runtime key %d: %w", name, i, err)
		}
		if i > 0 && bytes.Compare(keys[i-1], der) >= 0 {
			return problem("instance %s: runtime key %d is out of order or stands twice", name, i)
		}
		if other, ok := owner[string(der)]; ok {
			return problem("instance %s: runtime key %d is that of %s too: want a key for each instance", name, i, other)
		}
		owner[string(der)] = name
	}
	return nil
}

// RuntimeKey reads a runtime key: the SubjectPublicKeyInfo of an Ed25519 key in
// its one encoding (RFC 8410 section 4).
func RuntimeKey(der []byte) (ed25519.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrust, err)
	}
	k, ok := pub.(ed25519.PublicKey)
	if !ok {
		return nil, problem("is a %T: want Ed25519", pub)
	}
	if again, err := x509.MarshalPKIXPublicKey(k); err != nil || !bytes.Equal(again, der) {
		return nil, problem("is not in DER")
	}
	return k, nil
}

func line(what, s string, empty bool) error {
	if s == "" && !empty || len(s) > maxLine || !utf8.ValidString(s) || strings.ContainsFunc(s, format.Turns) {
		return problem("%s: want one line of at most %d bytes of UTF-8", what, maxLine)
	}
	return nil
}

// set wants a sorted list without doubles; one that is empty is left out.
func set(what string, list []string, each func(string) error) error {
	if len(list) > maxList || list != nil && len(list) == 0 {
		return problem("%s: %d entries: want 1 to %d, or none", what, len(list), maxList)
	}
	for i, s := range list {
		if err := each(s); err != nil {
			return problem("%s: %w", what, err)
		}
		if i > 0 && list[i-1] >= s {
			return problem("%s: %.80q is out of order or stands twice", what, s)
		}
	}
	return nil
}

func (s *Statement) checkAnchors() error {
	if len(s.Anchors) > MaxAnchors || s.Anchors != nil && len(s.Anchors) == 0 {
		return problem("%d anchors: want 1 to %d, or none", len(s.Anchors), MaxAnchors)
	}
	for i, a := range s.Anchors {
		what := fmt.Sprintf("anchor %d", i)
		if err := line(what+": name", a.Name, false); err != nil {
			return err
		}
		if i > 0 && s.Anchors[i-1].Name >= a.Name {
			return problem("%s: %q is out of order or stands twice", what, a.Name)
		}
		if _, err := Certificate(a.Certificate); err != nil {
			return problem("%s: %w", what, err)
		}
		if len(a.Purposes) == 0 {
			return problem("%s has no purposes: it would be believed for nothing", what)
		}
		if err := errors.Join(
			set(what+": purposes", a.Purposes, checkPurpose),
			set(what+": tables", a.Tables, func(t string) error { return line("table", t, false) }),
			set(what+": issuers", a.Issuers, s.checkIssuer),
		); err != nil {
			return err
		}
	}
	return nil
}

// checkPurpose holds invariant 5.
func checkPurpose(p string) error {
	switch {
	case p == record.Wildcard:
		return nil
	case p == record.Circle || p == record.Freshness:
		return problem("%s: no anchor is believed for statements of circles: the charter's quorum is", p)
	}
	return statement.CheckName("purpose", p)
}

func (s *Statement) checkIssuer(name string) error {
	if s.Instances[name].Role != Trusted {
		return problem("%.80q is no trusted instance of this circle", name)
	}
	return nil
}

// Certificate reads one certificate in DER, without bytes after it.
func Certificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, problem("certificate of %d bytes: at most %d", len(der), maxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrust, err)
	}
	return c, nil
}

func (s *Statement) checkConfigurations() error {
	if len(s.Configurations) > MaxConfigurations || s.Configurations == nil {
		return problem("%d configurations: want 0 to %d", len(s.Configurations), MaxConfigurations)
	}
	for _, id := range slices.Sorted(maps.Keys(s.Configurations)) {
		c := s.Configurations[id]
		if err := c.Check(id); err != nil {
			return fmt.Errorf("%w: %w", ErrTrust, err)
		}
	}
	return nil
}

func (s *Statement) checkRevocations() error {
	if s.Revocations != nil && len(s.Revocations) == 0 {
		return problem("revocations are empty: leave them out")
	}
	for i, r := range s.Revocations {
		if _, err := merkle.ParseHash(r.Fingerprint); err != nil {
			return problem("revocation %d: fingerprint %.80q: want SHA-256 in lower-case hexadecimal", i, r.Fingerprint)
		}
		if i > 0 && s.Revocations[i-1].Fingerprint >= r.Fingerprint {
			return problem("revocation %d is out of order or stands twice", i)
		}
		if !r.Since.IsZero() {
			if err := statement.CheckTime("since", r.Since); err != nil {
				return problem("revocation %d: %w", i, err)
			}
		} else if r.Since.Location() != time.UTC {
			return problem("revocation %d: since is not in UTC", i)
		}
		if err := line(fmt.Sprintf("revocation %d: reason", i), r.Reason, true); err != nil {
			return err
		}
	}
	return nil
}

func compareRefs(a, b record.Ref) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), slices.Compare(a.Key, b.Key))
}

func (s *Statement) checkFloors() error {
	if s.Floors != nil && len(s.Floors) == 0 {
		return problem("floors are empty: leave them out")
	}
	for i, f := range s.Floors {
		if n := len(f.Ref.Key); n == 0 || n > 16 || f.Revision == 0 || f.Revision > 1<<53 {
			return problem("floor %d: want a key of 1 to 16 values, and a revision from 1", i)
		}
		for _, v := range append([]string{f.Ref.Table}, f.Ref.Key...) {
			if err := line(fmt.Sprintf("floor %d", i), v, false); err != nil {
				return err
			}
		}
		if i > 0 && compareRefs(s.Floors[i-1].Ref, f.Ref) >= 0 {
			return problem("floor %d is out of order or stands twice", i)
		}
	}
	return nil
}

func (s *Statement) checkRoots() error {
	if len(s.TimestampRoots) > MaxRoots || s.TimestampRoots != nil && len(s.TimestampRoots) == 0 {
		return problem("%d timestamp roots: want 1 to %d, or none", len(s.TimestampRoots), MaxRoots)
	}
	var last [sha256.Size]byte
	for i, der := range s.TimestampRoots {
		if _, err := Certificate(der); err != nil {
			return problem("timestamp root %d: %w", i, err)
		}
		sum := sha256.Sum256(der)
		if i > 0 && bytes.Compare(last[:], sum[:]) >= 0 {
			return problem("timestamp root %d is out of order or stands twice", i)
		}
		last = sum
	}
	return nil
}

// Check refuses a freshness statement that contradicts itself.
func (f Freshness) Check() error {
	if err := errors.Join(statement.CheckName("deployment", f.Deployment), statement.CheckTime("at", f.At), statement.CheckTime("expires", f.Expires)); err != nil {
		return fmt.Errorf("%w: %w", ErrTrust, err)
	}
	switch {
	case f.Circle.IsZero() || f.Version == 0 || f.Version > 1<<53:
		return problem("freshness of no version")
	case !f.Expires.After(f.At) || f.Expires.Sub(f.At) > MaxFreshness*time.Second:
		return problem("freshness from %s to %s: want a time after it, at most 366 days later", f.At.Format(time.RFC3339), f.Expires.Format(time.RFC3339))
	}
	return nil
}
