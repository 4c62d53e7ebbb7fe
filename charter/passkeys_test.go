package charter_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/credential/attestation/attestationtest"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	passkeyRP     = "seal.example.com"
	passkeyOrigin = "https://seal.example.com"
)

var passkeyModel = attestation.AAGUID{0x2f, 0xc0, 1}

// attested is a charter in which bob has an attested passkey, and one is required.
func attested(t *testing.T, m *attestationtest.Maker, change ...func(*charter.Charter, *charter.Credential)) *charter.Charter {
	t.Helper()
	c := example(t)
	c.Passkeys = &charter.Passkeys{RelyingParty: passkeyRP, Origins: []string{passkeyOrigin}, Backup: charter.BackupRefuse,
		Attestation: &charter.Attestation{Required: true, Models: []string{passkeyModel.String()}, Roots: []string{m.RootText()}}}
	alice := c.People["alice"]
	alice.Credentials = slices.DeleteFunc(slices.Clone(alice.Credentials), func(x charter.Credential) bool { return x.Passkey != "" })
	c.People["alice"] = alice
	k := attestationtest.NewKey("bob", passkeyRP, passkeyOrigin)
	x := charter.CredentialOf(k.Credential())
	x.Attestation = recordOf(t, k, c, "bob", attestationtest.How{Format: "packed", Maker: m, Model: passkeyModel})
	for _, f := range change {
		f(c, &x)
	}
	bob := c.People["bob"]
	bob.Credentials = append(slices.Clone(bob.Credentials), x)
	c.People["bob"] = bob
	return c
}

func recordOf(t *testing.T, k *attestationtest.Key, c *charter.Charter, person string, how attestationtest.How) string {
	t.Helper()
	text, err := k.Record(c.Deployment, person, c.Created.Add(-time.Hour), how).Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func passkeyMaker(t *testing.T) *attestationtest.Maker {
	c := example(t)
	return attestationtest.NewMaker("Maker", c.Created.Add(-24*time.Hour), c.Created.Add(24*time.Hour))
}

// An attested passkey stands in a charter that requires it, in both of its forms, also
// long after its maker's certificate has expired.
func TestAttestedPasskey(t *testing.T) {
	c := attested(t, passkeyMaker(t))
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	d, err := charter.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	y, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	e, err := charter.ParseYAML(y)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := charter.Encode(e); err != nil || !bytes.Equal(again, payload) {
		t.Fatalf("another charter (%v)", err)
	}
	c.Created = c.Created.AddDate(30, 0, 0)
	if err := c.Check(); err != nil {
		t.Errorf("thirty years later: %v", err)
	}
}

// Every way around an attestation that is required is refused by Check: by the keeper.
func TestPasskeysRefused(t *testing.T) {
	m := passkeyMaker(t)
	key := func(name string) *attestationtest.Key { return attestationtest.NewKey(name, passkeyRP, passkeyOrigin) }
	synced := key("bob")
	synced.Synced = true
	with := func(how attestationtest.How) func(*charter.Charter, *charter.Credential) {
		return func(c *charter.Charter, x *charter.Credential) {
			x.Attestation = recordOf(t, key("bob"), c, "bob", how)
		}
	}
	packed := attestationtest.How{Format: "packed", Maker: m, Model: passkeyModel}
	for name, c := range map[string]struct {
		change func(*charter.Charter, *charter.Credential)
		want   string
	}{
		"no attestation":   {func(_ *charter.Charter, x *charter.Credential) { x.Attestation = "" }, "has no attestation"},
		"format none":      {with(attestationtest.How{}), "required"},
		"self attestation": {with(attestationtest.How{Format: "packed-self", Model: passkeyModel}), "required"},
		"unknown format":   {with(attestationtest.How{Format: "android-safetynet", Model: passkeyModel}), "required"},
		"fido-u2f":         {with(attestationtest.How{Format: "fido-u2f", Maker: m}), "names no model"},
		"another maker":    {with(attestationtest.How{Format: "packed", Maker: passkeyMaker(t), Model: passkeyModel}), "none of the roots"},
		"another model":    {with(attestationtest.How{Format: "packed", Maker: m, Model: attestation.AAGUID{9}}), "not one of those"},
		"a key of software under the ID": {func(c *charter.Charter, x *charter.Credential) { // a stolen server
			s := key("bob")
			mallory := key("mallory")
			mallory.ID = s.ID
			*x = charter.Credential{Passkey: mallory.Credential().Text(), Attestation: x.Attestation}
		}, "another passkey"},
		"of somebody else": {func(c *charter.Charter, x *charter.Credential) {
			x.Attestation = recordOf(t, key("bob"), c, "alice", packed)
		}, "challenge"},
		"of another deployment": {func(c *charter.Charter, x *charter.Credential) {
			o := *c
			o.Deployment = "other"
			x.Attestation = recordOf(t, key("bob"), &o, "bob", packed)
		}, "challenge"},
		"of the future": {func(c *charter.Charter, x *charter.Credential) {
			text, err := key("bob").Record(c.Deployment, "bob", c.Created.Add(time.Second), packed).Text()
			if err != nil {
				t.Fatal(err)
			}
			x.Attestation = text
		}, "after this charter"},
		"expired": {func(c *charter.Charter, x *charter.Credential) {
			text, err := key("bob").Record(c.Deployment, "bob", c.Created.Add(-48*time.Hour), packed).Text()
			if err != nil {
				t.Fatal(err)
			}
			x.Attestation = text
		}, "not valid then"},
		"no record": {func(_ *charter.Charter, x *charter.Credential) { x.Attestation = "AAAA" }, "cbor"},
		"synchronised": {func(c *charter.Charter, x *charter.Credential) {
			*x = charter.Credential{Passkey: synced.Credential().Text(), Attestation: recordOf(t, synced, c, "bob", packed)}
		}, "copied"},
		"another relying party": {func(_ *charter.Charter, x *charter.Credential) {
			*x = charter.CredentialOf(attestationtest.NewKey("bob", "example.com", passkeyOrigin).Credential())
		}, "want a passkey for"},
		"another origin": {func(_ *charter.Charter, x *charter.Credential) {
			*x = charter.CredentialOf(attestationtest.NewKey("bob", passkeyRP, "https://x.seal.example.com").Credential())
		}, "passkeys.origins"},
		"of no passkey": {func(c *charter.Charter, x *charter.Credential) {
			y := c.People["dave"].Credentials[0]
			c.People["dave"] = charter.Person{Credentials: []charter.Credential{{SSH: y.SSH, Attestation: "AAAA"}}}
		}, "passkeys alone"},
		"no origins":          {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Origins = nil }, "there are none"},
		"an origin elsewhere": {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Origins = []string{"https://evil.test"} }, "origin"},
		"no word on backup":   {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Backup = "" }, "want allow"},
		"no roots":            {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Attestation.Roots = nil }, "certificates of the makers"},
		"a root that is none": {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Attestation.Roots = []string{"x"} }, "PEM"},
		"many roots": {func(c *charter.Charter, _ *charter.Credential) {
			c.Passkeys.Attestation.Roots = slices.Repeat([]string{m.RootText()}, 33)
		}, "at most"},
		"a model that is none": {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Attestation.Models = []string{"x"} }, "AAGUID"},
		"models unasked":       {func(c *charter.Charter, _ *charter.Credential) { c.Passkeys.Attestation.Required = false }, "required: true"},
	} {
		t.Run(name, func(t *testing.T) {
			err := attested(t, m, c.change).Check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: want %q", err, c.want)
			}
		})
	}
}

// An attestation that is wrong is refused where none is required, too; one that is right
// may stand there.
func TestAttestationUnasked(t *testing.T) {
	m := passkeyMaker(t)
	free := func(c *charter.Charter, x *charter.Credential) { c.Passkeys = nil }
	if err := attested(t, m, free).Check(); err != nil {
		t.Error(err)
	}
	wrong := func(c *charter.Charter, x *charter.Credential) {
		x.Attestation = recordOf(t, attestationtest.NewKey("bob", passkeyRP, passkeyOrigin), c, "mallory", attestationtest.How{})
	}
	if err := attested(t, m, free, wrong).Check(); err == nil {
		t.Error("somebody else's")
	}
}

func TestPasskeysDiff(t *testing.T) {
	m := passkeyMaker(t)
	c := attested(t, m)
	for name, x := range map[string]struct {
		change func(*charter.Charter)
		want   charter.Effect
	}{
		"passkeys":                      {func(d *charter.Charter) { d.Passkeys = nil }, charter.Weaker},
		"passkeys.backup":               {func(d *charter.Charter) { d.Passkeys.Backup = charter.BackupAllow }, charter.Weaker},
		"passkeys.attestation.required": {func(d *charter.Charter) { d.Passkeys.Attestation.Required, d.Passkeys.Attestation.Models = false, nil }, charter.Weaker},
		"passkeys.attestation.models":   {func(d *charter.Charter) { d.Passkeys.Attestation.Models = nil }, charter.Weaker},
		"passkeys.attestation.roots": {func(d *charter.Charter) {
			d.Passkeys.Attestation.Roots = append(d.Passkeys.Attestation.Roots, passkeyMaker(t).RootText())
		}, charter.Weaker},
		"passkeys.origins": {func(d *charter.Charter) {
			d.Passkeys.Origins = append(d.Passkeys.Origins, "https://x.seal.example.com")
		}, charter.Weaker},
		"passkeys.relyingParty": {func(d *charter.Charter) { d.Passkeys.RelyingParty = "example.com" }, charter.Trust},
		"people.bob.credentials": {func(d *charter.Charter) {
			d.People["bob"].Credentials[len(d.People["bob"].Credentials)-1].Attestation = ""
		}, charter.Trust},
	} {
		t.Run(name, func(t *testing.T) {
			d := attested(t, m)
			*d = *c
			p := *c.Passkeys
			a := *p.Attestation
			a.Roots, a.Models = slices.Clone(a.Roots), slices.Clone(a.Models)
			p.Attestation, p.Origins = &a, slices.Clone(p.Origins)
			d.Passkeys = &p
			d.People = map[string]charter.Person{}
			for n, q := range c.People {
				q.Credentials = slices.Clone(q.Credentials)
				d.People[n] = q
			}
			x.change(d)
			has := func(list []charter.Change, want charter.Effect) bool {
				return slices.ContainsFunc(list, func(g charter.Change) bool { return g.Path == name && g.Effect == want })
			}
			if got := charter.Diff(c, d); !has(got, x.want) {
				t.Errorf("%v", got)
			}
			back := map[charter.Effect]charter.Effect{charter.Weaker: charter.Stronger, charter.Trust: charter.Trust}[x.want]
			if got := charter.Diff(d, c); !has(got, back) {
				t.Errorf("the other way: %v", got)
			}
		})
	}
}

// Officers whose passkeys are all copied between devices are warned of; one that is not
// among those who are needed ends the warning.
func TestSyncedOfficers(t *testing.T) {
	warned := func(c *charter.Charter) bool {
		return slices.ContainsFunc(charter.Lint(c), func(w charter.Warning) bool {
			return w.Code == "synced-officers" && w.Path == "commands."+string(statement.CharterReplace)+".quorum"
		})
	}
	c := example(t)
	if warned(c) {
		t.Fatal("without synchronised passkeys")
	}
	officers := map[string]bool{}
	for _, l := range c.Commands[statement.CharterReplace].Quorum.Leaves() {
		for _, n := range c.Members(l.Name()) {
			officers[n] = true
		}
	}
	for n := range officers {
		k := attestationtest.NewKey(n, passkeyRP, passkeyOrigin)
		k.Synced = true
		p := c.People[n]
		p.Credentials = append(slices.Clone(p.Credentials), charter.CredentialOf(k.Credential()))
		c.People[n] = p
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if !warned(c) {
		t.Errorf("no warning: %v", charter.Lint(c))
	}
}
