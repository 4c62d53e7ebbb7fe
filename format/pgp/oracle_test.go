package pgp

import (
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pm "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig/pgptest"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

// inputs are files that are there on every machine, and text that is hard to frame.
func inputs(t *testing.T) map[string][]byte {
	t.Helper()
	exe, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	words, err := os.ReadFile("/etc/services")
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"program": exe, "text": words, "dashes": []byte("-\n--\n- -\nFrom me\n\n-----BEGIN PGP SIGNATURE-----\n\nlast, without an end")}
}

// clean takes white space off the ends of lines: a cleartext plan refuses it.
func clean(b []byte) []byte {
	var out []string
	for _, l := range strings.Split(string(b), "\n") {
		out = append(out, strings.TrimRight(l, " \t"))
	}
	return []byte(strings.Join(out, "\n"))
}

// ways are the modes in which a judge is asked.
func ways() map[string][]string {
	return map[string][]string{
		"detached": nil, "binary": {"armor", "false"}, "text": {"text", "true"}, "inline": {"mode", "inline"}, "cleartext": {"mode", "cleartext"},
	}
}

// judge signs every input in every way with every key, and asks verify about each and
// about a tampered copy. The signature is in side, or in the file where that is nil.
func judge(t *testing.T, v *formattest.Verdicts, skip func(way, name string) bool, verify func(t *testing.T, cert, file, side []byte) error) {
	t.Helper()
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		s := pgptest.Signer(t, key)
		cert := pgptest.Certificate(t, s, 4)
		for way, opts := range ways() {
			for name, content := range inputs(t) {
				if (way == "cleartext" || way == "text") && name == "program" || skip(way, name) {
					continue
				}
				if way == "cleartext" {
					content = clean(content)
				}
				file, side := sign(t, content, s, options(s, opts...))
				what := string(key) + " " + way + " " + name
				v.Accepts(what, string(key), verify(t, cert, file, side))
				if err := check(t, file, side, s); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				bad := bytes.Clone(file)
				bad[len(bad)/2] ^= 1
				if way == "inline" || way == "cleartext" { // inside of the content
					bad = bytes.Clone(file)
					bad[60+len(content)/2] ^= 2
				}
				v.Rejects(what, check(t, bad, side, s), verify(t, cert, bad, side))
			}
		}
	}
}

func TestOraclePGPbyGPGV(t *testing.T) {
	gpgv := formattest.Program(t, "gpgv", pgptest.Packages)
	v := formattest.Judge(t, Name, "gpgv 2.2")
	judge(t, v, func(way, _ string) bool { return false }, func(t *testing.T, cert, file, side []byte) error {
		dir := t.TempDir()
		args := []string{"--keyring", pgptest.File(t, dir, "key.pgp", cert), "--output", filepath.Join(dir, "out")}
		if side != nil {
			args = append(args, pgptest.File(t, dir, "sig", side))
		}
		_, err := formattest.RunJudge(t, gpgv, append(args, pgptest.File(t, dir, "file", file))...)
		return err
	})
	// What gpg signs is taken, and what it signs with SHA-1 is not.
	g := pgptest.NewGPG(t)
	for _, algo := range []string{"rsa3072", "nistp256", "nistp384", "ed25519"} {
		_, keys := g.Generate(algo)
		for _, content := range inputs(t) {
			dir := t.TempDir()
			in, out := pgptest.File(t, dir, "in", content), filepath.Join(dir, "out")
			for _, way := range [][]string{{"--detach-sign"}, {"--detach-sign", "--armor"}, {"--detach-sign", "--textmode"}, {"--clearsign"}, {"--detach-sign", "--digest-algo", "SHA512"}} {
				if way[0] == "--clearsign" && bytes.IndexByte(content, 0) >= 0 || way[len(way)-1] == "--textmode" && bytes.IndexByte(content, '\r') >= 0 {
					continue
				}
				g.Must(append(append([]string{"--local-user", algo + "@example.com", "--output", out}, way...), in)...)
				signed, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				tr := format.Trust{Keys: keys}
				file := signed
				if way[0] != "--clearsign" {
					tr.Detached, file = signed, content
				}
				_, err = New().Verify(t.Context(), format.BytesArtifact("f", file), tr)
				v.Takes(algo+" "+strings.Join(way, " "), err)
			}
			if strings.HasPrefix(algo, "nistp") {
				continue // gpg itself refuses SHA-1 there
			}
			g.Must("--local-user", algo+"@example.com", "--output", out, "--digest-algo", "SHA1", "--detach-sign", in)
			weak, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			_, err = New().Verify(t.Context(), format.BytesArtifact("f", content), format.Trust{Keys: keys, Detached: weak})
			v.RejectsAlone(algo+" with SHA-1", err)
		}
	}
}

func TestOraclePGPbySequoia(t *testing.T) {
	sqv, sqop, sq := formattest.Program(t, "sqv", pgptest.Packages), formattest.Program(t, "sqop", pgptest.Packages), formattest.Program(t, "sq", pgptest.Packages)
	v := formattest.Judge(t, Name, "sqv and sqop (Sequoia 1.12)")
	judge(t, v, func(way, name string) bool { return false }, func(t *testing.T, cert, file, side []byte) error {
		dir := t.TempDir()
		k, f := pgptest.File(t, dir, "key.pgp", cert), pgptest.File(t, dir, "file", file)
		if side != nil {
			_, err := formattest.RunJudge(t, sqv, "--keyring", k, pgptest.File(t, dir, "sig", side), f)
			if err != nil {
				return err
			}
			_, err = formattest.RunJudge(t, "/bin/sh", "-c", `exec "$0" verify "$1" "$2" < "$3"`, sqop, filepath.Join(dir, "sig"), k, f)
			return err
		}
		_, err := formattest.RunJudge(t, "/bin/sh", "-c", `exec "$0" inline-verify "$1" < "$2"`, sqop, k, f)
		return err
	})
	dir := t.TempDir()
	for _, suite := range []string{"cv25519", "rsa3k"} {
		key, out := filepath.Join(dir, suite+".key"), filepath.Join(dir, "out")
		if _, err := formattest.RunJudge(t, sq, "--force", "key", "generate", "--userid", "A <a@example.com>", "--cipher-suite", suite, "--export", key); err != nil {
			t.Fatal(err)
		}
		if _, err := formattest.RunJudge(t, sq, "--force", "key", "extract-cert", "--output", out, key); err != nil {
			t.Fatal(err)
		}
		cert, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		keys := pgptest.Keys(t, cert)
		content := inputs(t)["dashes"]
		in := pgptest.File(t, dir, "in", content)
		for _, way := range [][]string{{"--detached"}, {"--detached", "--binary"}, {"--cleartext-signature"}} {
			if _, err := formattest.RunJudge(t, sq, append(append([]string{"--force", "sign", "--signer-key", key, "--output", out}, way...), in)...); err != nil {
				t.Fatal(err)
			}
			signed, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			tr, file := format.Trust{Keys: keys}, signed
			if way[0] == "--detached" {
				tr.Detached, file = signed, content
			}
			_, err = New().Verify(t.Context(), format.BytesArtifact("f", file), tr)
			v.Takes(suite+" "+strings.Join(way, " "), err)
		}
	}
}

// Version 6 has no verifier in Debian: a second library judges it.
func TestOraclePGPversion6(t *testing.T) {
	v := formattest.Judge(t, Name, "go-crypto 1.5.2 (version 6)")
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		s := pgptest.Signer(t, key)
		ring, err := pm.ReadKeyRing(bytes.NewReader(pgptest.Certificate(t, s, 6)))
		if err != nil {
			t.Fatal(err)
		}
		config := &packet.Config{Time: func() time.Time { return formattest.At }}
		for name, content := range inputs(t) {
			_, side := sign(t, content, s, options(s, "armor", "false", "key-version", "6"))
			verify := func(content []byte) error {
				_, err := pm.CheckDetachedSignature(ring, bytes.NewReader(content), bytes.NewReader(side), config)
				return err
			}
			v.Accepts(string(key)+" "+name, string(key), verify(content))
			bad := append(bytes.Clone(content), 0)
			v.Rejects(string(key)+" "+name, check(t, bad, side, s), verify(bad))
		}
	}
	// Theirs: the library's own key and random salt.
	for _, algo := range []packet.PublicKeyAlgorithm{packet.PubKeyAlgoEd25519, packet.PubKeyAlgoRSA} {
		e, err := pm.NewEntity("A", "", "a@example.com", &packet.Config{V6Keys: true, Algorithm: algo, RSABits: 3072})
		if err != nil {
			t.Fatal(err)
		}
		var cert bytes.Buffer
		if err := e.Serialize(&cert); err != nil {
			t.Fatal(err)
		}
		keys := pgptest.Keys(t, cert.Bytes())
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA512} {
			var sig bytes.Buffer
			if err := pm.DetachSign(&sig, e, strings.NewReader(text), &packet.Config{DefaultHash: h}); err != nil {
				t.Fatal(err)
			}
			_, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), format.Trust{Keys: keys, Detached: sig.Bytes()})
			v.Takes(h.String(), err)
		}
	}
}

// OpenPGP.js reads version 6 in every mode.
func TestOraclePGPbyOpenPGPjs(t *testing.T) {
	node := formattest.Program(t, "node", "apt-get install nodejs npm; make judges")
	library := filepath.Join(formattest.Judges(t), "lib", "openpgpjs")
	if _, err := os.Stat(filepath.Join(library, "node_modules", "openpgp")); err != nil {
		t.Fatalf("OpenPGP.js is missing: make judges (%v)", err)
	}
	script, err := filepath.Abs(filepath.Join("testdata", "judge"))
	if err != nil {
		t.Fatal(err)
	}
	v := formattest.Judge(t, Name, "OpenPGP.js 6.2 (version 6)")
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		s := pgptest.Signer(t, key)
		cert := pgptest.Certificate(t, s, 6)
		for _, way := range []string{"detached", "text", "inline", "cleartext"} {
			opts := []string{"key-version", "6"}
			switch way {
			case "detached":
				opts = append(opts, "armor", "false")
			case "text":
				opts = append(opts, "armor", "false", "text", "true")
			default:
				opts = append(opts, "mode", way)
			}
			content := inputs(t)["dashes"]
			if way == "detached" || way == "inline" {
				content = inputs(t)["program"]
			}
			file, side := sign(t, content, s, options(s, opts...))
			judge := func(file []byte) error {
				dir := t.TempDir()
				args := []string{filepath.Join(script, "verify.mjs"), library, pgptest.File(t, dir, "key", cert), way, pgptest.File(t, dir, "file", file)}
				if side != nil {
					args = append(args, pgptest.File(t, dir, "sig", side))
				}
				_, err := formattest.RunJudge(t, node, args...)
				return err
			}
			what := string(key) + " " + way
			v.Accepts(what, string(key), judge(file))
			if err := check(t, file, side, s); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			bad := bytes.Clone(file)
			at := bytes.Index(bad, content[len(content)-30:len(content)-20])
			bad[at] ^= 1
			v.Rejects(what, check(t, bad, side, s), judge(bad))
		}
	}
	for _, way := range []string{"detached", "cleartext"} {
		dir := t.TempDir()
		content := inputs(t)["dashes"]
		in, key, out := pgptest.File(t, dir, "in", content), filepath.Join(dir, "key"), filepath.Join(dir, "out")
		if _, err := formattest.RunJudge(t, node, filepath.Join(script, "sign.mjs"), library, way, in, key, out); err != nil {
			t.Fatal(err)
		}
		cert, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		tr, file := format.Trust{Keys: pgptest.Keys(t, cert)}, signed
		if way == "detached" {
			tr.Detached, file = signed, content
		}
		_, err = New().Verify(t.Context(), format.BytesArtifact("f", file), tr)
		v.Takes(way, err)
	}
}

// Our parser and theirs agree on keys: fingerprints of both versions.
func TestFingerprints(t *testing.T) {
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		for _, version := range []int{4, 6} {
			s := pgptest.Signer(t, key)
			k, err := openpgp.NewKey(version, pgptest.Created, s.Public)
			if err != nil {
				t.Fatal(err)
			}
			ring, err := pm.ReadKeyRing(bytes.NewReader(pgptest.Certificate(t, s, version)))
			if err != nil || !bytes.Equal(ring[0].PrimaryKey.Fingerprint, k.Fingerprint()) {
				t.Errorf("%s %d: %v", key, version, err)
			}
		}
	}
}
