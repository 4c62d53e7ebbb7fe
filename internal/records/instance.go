package records

import (
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Role is what an instance is.
type Role string

// The roles. An instance of no circle is standalone: it signs, and enforces nothing.
const (
	Standalone Role = "standalone"
	Trusted    Role = "trusted"
	Protected  Role = "protected"
)

// ParseRole reads a role of a configuration; "" is Standalone.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case "":
		return Standalone, nil
	case Standalone, Trusted, Protected:
		return r, nil
	}
	return "", fmt.Errorf("records: role %.20q: want standalone, trusted or protected", s)
}

// Belief is what the circle of trust says of an instance now. *circle.Trusted is one.
type Belief interface {
	// Records is what signatures of records are judged by at the instance.
	Records(instance string) *record.Trust
	// Enforcement of the instance.
	Enforcement(instance string) trust.Enforcement
}

// Instance is one server, as the circle of trust knows it.
type Instance struct {
	Name string
	Role Role // as the instance's own configuration says

	// Believe returns what the circle says at a time; its errors are rejections
	// (TRUST_STORE_STALE, CLOCK_BACKWARDS). nil: the instance is of no circle.
	Believe func(now time.Time) (Belief, error)
	// Member returns the role that the newest circle gives to the instance, stale or
	// not; ok is false when it has none. nil: the instance is of no circle.
	Member func() (role trust.Role, ok bool)
}

// Join makes the instance one of a circle. One whose trust has run out leaves a
// protected instance protected.
func (i *Instance) Join(c *circle.Circle) {
	i.Believe = func(now time.Time) (Belief, error) {
		t, err := c.Trusted(now)
		if err != nil {
			return nil, err
		}
		return t, nil
	}
	i.Member = func() (trust.Role, bool) {
		r := c.Role(i.Name)
		return r, r != ""
	}
}

// RoleNow is the role in force: protected when the configuration or the circle says
// so, whatever the other says.
func (i *Instance) RoleNow() Role {
	if i.Member != nil {
		if r, ok := i.Member(); ok && r == trust.Protected {
			return Protected
		}
	}
	return i.Role
}

// MaySign refuses when nothing may be signed here.
func (i *Instance) MaySign() error {
	switch r := i.RoleNow(); r {
	case Standalone, Trusted:
		return nil
	default:
		return rejection.New(rejection.NotProtected, i.Name, "records are signed on a trusted instance: this one is "+string(r)+", and nobody signs here")
	}
}

// believe returns the circle's belief at now. Nothing else is believed.
func (i *Instance) believe(now time.Time) (Belief, error) {
	if i.Believe == nil {
		return nil, rejection.New(rejection.TrustStoreStale, i.Name, "the instance is of no circle of trust")
	}
	return i.Believe(now)
}

// Enforcement is what the instance does now with a record that does not verify. A
// protected instance whose circle cannot be believed refuses.
func (i *Instance) Enforcement(now time.Time) trust.Enforcement {
	if i.RoleNow() != Protected {
		return trust.Off
	}
	b, err := i.believe(now)
	if err != nil {
		return trust.On
	}
	return b.Enforcement(i.Name)
}
