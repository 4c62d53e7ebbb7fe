package circle

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

// Trusted is what was believed at one time. Only [Circle.Trusted] makes it; the
// zero value believes nobody and enforces everything. What its methods return
// belongs to the caller.
type Trusted struct {
	now     time.Time
	known   []*side // sides with a version, in the order of the pins: what restricts
	current []*side // those of them that are believed now: what permits
	digest  [sha256.Size]byte
}

func newTrusted(sides []*side, now time.Time) *Trusted {
	t := &Trusted{now: now}
	h := sha256.New()
	h.Write([]byte("greatseal circle trust v1\x00"))
	for _, s := range sides {
		if s.version == nil {
			continue
		}
		t.known = append(t.known, s)
		h.Write(s.root[:])
		h.Write(s.version.id[:])
		if s.current(now) == nil {
			t.current = append(t.current, s)
			h.Write([]byte{1})
		} else {
			h.Write([]byte{0})
		}
	}
	h.Sum(t.digest[:0])
	return t
}

// Now is the time at which it was believed.
func (t *Trusted) Now() time.Time { return t.now }

// Digest names what is believed, without the time: as long as it stays the same,
// what was verified of signed roots may be kept.
func (t *Trusted) Digest() [sha256.Size]byte { return t.digest }

// speaker is the side that speaks for an instance: the first that names it. nil:
// none does.
func (t *Trusted) speaker(instance string) *side {
	for _, s := range t.known {
		if _, ok := s.version.statement.Instances[instance]; ok {
			return s
		}
	}
	return nil
}

// Role is what an instance is; "" for one that nobody names.
func (t *Trusted) Role(instance string) trust.Role {
	if s := t.speaker(instance); s != nil {
		return s.version.statement.Instances[instance].Role
	}
	return ""
}

// Enforcement is the strictest that a side asks of an instance, stale ones too:
// what a side stopped saying does not loosen anything. It is On for an instance
// that nobody names, and Off for a trusted one.
func (t *Trusted) Enforcement(instance string) trust.Enforcement {
	return enforcement(t.known, instance)
}

func enforcement(known []*side, instance string) trust.Enforcement {
	state := trust.Enforcement("")
	for _, s := range known {
		i, ok := s.version.statement.Instances[instance]
		switch {
		case !ok:
		case i.Role == trust.Trusted && state == "":
			return trust.Off // the first that speaks of it
		case i.Role != trust.Protected:
		case state == "":
			state = i.Enforcement
		default:
			state = trust.Stricter(state, i.Enforcement)
		}
	}
	if state == "" {
		return trust.On
	}
	return state
}

// RuntimeKeys are the keys that sign the work orders of a protected instance, by
// the word of the side that speaks for it; none where that side is stale.
func (t *Trusted) RuntimeKeys(instance string) []crypto.PublicKey {
	s := t.speaker(instance)
	if s == nil || !slices.Contains(t.current, s) {
		return nil
	}
	var out []crypto.PublicKey
	for _, der := range s.version.statement.Instances[instance].RuntimeKeys {
		if k, err := trust.RuntimeKey(der); err == nil { // Check has read it
			out = append(out, k)
		}
	}
	return out
}

// Instances lists the instances of one role, sorted.
func (t *Trusted) Instances(role trust.Role) []string {
	seen := map[string]bool{}
	for _, s := range t.known {
		for n := range s.version.statement.Instances {
			if t.Role(n) == role {
				seen[n] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// issuers are the trusted instances that a side speaks for.
func (t *Trusted) issuers(s *side) []string {
	var out []string
	for n, i := range s.version.statement.Instances {
		if i.Role == trust.Trusted && t.speaker(n) == s {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Records is what a verifier of records on that instance believes.
func (t *Trusted) Records(instance string) *record.Trust {
	out := &record.Trust{Instance: instance, Configurations: map[string]record.Configuration{}, Now: t.now}
	revoked := map[string]record.Revocation{}
	floors := map[string]record.Floor{}
	for _, s := range t.known {
		for _, r := range s.version.statement.Revocations {
			revoked[r.Fingerprint] = stricter(revoked[r.Fingerprint], r)
		}
		for _, f := range s.version.statement.Floors {
			name := f.Ref.Table + "\x00" + strings.Join(f.Ref.Key, "\x00")
			if f.Revision > floors[name].Revision {
				floors[name] = f
			}
		}
	}
	for _, s := range t.current {
		st := s.version.statement
		issuers := t.issuers(s)
		out.Issuers = append(out.Issuers, issuers...)
		for _, a := range st.Anchors {
			if a.VendorBuilds && !st.VendorBuilds {
				continue
			}
			if a = limited(a, issuers); len(a.Issuers) > 0 {
				out.Anchors = append(out.Anchors, a)
			}
		}
		for id, c := range st.Configurations {
			if _, ok := out.Configurations[id]; !ok {
				c.Fields, c.Parameters = slices.Clone(c.Fields), slices.Clone(c.Parameters)
				out.Configurations[id] = c
			}
		}
		for _, der := range st.TimestampRoots {
			if c, err := trust.Certificate(der); err == nil { // Check has read it
				out.TimestampRoots = append(out.TimestampRoots, c)
			}
		}
	}
	slices.Sort(out.Issuers)
	for _, k := range slices.Sorted(maps.Keys(revoked)) {
		out.Revocations = append(out.Revocations, revoked[k])
	}
	for _, k := range slices.Sorted(maps.Keys(floors)) {
		f := floors[k]
		f.Ref.Key = slices.Clone(f.Ref.Key)
		out.Floors = append(out.Floors, f)
	}
	return out
}

// limited is an anchor for the instances of its own side: an anchor that names
// none is never one for those of another side.
func limited(a record.Anchor, issuers []string) record.Anchor {
	if len(a.Issuers) == 0 {
		a.Issuers = issuers
	}
	var own []string
	for _, n := range a.Issuers {
		if slices.Contains(issuers, n) {
			own = append(own, n)
		}
	}
	a.Issuers = own
	a.Certificate, a.Purposes, a.Tables = slices.Clone(a.Certificate), slices.Clone(a.Purposes), slices.Clone(a.Tables)
	return a
}

// stricter joins two revocations of one fingerprint: the earlier time counts, and
// none counts as earliest.
func stricter(a, b record.Revocation) record.Revocation {
	if a.Fingerprint == "" {
		return b
	}
	if b.Since.Before(a.Since) {
		a.Since = b.Since
	}
	a.Compromised = a.Compromised || b.Compromised
	a.Reason = cmp.Or(a.Reason, b.Reason)
	return a
}

// Enforcement is Trusted.Enforcement of what is known, current or not: trust that
// has run out switches nothing off. Where nothing is known it is On.
func (c *Circle) Enforcement(instance string) trust.Enforcement {
	c.mu.Lock()
	defer c.mu.Unlock()
	return enforcement(newTrusted(c.sides, c.time).known, instance)
}

// Status is what is known of one pinned side, for people.
type Status struct {
	Root       statement.ID     `json:"root"`
	Known      bool             `json:"known"` // what follows is set
	Deployment string           `json:"deployment,omitzero"`
	Version    uint64           `json:"version,omitzero"`
	ID         statement.ID     `json:"id,omitzero"`
	Created    time.Time        `json:"created,omitzero"`
	Signed     time.Time        `json:"signed,omitzero"`
	Expires    time.Time        `json:"expires,omitzero"`
	FreshUntil time.Time        `json:"freshUntil,omitzero"` // zero: no freshness statement of this version is known
	Stale      *rejection.Error `json:"stale,omitzero"`      // why it is not believed now; nil: it is
}

// Status lists the pinned sides in their order.
func (c *Circle) Status(now time.Time) []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Status
	for _, s := range c.sides {
		x := Status{Root: s.root, Stale: rejection.Of(s.current(now))}
		if v := s.version; v != nil {
			st := v.statement
			x.Known, x.Deployment, x.Version, x.ID, x.Created, x.Signed, x.Expires = true, st.Deployment, st.Version, v.id, st.Created, v.at, st.Expires
			if s.fresh != nil {
				x.FreshUntil = s.fresh.until(v)
			}
		}
		out = append(out, x)
	}
	return out
}
