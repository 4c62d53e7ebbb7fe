package apk

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const judges = "make judges installs it"

// party is a key whose file programs may read.
type party struct {
	*cmstest.Identity
	id        format.Identity
	cert, key string
}

func newParty(t *testing.T, kind sigalg.Key, scheme sigalg.Scheme) *party {
	t.Helper()
	p := &party{Identity: cmstest.NewRoot(t).Authority(t, "Test Intermediate").Issue(t, "Party "+string(kind), kind)}
	p.id = format.Identity{Scheme: scheme, Public: p.Key.Public(), Chain: p.Chain[:1]}
	dir := t.TempDir()
	p.cert = filepath.Join(dir, "k.pem") // its own alone: scheme v4 has no place for others
	if err := os.WriteFile(p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	p.key = filepath.Join(dir, "k.der")
	if err := os.WriteFile(p.key, der, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// trustIn believes in keys.
func trustIn(ps ...*party) format.Trust {
	t := format.Trust{Now: formattest.At}
	for _, p := range ps {
		t.Keys = append(t.Keys, p.Key.Public())
	}
	return t
}

// signWith signs a package with several keys, the identity's first.
func signWith(t *testing.T, b []byte, params format.Params, ps ...*party) ([]byte, error) {
	t.Helper()
	f := Format{}
	plan, err := f.Plan(t.Context(), artifact(b), params)
	if err != nil {
		return nil, err
	}
	id := ps[0].id
	for _, p := range ps[1:] {
		id.Also = append(id.Also, p.id)
	}
	var done [][]byte
	var sigs []format.Signature
	for {
		tbs, err := f.Assemble(plan, id, formattest.At, done)
		if err != nil {
			return nil, err
		}
		if len(tbs) == 0 {
			break
		}
		for _, x := range tbs {
			v := ps[x.Key].SignInput(t, x.Scheme, x.Input())
			done, sigs = append(done, v), append(sigs, format.Signature{Value: v})
		}
	}
	patch, err := f.Attach(t.Context(), artifact(b), plan, id, formattest.At, sigs)
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}

func save(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.apk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// apksigner judges a package. schemes are those that it must have verified with.
func apksigner(t *testing.T, b []byte, schemes ...string) error {
	t.Helper()
	out, err := formattest.RunJudge(t, formattest.Program(t, "apksigner35", judges), "verify", "-v", save(t, b))
	for _, s := range schemes {
		if err == nil && !strings.Contains(out, "("+s+"): true") {
			err = fmt.Errorf("not verified using %s: %s", s, out)
		}
	}
	if err == nil && strings.Contains(out, "WARNING") {
		err = errors.New(out)
	}
	return err
}

const (
	jarSigning = "JAR signing"
	schemeV2   = "APK Signature Scheme v2"
	schemeV3   = "APK Signature Scheme v3"
	schemeV31  = "APK Signature Scheme v3.1"
)

// apksignerSigns has the peer sign.
func apksignerSigns(t *testing.T, b []byte, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.apk")
	if _, err := formattest.RunJudge(t, formattest.Program(t, "apksigner35", judges), append(append([]string{"sign"}, args...), "--v4-signing-enabled", "false", "--out", out, save(t, b))...); err != nil {
		t.Fatal(err)
	}
	return readFile(t, out)
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// real is a package made by Android's own tool.
func realPackage(t *testing.T, min, target int) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "AndroidManifest.xml"), filepath.Join(dir, "a.apk")
	xml := fmt.Sprintf(`<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="com.example.real" android:versionCode="42" android:versionName="4.2">
<uses-sdk android:minSdkVersion="%d" android:targetSdkVersion="%d"/><application android:hasCode="false"/></manifest>`, min, target)
	if err := os.WriteFile(in, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := formattest.RunJudge(t, formattest.Program(t, "aapt2", "apt-get install aapt"), "link", "-I", "/usr/share/android-framework-res/framework-res.apk", "--manifest", in, "-o", out); err != nil {
		t.Fatal(err)
	}
	return readFile(t, out)
}

// rotate has the peer make a lineage from one key to another.
func rotate(t *testing.T, from, to *party) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "lineage")
	if _, err := formattest.RunJudge(t, formattest.Program(t, "apksigner35", judges), "rotate", "--out", out,
		"--old-signer", "--key", from.key, "--cert", from.cert, "--new-signer", "--key", to.key, "--cert", to.cert); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(readFile(t, out))
}

// tampered are copies of a signed package that nobody may accept.
func tampered(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	r, err := open(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int64) []byte {
		c := bytes.Clone(b)
		c[at] ^= 1
		return c
	}
	id := func(id uint32) int64 { return int64(bytes.Index(b, le.AppendUint32(nil, id))) }
	out := map[string][]byte{
		"content changed":      flip(r.Entries[len(r.Entries)/2].Offset + 60),
		"end record changed":   append(b[:len(b)-2:len(b)-2], 1, 0, 'x'),
		"v3 stripped":          flip(id(idV3)),
		"signing block cut":    flip(r.Directory - 1),
		"v2 signature changed": flip(id(idV2) + 200),
	}
	return out
}

// Apksigner takes what we sign under each scheme and refuses what is changed in it; we
// take what it signs.
func TestOracleAPK(t *testing.T) {
	v := formattest.Judge(t, "apk", "apksigner 35")
	rsa := newParty(t, sigalg.RSA3072, sigalg.RSAPKCS1SHA256)
	ec := newParty(t, sigalg.P256, sigalg.ECDSASHA256)
	p384 := newParty(t, sigalg.P384, sigalg.ECDSASHA512)
	modernReal, oldReal := realPackage(t, 24, 33), realPackage(t, 21, 29)
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	accept := func(what string, kind sigalg.Key, b []byte, tr format.Trust, schemes ...string) {
		t.Helper()
		if err := tryVerify(t, b, tr); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		v.Accepts(what, string(kind), apksigner(t, b, schemes...))
	}
	first := must(signWith(t, modernReal, nil, rsa))
	accept("v2 and v3", sigalg.RSA3072, first, trustIn(rsa), schemeV2, schemeV3)
	large := build(t, modern, "lib/arm64-v8a/libx.so", noise(3<<20), "assets/x", noise(chunkSize))
	accept("chunks", sigalg.P256, must(signWith(t, large, nil, ec)), trustIn(ec), schemeV2, schemeV3)
	accept("SHA-512", sigalg.P384, must(signWith(t, modernReal, format.Params{"digest": "sha512"}, p384)), trustIn(p384), schemeV2, schemeV3)
	v1 := must(signWith(t, oldReal, nil, rsa))
	accept("v1, v2 and v3", sigalg.RSA3072, v1, trustIn(rsa), jarSigning, schemeV2, schemeV3)
	manyChunks := build(t, old, "assets/x", noise(2*chunkSize-20000))
	accept("v1 over chunks", sigalg.P256, must(signWith(t, manyChunks, format.Params{"v1-name": "CERT"}, ec)), trustIn(ec), jarSigning, schemeV2, schemeV3)
	for _, where := range []string{"first", "middle", "last"} {
		b := must(signWith(t, signedAt(t, where), format.Params{"existing": "replace", "v1": "true"}, rsa))
		accept("an old signature "+where, sigalg.RSA3072, b, trustIn(rsa), schemeV2, schemeV3)
	}
	accept("signed again", sigalg.P256, must(signWith(t, v1, format.Params{"existing": "replace"}, ec)), trustIn(ec), jarSigning, schemeV2, schemeV3)

	lineage := rotate(t, rsa, ec)
	for what, c := range map[string]struct {
		min     int
		params  format.Params
		parties []*party
		schemes []string
	}{
		"rotated at once":      {24, format.Params{"lineage": lineage, "rotation-min-sdk": "28"}, []*party{ec, rsa}, []string{schemeV2, schemeV3}},
		"rotated with v3.1":    {24, format.Params{"lineage": lineage}, []*party{ec, rsa}, []string{schemeV2, schemeV3, schemeV31}},
		"older key first":      {21, format.Params{"lineage": lineage, "min-sdk": "24"}, []*party{rsa, ec}, []string{schemeV2, schemeV3, schemeV31}},
		"v3 alone, by lineage": {28, format.Params{"lineage": lineage}, []*party{ec}, []string{schemeV3}},
	} {
		b := must(signWith(t, realPackage(t, max(c.min, 24), 33), c.params, c.parties...))
		accept(what, sigalg.P256, b, trustIn(rsa, ec), c.schemes...)
		if what == "rotated with v3.1" {
			c := bytes.Clone(b)
			c[bytes.Index(c, le.AppendUint32(nil, idV31))] ^= 1
			v.Rejects("v3.1 stripped", tryVerify(t, c, trustIn(rsa, ec)), apksigner(t, c))
		}
	}
	for what, b := range tampered(t, first) {
		v.Rejects(what, tryVerify(t, b, trustIn(rsa)), apksigner(t, b))
	}

	// Theirs.
	key := func(p *party) []string { return []string{"--key", p.key, "--cert", p.cert} }
	lineageFile := filepath.Join(t.TempDir(), "lineage")
	if b, err := base64.StdEncoding.DecodeString(lineage); err != nil || os.WriteFile(lineageFile, b, 0o600) != nil {
		t.Fatal(err)
	}
	v.Takes("v2 and v3", tryVerify(t, apksignerSigns(t, modernReal, key(ec)...), trustIn(ec)))
	v.Takes("v1, v2 and v3", tryVerify(t, apksignerSigns(t, oldReal, key(rsa)...), trustIn(rsa)))
	both := append(append(key(rsa), "--next-signer"), key(ec)...)
	v.Takes("v3.1", tryVerify(t, apksignerSigns(t, modernReal, append(both, "--lineage", lineageFile)...), trustIn(rsa, ec)))
	v.Takes("v3 by lineage", tryVerify(t, apksignerSigns(t, modernReal, append(both, "--lineage", lineageFile, "--rotation-min-sdk-version", "28")...), trustIn(rsa, ec)))
}
