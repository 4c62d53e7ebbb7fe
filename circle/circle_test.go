package circle_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// open is a circle over a store.
func open(t testing.TB, store circle.Store, sides ...*circletest.Side) *circle.Circle {
	t.Helper()
	var roots []statement.ID
	for _, s := range sides {
		roots = append(roots, s.Root)
	}
	c, err := circle.New(t.Context(), store, roots...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func apply(t testing.TB, c *circle.Circle, b *circle.Bundle, now time.Time) {
	t.Helper()
	if err := c.Apply(t.Context(), b, now); err != nil {
		t.Fatal(err)
	}
}

func believed(t testing.TB, c *circle.Circle, now time.Time) *circle.Trusted {
	t.Helper()
	tr, err := c.Trusted(now)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// wants holds an error to its reason.
func wants(t testing.TB, what string, err error, code rejection.Code) {
	t.Helper()
	if !errors.Is(err, &rejection.Error{Code: code}) {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// other is a side of another deployment, with a root of its own.
func other(t testing.TB, edit ...func(*charter.Charter)) *circletest.Side {
	t.Helper()
	return circletest.New(t, append(edit, func(c *charter.Charter) { c.Created = c.Created.Add(-time.Hour) })...)
}

func TestApply(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	_, err := c.Trusted(s.Now)
	wants(t, "nothing known", err, rejection.TrustStoreStale)
	if c.Enforcement(circletest.Protected) != trust.On {
		t.Error("where nothing is known nothing is enforced")
	}
	one := s.Publish()
	apply(t, c, s.Bundle(one), s.Now)
	tr := believed(t, c, s.Now)
	r := tr.Records(circletest.Protected)
	if r.Instance != circletest.Protected || !slices.Equal(r.Issuers, []string{circletest.Trusted}) || len(r.Anchors) != 1 || !slices.Equal(r.Anchors[0].Issuers, r.Issuers) ||
		len(r.Configurations) != 1 || !r.Now.Equal(s.Now) {
		t.Errorf("%+v", r)
	}
	if tr.Enforcement(circletest.Protected) != trust.On || tr.Enforcement(circletest.Trusted) != trust.Off || tr.Enforcement("elsewhere") != trust.On {
		t.Error("enforcement is not as stated")
	}
	keys := tr.RuntimeKeys(circletest.Protected)
	if len(keys) != 1 || !circletest.Key("runtime").Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(keys[0]) || tr.RuntimeKeys(circletest.Trusted) != nil {
		t.Errorf("%v", keys)
	}
	if tr.Role(circletest.Trusted) != trust.Trusted || tr.Role("elsewhere") != "" || !slices.Equal(tr.Instances(trust.Protected), []string{circletest.Protected}) {
		t.Error("roles are not as stated")
	}
	// The next version, with what it revokes and switches off.
	print := "00" + string(bytes.Repeat([]byte("ab"), 31))
	two := s.Publish(func(n *trust.Statement) {
		n.Revocations = []record.Revocation{{Fingerprint: print, Compromised: true}}
		i := n.Instances[circletest.Protected]
		i.Enforcement = trust.Report
		n.Instances[circletest.Protected] = i
	})
	apply(t, c, s.Bundle(one, two), s.Now)
	next := believed(t, c, s.Now)
	if next.Enforcement(circletest.Protected) != trust.Report || len(next.Records(circletest.Protected).Revocations) != 1 || next.Digest() == tr.Digest() {
		t.Error("the second version is not believed")
	}
	apply(t, c, s.Bundle(two), s.Now)
	if believed(t, c, s.Now).Digest() != next.Digest() {
		t.Error("what is known already changed something")
	}
	st := c.Status(s.Now)
	if len(st) != 1 || !st[0].Known || st[0].Version != 2 || st[0].ID != s.ID || st[0].Stale != nil || !st[0].FreshUntil.After(s.Now) {
		t.Errorf("%+v", st)
	}
}

// A vendor's builds are believed where the circle says so.
func TestVendorBuilds(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	apply(t, c, s.Bundle(s.Publish(func(n *trust.Statement) {
		n.Anchors = append(n.Anchors, record.Anchor{Name: "vendor", Certificate: circletest.Certificate(t, "vendor"), Purposes: []string{record.Wildcard}, VendorBuilds: true})
	})), s.Now)
	if n := len(believed(t, c, s.Now).Records(circletest.Protected).Anchors); n != 1 {
		t.Errorf("%d anchors without vendors", n)
	}
	apply(t, c, s.Bundle(s.Publish(func(n *trust.Statement) { n.VendorBuilds = true })), s.Now)
	if n := len(believed(t, c, s.Now).Records(circletest.Protected).Anchors); n != 2 {
		t.Errorf("%d anchors with vendors", n)
	}
}

// What is kept is judged again: a restart gives the same trust.
func TestRestart(t *testing.T) {
	s := circletest.New(t)
	store := &circletest.Memory{}
	c := open(t, store, s)
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	was := believed(t, c, s.Now)
	is := believed(t, open(t, store, s), s.Now)
	if is.Digest() != was.Digest() {
		t.Error("after a restart something else is believed")
	}
	// A side that is pinned no longer is forgotten.
	o := other(t)
	_, err := open(t, store, o).Trusted(s.Now)
	wants(t, "another pin", err, rejection.TrustStoreStale)
	// What the store holds and is not good is an error, and never nothing.
	st, err := circle.DecodeState(store.Data)
	if err != nil {
		t.Fatal(err)
	}
	kept := st.Sides[s.Root]
	for name, edit := range map[string]func(x *circle.Side){
		"statement": func(x *circle.Side) { x.Circle.Statement = flipped(x.Circle.Statement) },
		"evidence":  func(x *circle.Side) { x.Circle.Evidence = flipped(x.Circle.Evidence) },
		"freshness": func(x *circle.Side) {
			x.Freshness = &circle.Update{Statement: flipped(x.Freshness.Statement), Evidence: x.Freshness.Evidence}
		},
		"freshness for trust": func(x *circle.Side) { x.Circle = *x.Freshness },
		"trust for freshness": func(x *circle.Side) { x.Freshness = &x.Circle },
	} {
		x := kept
		edit(&x)
		st.Sides[s.Root] = x
		m := &circletest.Memory{}
		if err := m.Save(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		if _, err := circle.New(t.Context(), m, s.Root); err == nil {
			t.Errorf("state with another %s is taken", name)
		}
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// A store that fails leaves what was believed.
func TestStoreFails(t *testing.T) {
	s := circletest.New(t)
	store := &circletest.Memory{}
	c := open(t, store, s)
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	was := believed(t, c, s.Now)
	store.Err = errors.New("disk full")
	b := s.Bundle(s.Publish())
	if err := c.Apply(t.Context(), b, s.Now); !errors.Is(err, store.Err) {
		t.Errorf("%v", err)
	}
	if believed(t, c, s.Now).Digest() != was.Digest() {
		t.Error("believed what could not be kept")
	}
	if _, err := c.Trusted(s.Now.Add(time.Hour / 2)); !errors.Is(err, store.Err) {
		t.Errorf("time that cannot be kept: %v", err)
	}
	store.Err = nil
	apply(t, c, b, s.Now)
}

// What one machine knows another one can be given.
func TestHandOn(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	if c.Bundle(s.Root) != nil {
		t.Error("a bundle of nothing")
	}
	apply(t, c, s.Bundle(s.Publish(), s.Publish()), s.Now)
	d := open(t, &circletest.Memory{}, s)
	apply(t, d, c.Bundle(s.Root), s.Now)
	if believed(t, c, s.Now).Digest() != believed(t, d, s.Now).Digest() {
		t.Error("handed on it is something else")
	}
}

// Sides side by side: anchors for their own instances, revocations for all,
// enforcement the strictest; where two speak of one instance, the first pinned.
func TestSides(t *testing.T) {
	a := circletest.New(t)
	b := other(t, func(c *charter.Charter) { c.Records.Instance = "vendor-dev" })
	c := open(t, &circletest.Memory{}, a, b)
	apply(t, c, a.Bundle(a.Publish(func(n *trust.Statement) {
		i := n.Instances[circletest.Protected]
		i.Enforcement = trust.Report
		n.Instances[circletest.Protected] = i
		n.Revocations = []record.Revocation{{Fingerprint: string(bytes.Repeat([]byte("ab"), 32)), Since: verifytest.Start}}
	})), a.Now)
	vendor := func(n *trust.Statement) {
		n.Instances = map[string]trust.Instance{
			"vendor-dev":         {Role: trust.Trusted},
			circletest.Protected: {Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{circletest.RuntimeKey(t, "stranger")}},
		}
		n.Anchors[0].Certificate = circletest.Certificate(t, "vendor")
		n.Revocations = []record.Revocation{{Fingerprint: string(bytes.Repeat([]byte("ab"), 32)), Compromised: true}, {Fingerprint: string(bytes.Repeat([]byte("cd"), 32))}}
		n.Floors = []record.Floor{{Ref: record.Ref{Table: "sys_script", Key: []string{"a"}}, Revision: 9}}
	}
	apply(t, c, b.Bundle(b.Publish(vendor)), a.Now)
	tr := believed(t, c, a.Now)
	r := tr.Records(circletest.Protected)
	if !slices.Equal(r.Issuers, []string{circletest.Trusted, "vendor-dev"}) || len(r.Anchors) != 2 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []string{circletest.Trusted, "vendor-dev"} {
		if !slices.Equal(r.Anchors[i].Issuers, []string{want}) {
			t.Errorf("anchor %d is for %v", i, r.Anchors[i].Issuers)
		}
	}
	if len(r.Revocations) != 2 || !r.Revocations[0].Since.IsZero() || !r.Revocations[0].Compromised || len(r.Floors) != 1 {
		t.Errorf("revocations %+v, floors %+v", r.Revocations, r.Floors)
	}
	if tr.Enforcement(circletest.Protected) != trust.On {
		t.Error("the stricter side does not count")
	}
	if k := tr.RuntimeKeys(circletest.Protected); len(k) != 1 || !circletest.Key("runtime").Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k[0]) {
		t.Error("a side gave runtime keys to another side's instance")
	}
	// A stale side permits nothing more, and forbids as before.
	later := a.Now.Add(90 * time.Minute)
	a.Now = later
	f := a.Fresh(time.Hour)
	apply(t, c, &circle.Bundle{Root: a.Root, Freshness: &f}, a.Now)
	tr = believed(t, c, a.Now)
	r = tr.Records(circletest.Protected)
	if len(r.Anchors) != 1 || len(r.Issuers) != 1 || len(r.Revocations) != 2 || tr.Enforcement(circletest.Protected) != trust.On {
		t.Errorf("with a stale side: %+v", r)
	}
}

// A side does not sign for the instances of another.
func TestSideTakesInstance(t *testing.T) {
	a := circletest.New(t)
	b := other(t)
	c := open(t, &circletest.Memory{}, a, b)
	// Before the first side has spoken the second may say what it likes; afterwards
	// the first alone is heard of it.
	apply(t, c, b.Bundle(b.Publish()), b.Now)
	apply(t, c, a.Bundle(a.Publish()), b.Now)
	r := believed(t, c, b.Now).Records(circletest.Protected)
	if len(r.Anchors) != 1 || !slices.Equal(r.Issuers, []string{circletest.Trusted}) || len(r.TimestampRoots) != 0 {
		t.Errorf("%+v", r)
	}
	wants(t, "a version with another's instance", c.Apply(t.Context(), b.Bundle(b.Publish()), b.Now), rejection.CertUntrusted)
}

func TestNewRefuses(t *testing.T) {
	s := circletest.New(t)
	for name, roots := range map[string][]statement.ID{"none": nil, "zero": {{}}, "twice": {s.Root, s.Root}, "many": make([]statement.ID, circle.MaxSides+1)} {
		if _, err := circle.New(t.Context(), &circletest.Memory{}, roots...); err == nil {
			t.Errorf("%s: is accepted", name)
		}
	}
}

// The zero Trusted believes nobody and enforces everything.
func TestZero(t *testing.T) {
	var tr circle.Trusted
	r := tr.Records("prod")
	if tr.Enforcement("prod") != trust.On || tr.RuntimeKeys("prod") != nil || tr.Role("prod") != "" || len(r.Anchors)+len(r.Issuers)+len(r.Configurations) != 0 {
		t.Error("a zero Trusted says something")
	}
}
