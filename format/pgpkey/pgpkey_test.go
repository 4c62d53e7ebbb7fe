package pgpkey

import (
	"bytes"
	"crypto"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pm "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgp"
	"github.com/greatseal-io/greatseal/format/pgpsig/pgptest"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const line = "Example Releases (2026) <releases@example.com>\n"

func make1(t testing.TB, f format.Format, content string, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	a := format.BytesArtifact("f", []byte(content))
	plan, err := f.Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := f.Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, f, plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Sidecar.Data
}

func params(s *formattest.Signer, version string) format.Params {
	p := format.Params{"key-version": version, "digest": "sha512"}
	if h := s.Scheme.Hash(); h != 0 {
		p["digest"] = format.HashName(h)
	}
	return p
}

func TestConformance(t *testing.T) {
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		for _, version := range []string{"4", "6"} {
			t.Run(string(key)+" "+version, func(t *testing.T) {
				t.Parallel()
				s := formattest.Identity(t, key)
				formattest.Run(t, New(), formattest.Case{
					Artifact: []byte(line), Other: []byte(strings.Replace(line, "releases@", "releasez@", 1)), Name: "user-id",
					Params: params(s, version), Signer: s, Refused: []format.Params{{"digest": "sha1"}, {"key-version": "3"}, {"key-created": "x"}},
				})
			})
		}
	}
}

func TestUserIDs(t *testing.T) {
	for _, id := range []string{"", "\n", "no end", "two\nlines\n", "tab\t\n", "zero\x00\n", "\xff\n", strings.Repeat("x", openpgp.MaxUserID+1) + "\n", "\u202eevil\n"} {
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(id)), nil)
		if err == nil {
			_, err = p.Encode()
		}
		if err == nil {
			t.Errorf("%q is accepted", id)
		}
	}
}

// A certification is good for nothing but its key: the packets of another are refused.
func TestMixed(t *testing.T) {
	one, two := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.Ed25519)
	split := func(b []byte) []openpgp.Packet {
		d, _, err := openpgp.Dearmor(openpgp.ArmorPublicKey, b)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := openpgp.ReadPackets(d, 10)
		if err != nil {
			t.Fatal(err)
		}
		return ps
	}
	a, b := split(make1(t, New(), line, one, nil)), split(make1(t, New(), line, two, nil))
	for name, ps := range map[string][]openpgp.Packet{
		"signature of another": {a[0], a[1], b[2]},
		"key of another":       {b[0], a[1], a[2]},
		"no signature":         {a[0], a[1]},
		"two keys":             append(append([]openpgp.Packet{}, a...), b[0]),
		"twice signed":         {a[0], a[1], a[2], a[2]},
		"no user id":           {a[0], a[2]},
	} {
		var d []byte
		for _, p := range ps {
			d = append(d, p.Raw...)
		}
		tr := one.Trust()
		tr.Keys = append(tr.Keys, two.Public)
		tr.Detached = openpgp.Armor(openpgp.ArmorPublicKey, d)
		if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(line)), tr); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	path, side := filepath.Join("testdata", "plans.txt"), filepath.Join("testdata", "key.asc")
	if *update {
		if err := os.WriteFile(side, make1(t, New(), line, formattest.Identity(t, sigalg.Ed25519), nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(side)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(line)), format.Trust{Keys: []crypto.PublicKey{p.key.Public}, Detached: b}); err != nil {
		t.Error(err)
	}
	var got bytes.Buffer
	for _, version := range []string{"4", "6"} {
		plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(line)), format.Params{"key-version": version})
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := New().Assemble(plan, format.Identity{Scheme: sigalg.PureEd25519, Public: p.key.Public}, formattest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "plan %x\n", enc)
		for _, m := range tbs {
			fmt.Fprintf(&got, "message %x\n", m.Message)
		}
	}
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Errorf("%v\n%s", err, got.Bytes())
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "key.asc"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			return
		}
		New().Verify(t.Context(), format.BytesArtifact("f", []byte(p.userID+"\n")), format.Trust{Keys: []crypto.PublicKey{p.key.Public}, Detached: b})
	})
}

// gpg and sq import our keys, and verify with them what the keys sign.
func TestOraclePGPKey(t *testing.T) {
	sq := formattest.Program(t, "sq", pgptest.Packages)
	v := formattest.Judge(t, Name, "gpg 2.2 and sq 0.27")
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		s := formattest.Identity(t, key)
		cert := make1(t, New(), line, s, params(s, "4"))
		sig := make1(t, pgp.New(), "content\n", s, params(s, "4"))
		verify := func(cert []byte) error {
			g, dir := pgptest.NewGPG(t), t.TempDir()
			if _, err := g.Run("--import", pgptest.File(t, dir, "key.asc", cert)); err != nil {
				return err
			}
			out, err := g.Run("--with-colons", "--list-keys")
			if err != nil {
				return err
			}
			if !strings.Contains(out, strings.TrimSpace(line)) {
				return fmt.Errorf("no user ID: %s", out)
			}
			content := pgptest.File(t, dir, "content", []byte("content\n"))
			if _, err = g.Run("--verify", pgptest.File(t, dir, "sig", sig), content); err != nil {
				return err
			}
			_, err = formattest.RunJudge(t, sq, "verify", "--signer-cert", filepath.Join(dir, "key.asc"), "--detached", filepath.Join(dir, "sig"), content)
			return err
		}
		v.Accepts(string(key), string(key), verify(cert))
		// A flipped bit in the user ID: the self-signature is wrong.
		d, _, err := openpgp.Dearmor(openpgp.ArmorPublicKey, cert)
		if err != nil {
			t.Fatal(err)
		}
		d[bytes.Index(d, []byte("Example"))] ^= 1
		bad := openpgp.Armor(openpgp.ArmorPublicKey, d)
		tr := s.Trust()
		tr.Detached = bad
		_, ours := New().Verify(t.Context(), format.BytesArtifact("f", []byte("D"+line[1:])), tr)
		v.Rejects(string(key), ours, verify(bad))
	}
	// Version 6, which neither reads: a second library.
	s := formattest.Identity(t, sigalg.Ed25519)
	cert := make1(t, New(), line, s, params(s, "6"))
	now := &packet.Config{Time: func() time.Time { return formattest.At.Add(time.Hour) }}
	ring, err := pm.ReadArmoredKeyRing(bytes.NewReader(cert))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ring[0].SigningKey(now.Now()); !ok || ring[0].Identities[strings.TrimSpace(line)] == nil {
		t.Errorf("version 6: no key that signs, or no user ID: %v", ring[0].Identities)
	}
	g := pgptest.NewGPG(t)
	for _, algo := range []string{"rsa3072", "ed25519"} {
		cert, keys := g.Generate(algo)
		_, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(algo+"@example.com\n")), format.Trust{Keys: keys, Detached: openpgp.Armor(openpgp.ArmorPublicKey, cert)})
		v.Takes(algo, err)
	}
}
