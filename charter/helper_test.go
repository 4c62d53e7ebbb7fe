package charter_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

var update = flag.Bool("update", false, "write golden files")

// example is the charter of testdata/example.yaml.
func example(t testing.TB) *charter.Charter {
	t.Helper()
	c, err := charter.ParseYAML(exampleYAML(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func exampleYAML(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// Keys of tests stand in the file by name.
	for _, n := range []string{"alice", "bob", "carol", "dave", "erin", "ci", "scanner", "inspector"} {
		b = bytes.ReplaceAll(b, []byte("SSH("+n+")"), []byte(credentialtest.SSH(n).Credential().Text()))
	}
	b = bytes.ReplaceAll(b, []byte("X509(erin)"), []byte(credentialtest.X509("erin").Credential().Text()))
	return bytes.ReplaceAll(b, []byte("PASSKEY(alice)"),
		[]byte(credentialtest.Passkey("alice", "example.com", "https://seal.example.com").Credential().Text()))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v: run with -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}
