package gitobject

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig/pgptest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const packages = "apt-get install git gnupg gpgsm openssh-client"

// repository is a git repository with one commit and a tag, and who it believes.
type repository struct {
	t   *testing.T
	dir string
	gpg *pgptest.GPG
}

func (r *repository) git(stdin []byte, args ...string) (string, error) {
	r.t.Helper()
	c := exec.CommandContext(r.t.Context(), formattest.Program(r.t, "git", packages), append([]string{"-C", r.dir}, args...)...)
	c.Env = append(os.Environ(), "GNUPGHOME="+r.gpg.Home, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=B", "GIT_COMMITTER_EMAIL=b@example.com")
	c.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("git %s: %w: %s", args[0], err, errs.Bytes())
	}
	return out.String(), nil
}

func (r *repository) must(stdin []byte, args ...string) string {
	r.t.Helper()
	out, err := r.git(stdin, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func newRepository(t *testing.T, hash string) *repository {
	t.Helper()
	r := &repository{t, t.TempDir(), pgptest.NewGPG(t)}
	r.must(nil, "init", "-q", "--object-format="+hash)
	pgptest.File(t, r.dir, "file", []byte("content\n"))
	r.must(nil, "add", "file")
	r.must(nil, "commit", "-q", "-m", "Make it so\n\nBecause: -----BEGIN\n")
	pgptest.File(t, r.dir, "file", []byte("more\n"))
	r.must(nil, "commit", "-q", "-a", "-m", "Größer\n")
	r.must(nil, "tag", "-a", "-m", "Version 1\n", "v1")
	return r
}

// verify stores an object and has git verify it.
func (r *repository) verify(typ string, object []byte) error {
	r.t.Helper()
	id, err := r.git(object, "hash-object", "-t", typ, "-w", "--stdin")
	if err != nil {
		return err
	}
	_, err = r.git(nil, "verify-"+typ, strings.TrimSpace(id))
	return err
}

func TestOracleGit(t *testing.T) {
	v := formattest.Judge(t, Name, "git 2.39 with ssh-keygen and gpg")
	for _, hash := range []string{"sha1", "sha256"} {
		r := newRepository(t, hash)
		for _, key := range []sigalg.Key{sigalg.Ed25519, sigalg.RSA3072, sigalg.P256} {
			s := formattest.Identity(t, key)
			pub, err := xssh.NewPublicKey(s.Public)
			if err != nil {
				t.Fatal(err)
			}
			allowed := pgptest.File(t, r.dir, "allowed", append([]byte("a@example.com "), xssh.MarshalAuthorizedKey(pub)...))
			r.must(nil, "config", "gpg.ssh.allowedSignersFile", allowed)
			r.gpg.Must("--import", pgptest.File(t, r.dir, "key.pgp", pgptest.Certificate(t, s, 4)))
			for _, typ := range []string{"commit", "tag"} {
				object := r.must(nil, "cat-file", typ, map[string]string{"commit": "HEAD", "tag": "v1"}[typ])
				for _, kind := range []string{ssh, pgp} {
					if hash == "sha256" && typ == "tag" && kind == pgp && key != sigalg.Ed25519 {
						continue // once is enough
					}
					what := fmt.Sprint(hash, " ", key, " ", typ, " ", kind)
					signed := sign(t, object, s, options(s, kind))
					v.Accepts(what, string(key), r.verify(typ, signed))
					if err := check(t, signed, s); err != nil {
						t.Errorf("%s: %v", what, err)
					}
					bad := bytes.Replace(signed, []byte("a@example.com"), []byte("e@example.com"), 1)
					if typ == "tag" {
						bad = bytes.Replace(signed, []byte("Version 1"), []byte("Version 2"), 1)
					}
					v.Rejects(what, check(t, bad, s), r.verify(typ, bad))
				}
			}
		}
		// What git has signed by ssh-keygen and gpg.
		for _, kind := range []string{ssh, "openpgp"} {
			var keys []crypto.PublicKey
			if kind == ssh {
				path := filepath.Join(r.dir, "id")
				if _, err := formattest.RunJudge(t, formattest.Program(t, "ssh-keygen", packages), "-q", "-t", "ed25519", "-N", "", "-f", path); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(path + ".pub")
				if err != nil {
					t.Fatal(err)
				}
				k, _, _, _, err := xssh.ParseAuthorizedKey(b)
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, k.(xssh.CryptoPublicKey).CryptoPublicKey())
				r.must(nil, "config", "gpg.format", "ssh")
				r.must(nil, "config", "user.signingkey", path)
			} else {
				_, keys = r.gpg.Generate("ed25519")
				r.must(nil, "config", "gpg.format", "openpgp")
				r.must(nil, "config", "user.signingkey", "ed25519@example.com")
			}
			r.must(nil, "commit", "-q", "--allow-empty", "-S", "-m", "signed by "+kind)
			r.must(nil, "tag", "-s", "-m", "signed by "+kind, "v-"+kind)
			for typ, name := range map[string]string{"commit": "HEAD", "tag": "v-" + kind} {
				object := r.must(nil, "cat-file", typ, name)
				_, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(object)), format.Trust{Keys: keys})
				v.Takes(hash+" "+typ+" "+kind, err)
			}
		}
	}
}

func TestOracleGitX509(t *testing.T) {
	v := formattest.Judge(t, Name, "git 2.39 with gpgsm 2.2")
	v.Note = "gpgsm signs with keys of its own alone; what it makes is CMS, which other formats take from openssl"
	r := newRepository(t, "sha1")
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := formattest.Identity(t, key)
		fp := sha1.Sum(s.Root.Certificate.Raw)
		pgptest.File(t, r.gpg.Home, "trustlist.txt", fmt.Appendf(nil, "%X S relax\n", fp))
		pgptest.File(t, r.gpg.Home, "gpgsm.conf", []byte("disable-crl-checks\ndisable-dirmngr\nfaked-system-time 20260601T130000\n"))
		root := pgptest.File(t, r.dir, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Certificate.Raw}))
		if _, err := formattest.RunJudge(t, formattest.Program(t, "gpgconf", packages), "--homedir", r.gpg.Home, "--kill", "all"); err != nil {
			t.Fatal(err)
		}
		if _, err := formattest.RunJudge(t, formattest.Program(t, "gpgsm", packages), "--homedir", r.gpg.Home, "--import", root); err != nil {
			t.Fatal(err)
		}
		for _, typ := range []string{"commit", "tag"} {
			object := r.must(nil, "cat-file", typ, map[string]string{"commit": "HEAD", "tag": "v1"}[typ])
			signed := sign(t, object, s, options(s, x509sig))
			what := fmt.Sprint(key, " ", typ)
			v.Accepts(what, string(key), r.verify(typ, signed))
			bad := bytes.Replace(signed, []byte("example.com"), []byte("example.net"), 1)
			v.Rejects(what, check(t, bad, s), r.verify(typ, bad))
		}
	}
}
