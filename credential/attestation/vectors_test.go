package attestation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/credential"
)

type vector struct {
	Name        string `json:"name"`
	Challenge   string `json:"challenge"`
	ClientData  string `json:"clientDataJSON"`
	Attestation string `json:"attestationObject"`
}

// vectors are the registrations of WebAuthn Level 3 section 16, as it has them.
func vectors(t testing.TB) (root *x509.Certificate, list []vector) {
	t.Helper()
	b, err := os.ReadFile("testdata/w3c.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Source  string   `json:"source"`
		Root    string   `json:"root"`
		Vectors []vector `json:"vectors"`
	}
	if err := json.Unmarshal(b, &f, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(unhex(t, f.Root)); err != nil {
		t.Fatal(err)
	}
	if len(f.Vectors) != 15 {
		t.Fatalf("%d vectors", len(f.Vectors))
	}
	return root, f.Vectors
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The statements of the standard's own examples verify, with its root, and not with a
// bit turned in what they sign.
func TestStandardStatements(t *testing.T) {
	root, list := vectors(t)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	want := map[string]Result{"none": None, "packed-self": Self, "packed": Model, "tpm": Model, "android-key": Unverified, "apple": Model, "fido-u2f": Model}
	seen := map[Result]int{}
	for _, v := range list {
		t.Run(v.Name, func(t *testing.T) {
			o, err := parseObject(unhex(t, v.Attestation))
			if err != nil {
				t.Fatal(err)
			}
			a, err := parseAuthData(o.AuthData)
			if err != nil {
				t.Fatal(err)
			}
			cred, err := credential.NewPasskey(a.id, a.key, "example.org", []string{"https://example.org"}, a.flags&flagBE != 0)
			if unsupported := strings.HasSuffix(v.Name, "es384") || strings.HasSuffix(v.Name, "es512") || strings.HasSuffix(v.Name, "ed448"); unsupported {
				if err == nil {
					t.Fatal("a key was taken that package credential does not verify")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kind := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(v.Name, "-es256"), "-eddsa"), "-rs256")
			kind, _, _ = strings.Cut(kind, "-es256-")
			s := &signed{auth: o.AuthData, client: sha256.Sum256(unhex(t, v.ClientData)), data: a, cred: cred}
			st, err := s.verify(o.Format, o.Statement)
			if err != nil || st.result != want[kind] {
				t.Fatalf("%v %q, %v: want %v", st.result, st.why, err, want[kind])
			}
			seen[st.result]++
			if st.result == Model {
				if err := rooted(st.chain, []*x509.Certificate{root}, at); err != nil {
					t.Error(err)
				}
				if rooted(st.chain, []*x509.Certificate{root}, at.AddDate(2000, 0, 0)) == nil || rooted(st.chain, nil, at) == nil || rooted(st.chain, []*x509.Certificate{root}, time.Time{}) == nil {
					t.Error("of no root, or of another time")
				}
			}
			if st.result != None {
				s.client[7] ^= 1
				if st, err := s.verify(o.Format, o.Statement); err == nil {
					t.Errorf("with other client data: %v", st.result)
				}
			}
		})
	}
	if seen[Model] < 6 || seen[Self] != 1 || seen[None] != 4 {
		t.Errorf("%v", seen)
	}
}

// Check takes those of them whose user was verified, in no frame of another origin.
func TestStandardRegistrations(t *testing.T) {
	root, list := vectors(t)
	taken, absent := 0, 0
	for _, v := range list {
		r, err := Check(unhex(t, v.Attestation), unhex(t, v.ClientData), Expect{Challenge: unhex(t, v.Challenge), RelyingParty: "example.org", Origins: []string{"https://example.org"},
			Roots: []*x509.Certificate{root}, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
		o, err2 := parseObject(unhex(t, v.Attestation))
		if err2 != nil {
			t.Fatal(err2)
		}
		verified := o.AuthData[32]&flagUV != 0
		frame := strings.HasSuffix(v.Name, "Origin")
		switch {
		case err == nil && (!verified || frame || !r.UserVerified()):
			t.Errorf("%s: taken", v.Name)
		case err == nil:
			taken++
			if r.BackupEligible() != (o.AuthData[32]&flagBE != 0) || r.BackedUp() != (o.AuthData[32]&flagBS != 0) {
				t.Errorf("%s: flags", v.Name)
			}
		case verified && !frame && !strings.Contains(err.Error(), "cose key"):
			t.Errorf("%s: %v", v.Name, err)
		case !verified && !frame:
			absent++
		}
	}
	if taken == 0 || absent == 0 {
		t.Errorf("%d taken, %d without a verified user", taken, absent)
	}
}
