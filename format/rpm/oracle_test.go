package rpm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig/pgptest"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

const packages = "apt-get install rpm; make judges"

// packaged are packages by rpmbuild, with and without reserved space, and by nfpm.
func packaged(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	words, err := os.ReadFile("/etc/services")
	if err != nil {
		t.Fatal(err)
	}
	file := pgptest.File(t, dir, "services", words)
	spec := pgptest.File(t, dir, "hello.spec", []byte(`Name: hello
Version: 1.2.3
Release: 1
Epoch: 4
Summary: says hello
License: MIT
BuildArch: noarch
%description
hello
%install
mkdir -p %{buildroot}/usr/share/hello
cp `+file+` %{buildroot}/usr/share/hello/
%files
/usr/share/hello/services
`))
	out := map[string][]byte{}
	for name, defines := range map[string][]string{
		"rpmbuild": nil, "rpmbuild xz": {"_binary_payload w6.xzdio"}, "rpmbuild without space": {"__gpg_reserved_space 0"},
	} {
		top := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		args := []string{"-bb", "--quiet", "--define", "_topdir " + top}
		for _, d := range defines {
			args = append(args, "--define", d)
		}
		if _, err := formattest.RunJudge(t, formattest.Program(t, "rpmbuild", packages), append(args, spec)...); err != nil {
			t.Fatal(err)
		}
		if out[name], err = os.ReadFile(filepath.Join(top, "RPMS", "noarch", "hello-1.2.3-1.noarch.rpm")); err != nil {
			t.Fatal(err)
		}
	}
	config := pgptest.File(t, dir, "nfpm.yaml", []byte(fmt.Sprintf("name: hello\narch: amd64\nversion: 1.2.3\nmaintainer: A <a@example.com>\ndescription: says hello\ncontents:\n- src: %s\n  dst: /usr/share/hello/services\n", file)))
	target := filepath.Join(dir, "nfpm.rpm")
	if _, err := formattest.RunJudge(t, formattest.Program(t, "nfpm", packages), "package", "--config", config, "--packager", "rpm", "--target", target); err != nil {
		t.Fatal(err)
	}
	if out["nfpm"], err = os.ReadFile(target); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOracleRPM(t *testing.T) {
	rpmkeys := formattest.Program(t, "rpmkeys", packages)
	v := formattest.Judge(t, Name, "rpmkeys 4.18")
	inputs := packaged(t)
	database := func(cert []byte) string {
		dir := t.TempDir()
		if _, err := formattest.RunJudge(t, rpmkeys, "--dbpath", dir, "--import", pgptest.File(t, dir, "key.asc", cert)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	// Plain -K looks at digests alone; "all" wants a signature.
	judge := func(db string, pkg []byte) error {
		out, err := formattest.RunJudge(t, rpmkeys, "--dbpath", db, "--define", "_pkgverify_level all", "-Kv", pgptest.File(t, t.TempDir(), "p.rpm", pkg))
		if err == nil && strings.Contains(out, "NOT OK") {
			err = fmt.Errorf("%s", out)
		}
		return err
	}
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096, sigalg.Ed25519} {
		s := formattest.Identity(t, key)
		db := database(openpgp.Armor(openpgp.ArmorPublicKey, pgptest.Certificate(t, s, 4)))
		for name, pkg := range inputs {
			for _, v3 := range []string{"false", "true"} {
				what := fmt.Sprintf("%s %s v3=%s", key, name, v3)
				if judge(db, pkg) == nil {
					t.Errorf("%s: rpmkeys accepts an unsigned package", what)
				}
				signed := sign(t, pkg, s, format.Params{"v3": v3})
				v.Accepts(what, string(key), judge(db, signed))
				if err := check(t, signed, s); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if name == "rpmbuild" && len(signed) != len(pkg) {
					t.Errorf("%s: %d bytes became %d: the space was not used", what, len(pkg), len(signed))
				}
				h, err := readHead(t.Context(), format.BytesArtifact("f", signed))
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range []int64{h.begin() + 60 + int64(len(h.main.entries))*entrySize, h.payload() + 30} {
					bad := bytes.Clone(signed)
					bad[at] ^= 1
					v.Rejects(what, check(t, bad, s), judge(db, bad))
				}
			}
		}
	}
	// Content is what rpm itself calls the header's digest.
	a := format.BytesArtifact("p.rpm", inputs["rpmbuild"])
	plan, err := New().Plan(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	said, err := formattest.RunJudge(t, formattest.Program(t, "rpm", packages), "-qp", "--nosignature", "--qf", "%{SHA256HEADER}", pgptest.File(t, t.TempDir(), "p.rpm", inputs["rpmbuild"]))
	if err != nil || said != fmt.Sprintf("%x", plan.Content) {
		t.Errorf("content %x: rpm says %s, %v", plan.Content, said, err)
	}
	// The files are those that rpm lists.
	for name, pkg := range inputs {
		var ours strings.Builder
		err := Format{}.List(t.Context(), format.BytesArtifact("p.rpm", pkg), func(e format.Entry) error {
			_, err := fmt.Fprintf(&ours, "%s %d %x\n", e.Name, e.Size, []byte(e.Digest))
			return err
		})
		theirs, rerr := formattest.RunJudge(t, formattest.Program(t, "rpm", packages), "-qp", "--nosignature", "--qf", "[%{FILENAMES} %{FILESIZES} %{FILEDIGESTS}\n]", pgptest.File(t, t.TempDir(), "p.rpm", pkg))
		if err != nil || rerr != nil || ours.String() != theirs || !strings.Contains(theirs, "services") {
			t.Errorf("%s: %q, %v: rpm lists %q, %v", name, ours.String(), err, theirs, rerr)
		}
	}
	// Two keys side by side.
	one, two := formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.Ed25519)
	db := database(openpgp.Armor(openpgp.ArmorPublicKey, append(pgptest.Certificate(t, one, 4), pgptest.Certificate(t, two, 4)...)))
	v.Accepts("two keys", string(sigalg.RSA3072), judge(db, sign(t, sign(t, inputs["rpmbuild"], one, nil), two, nil)))

	// What rpmsign signs, we accept, and Remove gives back what can be signed anew.
	g := pgptest.NewGPG(t)
	rpmsign := formattest.Program(t, "rpmsign", packages)
	for _, algo := range []string{"rsa3072", "ed25519"} {
		_, keys := g.Generate(algo)
		for name, pkg := range inputs {
			for _, extra := range [][]string{nil, {"--rpmv3"}} {
				path := pgptest.File(t, t.TempDir(), "p.rpm", pkg)
				args := append([]string{"--addsign", "--define", "_gpg_name " + algo + "@example.com", "--define", "_gpg_path " + g.Home, "--define", "__gpg " + formattest.Program(t, "gpg", packages), "--define", "_gpg_sign_cmd_extra_args --batch --pinentry-mode loopback --passphrase=''"}, extra...)
				if _, err := formattest.RunJudge(t, rpmsign, append(args, path)...); err != nil {
					t.Fatal(err)
				}
				signed, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				a := format.BytesArtifact("f", signed)
				r, err := New().Verify(t.Context(), a, format.Trust{Keys: keys})
				if err == nil && len(r.Signatures) != 1+len(extra) {
					err = fmt.Errorf("%d signatures", len(r.Signatures))
				}
				v.Takes(algo+" "+name+" "+strings.Join(extra, ""), err)
				p, err := Format{}.Remove(t.Context(), a, -1)
				if err != nil {
					t.Fatal(err)
				}
				bare, err := p.Bytes(a)
				if err != nil {
					t.Fatal(err)
				}
				if err := check(t, sign(t, bare, one, nil), one); err != nil {
					t.Errorf("%s: signed anew: %v", name, err)
				}
			}
		}
	}
}
