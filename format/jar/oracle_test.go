package jar

import (
	"archive/zip"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

const jdk = "apt-get install openjdk-17-jdk-headless"

// trust makes a store of certificates (PEM files) for jarsigner.
func trust(t *testing.T, certs []string) string {
	t.Helper()
	store := filepath.Join(t.TempDir(), "trust.p12")
	for i, c := range certs {
		if _, err := formattest.RunJudge(t, formattest.Program(t, "keytool", jdk), "-J-XX:TieredStopAtLevel=1", "-importcert", "-noprompt", "-alias", fmt.Sprintf("cert%d", i), "-file", c, "-keystore", store, "-storepass", "changeit"); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// jarsigner judges b with a store of certificates.
func jarsigner(t *testing.T, b []byte, store string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.jar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := formattest.RunJudge(t, formattest.Program(t, "jarsigner", jdk), "-J-XX:TieredStopAtLevel=1", "-verify", "-strict", "-keystore", store, "-storepass", "changeit", path)
	if err == nil && !strings.Contains(out, "jar verified.") { // an unsigned archive is no error to it
		err = fmt.Errorf("jarsigner: %s", out)
	}
	return err
}

// rootFile writes the root of a signer for programs, and the authority under it:
// jarsigner -strict wants a certificate of each chain among those that it trusts.
func rootFile(t *testing.T, s *formattest.Signer) []string {
	t.Helper()
	_, _, root := s.Root.WriteFiles(t, t.TempDir(), "root")
	return []string{root, certFile(t, s.Chain[1])}
}

func certFile(t *testing.T, c *x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(tb testing.TB, path, hint string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("%v: %s", err, hint)
	}
	return b
}

func tryVerify(tb testing.TB, b []byte, tr format.Trust) error {
	tb.Helper()
	_, err := Format{}.Verify(tb.Context(), artifact(b), tr)
	return err
}

// change rebuilds an archive with Go's writer, each entry as edit wants it; a nil
// content takes it out.
func change(tb testing.TB, b []byte, edit func(name string, content []byte) []byte, more ...string) []byte {
	tb.Helper()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, f := range r.File {
		c, err := f.Open()
		if err != nil {
			tb.Fatal(err)
		}
		data, err := io.ReadAll(c)
		if err != nil {
			tb.Fatal(err)
		}
		if data == nil {
			data = []byte{}
		}
		if data = edit(f.Name, data); data != nil {
			out = append(out, f.Name, string(data))
		}
	}
	return build(tb, append(out, more...)...)
}

func same(_ string, b []byte) []byte { return b }

// tampered are copies of a signed archive that nobody may accept.
func tampered(tb testing.TB, b []byte, class string) map[string][]byte {
	return map[string][]byte{
		"a class added":   change(tb, b, same, "com/example/Evil.class", "evil"),
		"a class changed": change(tb, b, func(n string, c []byte) []byte { return only(n == class, append(bytes.Clone(c), 1), c) }),
		"manifest changed": change(tb, b, func(n string, c []byte) []byte {
			return only(n == "META-INF/MANIFEST.MF", bytes.Replace(c, []byte("Manifest-Version: 1.0\r\n"), []byte("Manifest-Version: 1.0\r\nLauncher-Agent-Class: Evil\r\n"), 1), c)
		}),
		"signature file changed": change(tb, b, func(n string, c []byte) []byte {
			return only(strings.HasSuffix(n, ".SF"), append(bytes.Clone(c), "Name: x\r\n\r\n"...), c)
		}),
	}
}

func only(yes bool, a, b []byte) []byte {
	if yes {
		return a
	}
	return b
}

// Jarsigner takes what we sign and refuses what is changed in it; we take what it
// signs.
func TestOracleJAR(t *testing.T) {
	v := formattest.Judge(t, "jar", "jarsigner 17")
	guava := readFile(t, "/usr/share/java/guava.jar", "apt-get install libguava-java")
	jsr305 := readFile(t, "/usr/share/java/jsr305.jar", "apt-get install libguava-java")
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		s := formattest.Identity(t, kind)
		store := trust(t, rootFile(t, s))
		name, input := "jsr305", jsr305
		if kind == sigalg.RSA3072 {
			name, input = "guava", guava
		}
		signed := seal(t, s, input, nil)
		if err := tryVerify(t, signed, s.Trust()); err != nil {
			t.Fatal(err)
		}
		v.Accepts(name, string(kind), jarsigner(t, signed, store))
		switch kind {
		case sigalg.RSA3072:
			pss := s.With(sigalg.RSAPSSSHA256)
			v.Accepts("jsr305, PSS", string(kind), jarsigner(t, seal(t, pss, jsr305, nil), store))
			v.Accepts("app bundle", string(kind), jarsigner(t, seal(t, s, bundle(t), nil), store))
			continue
		case sigalg.P256:
		default:
			continue
		}
		for what, b := range tampered(t, signed, "javax/annotation/Nonnull.class") {
			v.Rejects(what, tryVerify(t, b, s.Trust()), jarsigner(t, b, store))
		}
		v.Rejects("another root", tryVerify(t, signed, formattest.Identity(t, kind).Trust()), jarsigner(t, signed, trust(t, rootFile(t, formattest.Identity(t, kind)))))
	}
	theirs, id, root := signedByJarsigner(t, jsr305, sigalg.RSA3072)
	tr := format.Trust{Roots: id.Pool(), Now: formattest.At}
	v.Takes("jsr305", tryVerify(t, theirs, tr))
	ecdsa, other, _ := signedByJarsigner(t, guava, sigalg.P256)
	v.Takes("guava, ECDSA", tryVerify(t, ecdsa, format.Trust{Roots: other.Pool(), Now: formattest.At}))

	// A JAR with two signers, one of them jarsigner's, is signed by a third.
	two := formattest.Identity(t, sigalg.P256)
	three := formattest.Identity(t, sigalg.Ed25519)
	b := seal(t, three, seal(t, two, theirs, format.Params{"name": "TWO"}), format.Params{"name": "THREE"})
	tr.Roots.AddCert(two.Root.Root)
	tr.Roots.AddCert(three.Root.Root)
	r, err := Format{}.Verify(t.Context(), artifact(b), tr)
	if err == nil && len(r.Signatures) != 3 {
		err = fmt.Errorf("%d signatures", len(r.Signatures))
	}
	v.Takes("three signers", err)
	v.Accepts("three signers", string(sigalg.P256), jarsigner(t, b, trust(t, slices.Concat(root, rootFile(t, two), rootFile(t, three)))))
}

// bundle is an Android App Bundle with what Android's own tool makes of a manifest.
func bundle(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "AndroidManifest.xml"), filepath.Join(dir, "a.zip")
	xml := `<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="com.example.bundle" android:versionCode="1"><application android:hasCode="false"/></manifest>`
	if err := os.WriteFile(in, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := formattest.RunJudge(t, formattest.Program(t, "aapt2", "apt-get install aapt"), "link", "--proto-format", "-I", "/usr/share/android-framework-res/framework-res.apk", "--manifest", in, "-o", out); err != nil {
		t.Fatal(err)
	}
	z, err := zipfile.Open(artifact(readFile(t, out, "aapt2 writes it")), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"BundleConfig.pb", "\n\x08\x12\x061.15.6"}
	for i := range z.Entries {
		b, err := z.Content(i, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		name := "base/" + z.Entries[i].Name
		if z.Entries[i].Name == "AndroidManifest.xml" {
			name = "base/manifest/AndroidManifest.xml"
		}
		files = append(files, name, string(b))
	}
	b := build(t, files...)
	if !(Format{}).Detect(artifact(b)) {
		t.Error("an app bundle is not detected")
	}
	return b
}

// signedByJarsigner signs with a key in a file.
func signedByJarsigner(t *testing.T, b []byte, kind sigalg.Key, args ...string) ([]byte, *cmstest.Identity, []string) {
	t.Helper()
	id := cmstest.NewRoot(t).Authority(t, "Test Intermediate").Issue(t, "Jarsigner", kind)
	dir := t.TempDir()
	cert, key, root := id.WriteFiles(t, dir, "k")
	store, path := filepath.Join(dir, "k.p12"), filepath.Join(dir, "a.jar")
	if _, err := cmstest.OpenSSL(t, "pkcs12", "-export", "-in", cert, "-inkey", key, "-name", "theirs", "-passout", "pass:changeit", "-out", store); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := formattest.RunJudge(t, formattest.Program(t, "jarsigner", jdk), append(args, "-keystore", store, "-storepass", "changeit", path, "theirs")...); err != nil {
		t.Fatal(err)
	}
	return readFile(t, path, "jarsigner writes it"), id, []string{root, certFile(t, id.Chain[1])}
}
