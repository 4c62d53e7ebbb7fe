package apt

import (
	"bytes"
	"crypto"
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

const packages = "apt-get install apt-utils"

// repository makes a repository with one package, and its Release file.
func repository(t *testing.T) (dir string, release []byte) {
	t.Helper()
	dir = t.TempDir()
	binary := filepath.Join(dir, "dists", "stable", "main", "binary-amd64")
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{binary, filepath.Join(dir, "pool"), filepath.Join(root, "DEBIAN")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pgptest.File(t, filepath.Join(root, "DEBIAN"), "control", []byte("Package: hello\nVersion: 1\nArchitecture: amd64\nMaintainer: A <a@example.com>\nDescription: hello\n"))
	if _, err := formattest.RunJudge(t, "dpkg-deb", "--root-owner-group", "--build", root, filepath.Join(dir, "pool", "hello.deb")); err != nil {
		t.Fatal(err)
	}
	ftp := formattest.Program(t, "apt-ftparchive", packages)
	out, err := formattest.RunJudge(t, "/bin/sh", "-c", `cd "$1" && "$0" packages pool`, ftp, dir)
	if err != nil {
		t.Fatal(err)
	}
	pgptest.File(t, binary, "Packages", []byte(out))
	out, err = formattest.RunJudge(t, ftp, "-o", "APT::FTPArchive::Release::Suite=stable", "-o", "APT::FTPArchive::Release::Codename=stable", "-o", "APT::FTPArchive::Release::Origin=Example",
		"-o", "APT::FTPArchive::Release::Architectures=amd64", "-o", "APT::FTPArchive::Release::Components=main", "release", filepath.Join(dir, "dists", "stable"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, []byte(out)
}

// world is a copy of nothing: apt with folders of its own.
func world(t *testing.T, repo string, cert []byte) error {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key := pgptest.File(t, dir, "key.asc", openpgp.Armor(openpgp.ArmorPublicKey, cert))
	list := pgptest.File(t, dir, "sources.list", []byte(fmt.Sprintf("deb [signed-by=%s arch=amd64] file:%s stable main\n", key, repo)))
	_, err := formattest.RunJudge(t, formattest.Program(t, "apt-get", packages), "-o", "Dir::State="+dir+"/state", "-o", "Dir::Cache="+dir+"/cache", "-o", "Dir::Etc::sourcelist="+list, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::Etc::trusted=-", "-o", "Dir::Etc::trustedparts=-", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-o", "Dir::State::status=/dev/null", "--error-on=any", "update")
	return err
}

func TestOracleAPT(t *testing.T) {
	v := formattest.Judge(t, Name, "apt-get update 2.6")
	repo, release := repository(t)
	dist := filepath.Join(repo, "dists", "stable")
	clean := func() {
		for _, n := range []string{"InRelease", "Release", "Release.gpg"} {
			if err := os.RemoveAll(filepath.Join(dist, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(file, side []byte) {
		clean()
		if side == nil {
			pgptest.File(t, dist, "InRelease", file)
			return
		}
		pgptest.File(t, dist, "Release", file)
		pgptest.File(t, dist, "Release.gpg", side)
	}
	if clean(); world(t, repo, pgptest.Certificate(t, formattest.Identity(t, sigalg.P256), 4)) == nil {
		t.Error("apt-get accepts a repository that nobody signed")
	}
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		s := formattest.Identity(t, key)
		cert := pgptest.Certificate(t, s, 4)
		for _, o := range []string{inRelease, releaseGPG} {
			what := string(key) + " " + o
			file, side := sign(t, string(release), s, format.Params{"output": o})
			put(file, side)
			v.Accepts(what, string(key), world(t, repo, cert))
			if err := check(t, file, side, s); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			bad := bytes.Replace(file, []byte("Origin: Example"), []byte("Origin: Exampl3"), 1)
			put(bad, side)
			v.Rejects(what, check(t, bad, side, s), world(t, repo, cert))
		}
	}
	g := pgptest.NewGPG(t)
	for _, algo := range []string{"rsa3072", "ed25519"} {
		_, keys := g.Generate(algo)
		dir := t.TempDir()
		in := pgptest.File(t, dir, "Release", release)
		for out, args := range map[string][]string{"InRelease": {"--clearsign"}, "Release.gpg": {"--armor", "--detach-sign"}} {
			path := filepath.Join(dir, out)
			g.Must(append(append([]string{"--local-user", algo + "@example.com", "--output", path}, args...), in)...)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tr, file := format.Trust{Keys: keys}, b
			if out == "Release.gpg" {
				tr.Detached, file = b, release
			}
			_, err = New().Verify(t.Context(), format.BytesArtifact(out, file), tr)
			v.Takes(algo+" "+out, err)
		}
	}
}

// What Debian itself publishes, with the several signatures that it has.
func TestOracleAPTbyDebian(t *testing.T) {
	lists, err := filepath.Glob("/var/lib/apt/lists/*_dists_*_InRelease")
	if err != nil || len(lists) == 0 {
		t.Fatal("no InRelease files in /var/lib/apt/lists: make judges")
	}
	var keys []crypto.PublicKey
	names, err := filepath.Glob("/usr/share/keyrings/debian-archive-*-*.gpg")
	if err != nil || len(names) < 3 {
		t.Fatalf("%d keyrings: apt-get install debian-archive-keyring", len(names))
	}
	for _, n := range names {
		if strings.Contains(n, "removed") {
			continue
		}
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, pgptest.Keys(t, b)...)
	}
	v := formattest.Judge(t, Name, "Debian's archive")
	v.Note = "files that apt-get has accepted; ours are judged by apt-get update"
	s := formattest.Identity(t, sigalg.RSA3072)
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		a := format.BytesArtifact("InRelease", b)
		if !bytes.Contains(b, []byte("\nOrigin: Debian\n")) {
			continue
		}
		r, err := New().Verify(t.Context(), a, format.Trust{Keys: keys})
		v.Takes(filepath.Base(l), err)
		if err != nil {
			continue
		}
		// Theirs taken off and ours put on: the text is the one that they signed.
		p, err := Format{}.Remove(t.Context(), a, -1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := p.Bytes(a)
		if err != nil {
			t.Fatal(err)
		}
		ours, _ := sign(t, string(text), s, nil)
		again, err := New().Verify(t.Context(), format.BytesArtifact("InRelease", ours), s.Trust())
		if err == nil && !bytes.Equal(again.Signatures[0].Content, r.Signatures[0].Content) {
			err = fmt.Errorf("content %x was %x", again.Signatures[0].Content, r.Signatures[0].Content)
		}
		v.Accepts(filepath.Base(l), string(sigalg.RSA3072), err)
		bad := bytes.Replace(b, []byte("\nOrigin: Debian\n"), []byte("\nOrigin: Debiam\n"), 1)
		_, err = New().Verify(t.Context(), format.BytesArtifact("InRelease", bad), format.Trust{Keys: keys})
		v.RejectsAlone(filepath.Base(l), err)
	}
}
