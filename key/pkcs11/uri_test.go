package pkcs11

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	for in, want := range map[string]string{
		"pkcs11:token=hsm1;object=release":             "",
		"pkcs11:object=release;token=hsm1":             "pkcs11:token=hsm1;object=release",
		"pkcs11:token=hsm1;id=%01%ab%41":               "pkcs11:token=hsm1;id=%01%AB%41",
		"pkcs11:token=hsm1;id=abc":                     "pkcs11:token=hsm1;id=%61%62%63",
		"pkcs11:serial=0a1b;object=a":                  "",
		"pkcs11:slot-id=0;object=a":                    "",
		"pkcs11:slot-id=18446744073709551615;object=a": "",
		"pkcs11:token=My%20HSM;object=caf%C3%A9":       "",
		"pkcs11:token=%4dy;object=a%2db":               "pkcs11:token=My;object=a-b",
		"pkcs11:token=a;object=b;type=private":         "",
		"pkcs11:token=a%3Bb;object=x%3D%25%2F":         "pkcs11:token=a%3Bb;object=x=%25%2F",
		"pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=01;token=t;id=%00;object=o;type=private": "pkcs11:token=t;manufacturer=SoftHSM%20project;serial=01;model=SoftHSM%20v2;object=o;id=%00;type=private",
		"pkcs11:token=" + strings.Repeat("t", 32) + ";object=" + strings.Repeat("o", 255):                         "",
	} {
		u, err := ParseURI(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if want == "" {
			want = in
		}
		if u.String() != want {
			t.Errorf("%s: String is %s", in, u)
		}
		if u.Key().Provider() != "pkcs11" {
			t.Errorf("%s: provider %s", in, u.Key().Provider())
		}
	}
}

func malformed() []string {
	return []string{
		"", "pkcs11", "pkcs11:", "pkcs11:;", "PKCS11:token=a;object=b", "soft:a", " pkcs11:token=a;object=b", "pkcs11://token=a;object=b",
		"pkcs11:token=a", "pkcs11:object=b", "pkcs11:model=m;object=b", "pkcs11:token=a;type=private",
		"pkcs11:token=a;object=b;", "pkcs11:;token=a;object=b", "pkcs11:token=a;;object=b", "pkcs11:token=a;object",
		"pkcs11:token=;object=b", "pkcs11:token=a;object=", "pkcs11:token=a;object=b;id=",
		"pkcs11:token=a;token=b;object=c", "pkcs11:token=a;object=b;object=b",
		"pkcs11:token=a;object=b;type=public", "pkcs11:token=a;object=b;type=cert", "pkcs11:token=a;object=b;type=secret-key",
		"pkcs11:token=a;object=b;pin-value=1234", "pkcs11:token=a;object=b?pin-value=1234", "pkcs11:token=a;object=b?pin-source=file:/x",
		"pkcs11:token=a;object=b?module-path=/tmp/evil.so", "pkcs11:token=a;object=b?module-name=evil", "pkcs11:token=a;object=b?",
		"pkcs11:token=a;object=b;library-version=3", "pkcs11:token=a;object=b;slot-description=x", "pkcs11:token=a;object=b;x-vendor=y",
		"pkcs11:Token=a;object=b", "pkcs11:%74oken=a;object=b", "pkcs11:token =a;object=b",
		"pkcs11:token=a;object=b%", "pkcs11:token=a;object=b%1", "pkcs11:token=a;object=b%zz", "pkcs11:token=a;object=b%+1", "pkcs11:token=a;object=b% 1",
		"pkcs11:token=a;object=b c", "pkcs11:token=a;object=b/c", "pkcs11:token=a;object=b#c", "pkcs11:token=a;object=b\n", "pkcs11:token=a;object=b\x00",
		"pkcs11:token=a;object=b%00", "pkcs11:token=a;object=b%0A", "pkcs11:token=a;object=%1B[2J", "pkcs11:token=a;object=%FF", "pkcs11:token=a;object=caf\u00e9",
		"pkcs11:token=a;object=%E2%80%AEx", "pkcs11:token=a%20;object=b",
		"pkcs11:slot-id=00;object=a", "pkcs11:slot-id=-1;object=a", "pkcs11:slot-id=+1;object=a", "pkcs11:slot-id=0x1;object=a",
		"pkcs11:slot-id=18446744073709551616;object=a", "pkcs11:slot-id=a;object=a",
		"pkcs11:token=" + strings.Repeat("t", 33) + ";object=b", "pkcs11:token=a;object=" + strings.Repeat("o", 256),
		"pkcs11:token=a;id=" + strings.Repeat("%00", 256), "pkcs11:token=a;object=" + strings.Repeat("o", 3000),
	}
}

func TestParseURIRefuses(t *testing.T) {
	for _, in := range malformed() {
		u, err := ParseURI(in)
		if !errors.Is(err, ErrURI) {
			t.Errorf("%q: %v %v", in, u, err)
			continue
		}
		if strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: error shows a PIN: %v", in, err)
		}
	}
}

func TestParseTokenURI(t *testing.T) {
	u, source, err := ParseTokenURI("pkcs11:token=hsm1?pin-source=file:/run/keys/pin")
	if err != nil || u.Token != "hsm1" || source != "file:/run/keys/pin" {
		t.Fatalf("%v %q %v", u, source, err)
	}
	if u, source, err = ParseTokenURI("pkcs11:serial=01;model=m"); err != nil || u.Serial != "01" || source != "" {
		t.Fatalf("%v %q %v", u, source, err)
	}
	for _, in := range []string{
		"pkcs11:token=a;object=b", "pkcs11:token=a;id=%01", "pkcs11:token=a;type=private", "pkcs11:model=a",
		"pkcs11:token=a?pin-value=1234", "pkcs11:token=a?pin-source=", "pkcs11:token=a?pin-source=a&pin-value=1234",
		"pkcs11:token=a?module-path=/tmp/evil.so", "pkcs11:token=a?pin-source=%00", "pkcs11:token=a?", "pkcs11:token=a?pin-source=a%zz",
	} {
		if _, _, err := ParseTokenURI(in); !errors.Is(err, ErrURI) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	files, err := filepath.Glob("testdata/uri/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus in testdata/uri: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, in := range malformed() {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseURI(in)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil {
			t.Fatalf("%q: String %q does not parse: %v", in, u, err)
		}
		if again.String() != u.String() || again.ID != u.ID || again.Object != u.Object || again.selector() != u.selector() {
			t.Fatalf("%q: %q and %q differ", in, u, again)
		}
	})
}
