package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig/pgptest"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const controlFile = "Package: hello\nVersion: 1.2.3\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: hello\n"

func tarball(t testing.TB, name, content string, zip bool) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if !zip {
		w = tar.NewWriter(&b)
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(content))
	w.Close()
	if zip {
		z.Close()
	}
	return b.Bytes()
}

var made = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// archive writes members: names and contents by turns.
func archive(parts ...string) []byte {
	b := []byte(arMagic)
	for i := 0; i < len(parts); i += 2 {
		b = append(b, newMember(parts[i], made, []byte(parts[i+1]))...)
	}
	return b
}

func build(t testing.TB, data string) []byte {
	t.Helper()
	return archive("debian-binary", "2.0\n", "control.tar.gz", string(tarball(t, "./control", controlFile, true)), "data.tar.gz", string(tarball(t, "./f", data, true)))
}

func sign(t testing.TB, content []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	a := format.BytesArtifact("p.deb", content)
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	b, err := patch.Bytes(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t testing.TB, file []byte, s *formattest.Signer) error {
	t.Helper()
	_, err := New().Verify(t.Context(), format.BytesArtifact("p.deb", file), s.Trust())
	return err
}

// free says which bytes debsig leaves open: in headers of members, and the role.
func free(b []byte, i int) bool {
	ms, err := readMembers(format.BytesArtifact("f", b))
	if err != nil {
		return false
	}
	for _, m := range ms {
		at := i - int(m.offset) + memberSize
		if at >= 16 && at < 48 || strings.HasPrefix(m.name, "_gpg") && at >= 4 && at < 16 {
			return true
		}
	}
	return false
}

func TestConformance(t *testing.T) {
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		t.Run(string(key), func(t *testing.T) {
			t.Parallel()
			formattest.Run(t, New(), formattest.Case{
				Artifact: build(t, "content"), Other: build(t, "contend"), Name: "hello.deb",
				Signer: formattest.Identity(t, key), Refused: []format.Params{{"role": "builder"}, {"key-version": "6"}, {"digest": "md5"}},
				// The archive around the contents is not signed: see Report's Open.
				Unsigned: []string{"Size", "Facts", "Body"}, Open: free,
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	big := archive("debian-binary", "2.0\n", "control.tar", string(tarball(t, "./control", controlFile, false)), "data.tar", string(tarball(t, "./f", strings.Repeat("x", 4<<20), false)))
	formattest.Reads(t, New(), format.BytesArtifact("big.deb", big), nil)
}

func TestFacts(t *testing.T) {
	for _, zip := range []bool{false, true} {
		name := map[bool]string{false: "control.tar", true: "control.tar.gz"}[zip]
		b := archive("debian-binary", "2.0\n", name, string(tarball(t, "./control", controlFile+"Depends: evil\u202e\n", zip)), "data.tar.gz", string(tarball(t, "./f", "x", true)))
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", b), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(p.Facts); !strings.Contains(got, "{package hello} {version 1.2.3} {architecture all} {maintainer A <a@example.com>}") || strings.Contains(got, "evil") {
			t.Error(got)
		}
	}
	// A bomb is not unpacked.
	bomb := archive("debian-binary", "2.0\n", "control.tar.gz", string(tarball(t, "./a", strings.Repeat("\x00", 64<<20), true)), "data.tar.gz", string(tarball(t, "./f", "x", true)))
	if p, err := New().Plan(t.Context(), format.BytesArtifact("f", bomb), nil); err != nil || strings.Contains(fmt.Sprint(p.Facts), "{package ") || strings.Contains(fmt.Sprint(p.Facts), "{script ") {
		t.Errorf("%v, %v", p, err)
	}
}

// dpkg has tar unpack all of control.tar: what comes last is what it reads.
func TestFactsOfAnotherControl(t *testing.T) {
	type file struct {
		name, link, content string
		kind                byte
	}
	good, evil := file{"./control", "", controlFile, tar.TypeReg}, strings.Replace(controlFile, "hello", "evil", 1)
	for name, c := range map[string]struct {
		files []file
		known bool
	}{
		"as dpkg-deb makes it": {[]file{{"./", "", "", tar.TypeDir}, good, {"./postinst", "", "#!/bin/sh\n", tar.TypeReg}}, true},
		"twice":                {[]file{good, {"./control", "", evil, tar.TypeReg}}, false},
		"by another name":      {[]file{good, {"control", "", evil, tar.TypeReg}}, false},
		"by a path":            {[]file{good, {"././control", "", evil, tar.TypeReg}}, false},
		"absolute":             {[]file{good, {"/control", "", evil, tar.TypeReg}}, false},
		"through a link":       {[]file{good, {"./x", ".", "", tar.TypeSymlink}, {"./x/control", "", evil, tar.TypeReg}}, false},
		"as a link":            {[]file{good, {"./other", "", evil, tar.TypeReg}, {"./control", "other", "", tar.TypeLink}}, false},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, f := range c.files {
			if err := w.WriteHeader(&tar.Header{Name: f.name, Linkname: f.link, Typeflag: f.kind, Mode: 0o755, Size: int64(len(f.content)), Format: tar.FormatUSTAR}); err != nil {
				t.Fatal(err)
			}
			w.Write([]byte(f.content))
		}
		w.Close()
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", archive("debian-binary", "2.0\n", "control.tar", b.String(), "data.tar.gz", string(tarball(t, "./f", "x", true)))), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(fmt.Sprint(p.Facts), "{package "); got != c.known {
			t.Errorf("%s: facts of the package: %v: %v", name, got, p.Facts)
		}
	}
}

// What dpkg reads and debsig does not sign.
func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	c, d := string(tarball(t, "./control", controlFile, true)), string(tarball(t, "./f", "content", true))
	evil := string(tarball(t, "./f", "evil", true))
	good := archive("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.gz", d)
	signed := sign(t, good, s, nil)
	if err := check(t, signed, s); err != nil {
		t.Fatal(err)
	}
	sig := string(signed[len(good):])
	again := func(parts ...string) []byte { return append(archive(parts...), sig...) }
	for name, b := range map[string][]byte{
		"a second data before":        again("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.xz", evil, "data.tar.gz", d),
		"a second control before":     again("debian-binary", "2.0\n", "control.tar.gz", evil, "control.tar.gz", c, "data.tar.gz", d),
		"a member that dpkg skips":    again("debian-binary", "2.0\n", "_evil", evil, "control.tar.gz", c, "data.tar.gz", d),
		"data behind the data":        again("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.gz", d, "data.tar.xz", evil),
		"parts in another order":      again("debian-binary", "2.0\n", "data.tar.gz", d, "control.tar.gz", c),
		"the boundary moved forward":  again("debian-binary", "2.0\n", "control.tar.gz", c+d[:4], "data.tar.gz", d[4:]),
		"the boundary moved back":     again("debian-binary", "2.0\n", "control.tar.gz", c[:len(c)-4], "data.tar.gz", c[len(c)-4:]+d),
		"the first boundary moved":    again("debian-binary", "2.0\n"+c[:2], "control.tar.gz", c[2:], "data.tar.gz", d),
		"another compression's name":  again("debian-binary", "2.0\n", "control.tar.xz", c, "data.tar.gz", d),
		"a signature twice":           append(bytes.Clone(signed), sig...),
		"something after the end":     append(bytes.Clone(signed), "\n"...),
		"format 3":                    again("debian-binary", "3.0\n", "control.tar.gz", c, "data.tar.gz", d),
		"a negative size":             bytes.Replace(signed, []byte(fmt.Sprintf("%-10d`", len(d))), []byte(fmt.Sprintf("%-10d`", -1)), 1),
		"a size with a sign":          bytes.Replace(signed, []byte("4         `"), []byte("+4        `"), 1),
		"a size beyond the file":      bytes.Replace(signed, []byte("4         `"), []byte("4000000000`"), 1),
		"data of another package":     again("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.gz", evil),
		"a signature that is a bomb":  archive("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.gz", d, "_gpgorigin", strings.Repeat("x", maxSignature+1)),
		"a signature by dpkg-sig":     archive("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.gz", d, "_gpgbuilder", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nVersion: 4\n"),
		"a signature that is nothing": archive("debian-binary", "2.0\n", "control.tar.gz", c, "data.tar.gz", d, "_gpgorigin", ""),
	} {
		if bytes.Equal(b, signed) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if check(t, b, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New().Attach(t.Context(), format.BytesArtifact("f", signed), func() *format.Plan {
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", signed), nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}(), s.Identity, formattest.At, nil); err == nil {
		t.Error("a second signature of the role")
	}
}

func TestRoles(t *testing.T) {
	one, two := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256)
	b := build(t, "content")
	both := sign(t, sign(t, b, one, format.Params{"role": "maint"}), two, format.Params{"role": "origin"})
	tr := one.Trust()
	tr.Keys = append(tr.Keys, two.Public)
	a := format.BytesArtifact("f", both)
	r, err := New().Verify(t.Context(), a, tr)
	if err != nil || len(r.Signatures) != 2 || r.Signatures[0].Label != "maint" || r.Signatures[1].Label != "origin" {
		t.Fatalf("%+v, %v", r, err)
	}
	if check(t, both, one) == nil {
		t.Error("one of two is trusted")
	}
	p, err := Format{}.Remove(t.Context(), a, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Bytes(a); err != nil || check(t, got, one) != nil {
		t.Errorf("%v", err)
	}
	if p, err = (Format{}).Remove(t.Context(), a, -1); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Bytes(a); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%v", err)
	}
	replaced := sign(t, both, two, format.Params{"role": "maint", "replace": "true"})
	if err := check(t, replaced, two); err != nil {
		t.Error(err)
	}
	n := 0
	if err := (Format{}).List(t.Context(), a, func(e format.Entry) error { n++; return nil }); err != nil || n != 5 {
		t.Errorf("%d entries, %v", n, err)
	}
	if err := (Format{}).List(t.Context(), a, func(e format.Entry) error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Error(err)
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	seed := filepath.Join("testdata", "signed.deb")
	if *update {
		if err := os.WriteFile(seed, sign(t, build(t, "content"), formattest.Identity(t, sigalg.Ed25519), nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(seed)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := New().Plan(t.Context(), format.BytesArtifact("f", b), nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := New().Assemble(plan, format.Identity{Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(bytes.Repeat([]byte{1}, 32))}, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Appendf(nil, "plan %x\nmessage %x\n", enc, tbs[0].Message)
	path := filepath.Join("testdata", "plan.txt")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%v\n%s", err, got)
	}
}

func FuzzPackage(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "signed.deb"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(build(f, "x"))
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := format.BytesArtifact("f", b)
		if check(t, b, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
		New().Inspect(t.Context(), a)
		if New().Detect(a) {
			if _, err := New().Plan(t.Context(), a, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

const packages = "apt-get install debsig-verify binutils; make judges"

// packaged are a package of the distribution, one by dpkg-deb and one by nfpm.
func packaged(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	pgptest.File(t, filepath.Join(root, "DEBIAN"), "control", []byte(controlFile))
	file := pgptest.File(t, root, "file", []byte("content\n"))
	out := map[string][]byte{}
	for _, z := range []string{"gzip", "xz", "zstd", "none"} {
		target := filepath.Join(dir, z+".deb")
		if _, err := formattest.RunJudge(t, formattest.Program(t, "dpkg-deb", packages), "-Z"+z, "--uniform-compression", "--root-owner-group", "--build", root, target); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		out["dpkg-deb "+z] = b
	}
	config := pgptest.File(t, dir, "nfpm.yaml", []byte(fmt.Sprintf("name: hello\narch: amd64\nversion: 1.2.3\nmaintainer: A <a@example.com>\ndescription: hello\ncontents:\n- src: %s\n  dst: /usr/share/hello/f\n", file)))
	target := filepath.Join(dir, "nfpm.deb")
	if _, err := formattest.RunJudge(t, formattest.Program(t, "nfpm", packages), "package", "--config", config, "--packager", "deb", "--target", target); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	out["nfpm"] = b
	return out
}

func TestOracleDEB(t *testing.T) {
	verify, dpkg := formattest.Program(t, "debsig-verify", packages), formattest.Program(t, "dpkg-deb", packages)
	v := formattest.Judge(t, Name, "debsig-verify 0.25")
	// policy puts a key where debsig-verify looks for it.
	policy := func(cert []byte) func([]byte) error {
		cs, err := openpgp.ReadCertificates(cert, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("%X", cs[0].Primary.ID())
		dir := t.TempDir()
		for _, d := range []string{"policies", "keyrings"} {
			if err := os.MkdirAll(filepath.Join(dir, d, id), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		pgptest.File(t, filepath.Join(dir, "keyrings", id), "key.pgp", cert)
		pgptest.File(t, filepath.Join(dir, "policies", id), "test.pol", []byte(strings.ReplaceAll(`<?xml version="1.0"?>
<!DOCTYPE Policy SYSTEM "https://www.debian.org/debsig/1.0/policy.dtd">
<Policy xmlns="https://www.debian.org/debsig/1.0/">
  <Origin Name="Test" id="ID" Description="test"/>
  <Selection><Required Type="origin" File="key.pgp" id="ID"/></Selection>
  <Verification MinOptional="0"><Required Type="origin" File="key.pgp" id="ID"/></Verification>
</Policy>
`, "ID", id)))
		return func(b []byte) error {
			_, err := formattest.RunJudge(t, verify, "--policies-dir", filepath.Join(dir, "policies"), "--keyrings-dir", filepath.Join(dir, "keyrings"), pgptest.File(t, t.TempDir(), "p.deb", b))
			return err
		}
	}
	inputs := packaged(t)
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		s := formattest.Identity(t, key)
		judge := policy(pgptest.Certificate(t, s, 4))
		for name, b := range inputs {
			what := string(key) + " " + name
			signed := sign(t, b, s, nil)
			v.Accepts(what, string(key), judge(signed))
			if err := check(t, signed, s); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := formattest.RunJudge(t, dpkg, "--info", pgptest.File(t, t.TempDir(), "p.deb", signed)); err != nil {
				t.Errorf("%s: dpkg does not read it any more: %v", what, err)
			}
			bad := bytes.Clone(signed)
			bad[len(b)-20] ^= 1
			v.Rejects(what, check(t, bad, s), judge(bad))
		}
	}
	// Theirs: what gpg signs over the three members, as debsigs has it done, in an
	// archive that ar changed. debsigs itself asks gpg for SHA-1, which we refuse.
	g := pgptest.NewGPG(t)
	cert, keys := g.Generate("rsa3072")
	judge := policy(cert)
	ar := formattest.Program(t, "ar", packages)
	for name, b := range inputs {
		dir := t.TempDir()
		l, err := readLayout(format.BytesArtifact("f", b))
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, m := range l.parts {
			all = append(all, b[m.offset:m.offset+m.size]...)
		}
		in, out, pkg := pgptest.File(t, dir, "in", all), filepath.Join(dir, "_gpgorigin"), pgptest.File(t, dir, "p.deb", b)
		for _, digest := range []string{"SHA1", "SHA256"} {
			g.Must("--local-user", "rsa3072@example.com", "--digest-algo", digest, "--output", out, "--detach-sign", in)
			if _, err := formattest.RunJudge(t, ar, "rc", pkg, out); err != nil {
				t.Fatal(err)
			}
			signed, err := os.ReadFile(pkg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = New().Verify(t.Context(), format.BytesArtifact("f", signed), format.Trust{Keys: keys})
			if digest == "SHA1" {
				v.RejectsAlone(name+" with SHA-1", err)
				continue
			}
			v.Takes(name, err)
			if err := judge(signed); err != nil {
				t.Errorf("%s: debsig-verify does not take what gpg made: %v", name, err)
			}
		}
	}
}
