package rauc

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// rauc judges: info looks at the signature, extract at the image behind it too.
// Its own signer is the peer, its plain and verity bundles are the real inputs.
func TestOracleRAUC(t *testing.T) {
	program := formattest.Program(t, "rauc", "apt-get install rauc squashfs-tools")
	formattest.Program(t, "mksquashfs", "apt-get install squashfs-tools")
	version, err := formattest.RunJudge(t, program, "--version")
	if err != nil {
		t.Fatal(err)
	}
	v := formattest.Judge(t, Name, strings.TrimSpace(version)+" info, extract")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rootfs, err := os.ReadFile("/usr/bin/openssl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path("content"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("content/rootfs.img", rootfs)
	write("system.conf", []byte("[system]\ncompatible=Test Board\nbootloader=noop\n[keyring]\npath="+path("root.pem")+"\ncheck-purpose=codesign\n[slot.rootfs.0]\ndevice=/dev/null\n"))
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		root := cmstest.NewRoot(t)
		key := root.Authority(t, "Updates").Issue(t, "Update Signer", kind)
		cert, private, _ := key.WriteFiles(t, dir, "signer")
		id := format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
		trust := format.Trust{Roots: root.Pool(), Now: formattest.At}
		judge := func(b []byte) error {
			write("judged.raucb", b)
			os.RemoveAll(path("out"))
			// A tampered bundle that info lets through must fail here.
			_, err := formattest.RunJudge(t, program, "--conf="+path("system.conf"), "info", path("judged.raucb"))
			_, err2 := formattest.RunJudge(t, program, "--conf="+path("system.conf"), "extract", path("judged.raucb"), path("out"))
			if err != nil || err2 != nil {
				return errors.Join(err, err2)
			}
			got, err := os.ReadFile(path("out/rootfs.img"))
			if err != nil || !bytes.Equal(got, rootfs) {
				return errors.New("rauc extracted something else")
			}
			return nil
		}
		for _, form := range []string{"plain", "verity"} {
			manifest := strings.Replace(text, "format=verity", "format="+form, 1)
			manifest = strings.Replace(manifest, "sha256=00ff\n", "", 1)
			write("content/manifest.raucm", []byte(manifest))
			os.Remove(path("theirs.raucb"))
			if out, err := exec.Command(program, "bundle", "--cert="+cert, "--key="+private, path("content"), path("theirs.raucb")).CombinedOutput(); err != nil {
				t.Fatalf("rauc bundle: %v: %s", err, out)
			}
			theirs, err := os.ReadFile(path("theirs.raucb"))
			if err != nil {
				t.Fatal(err)
			}
			trust := trust
			trust.Intermediates = key.Chain
			r, err := New().Verify(t.Context(), artifact(theirs), trust)
			v.Takes(form+" "+string(kind), err)
			if err == nil && r.Facts[0].Value != form {
				t.Errorf("%s is taken for %v", form, r.Facts)
			}
			b, err := open(artifact(theirs))
			if err != nil {
				t.Fatal(err)
			}
			inputs := map[string]struct {
				file []byte
				p    format.Params
			}{
				"signed before": {theirs, format.Params{"replace": "true"}},
				"squashfs":      {theirs[:b.image], format.Params{}},
			}
			if form == "verity" {
				inputs["squashfs"].p["manifest"] = option(string(textOf(b.manifest)))
			}
			for name, in := range inputs {
				what := form + " " + name + " " + string(kind)
				signed, err := signBy(t, in.file, id, key, in.p)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if _, err := New().Verify(t.Context(), artifact(signed), trust); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				v.Accepts(what, string(kind), judge(signed))
				ours, err := open(artifact(signed))
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range []int64{1000, ours.image / 2, ours.image + ours.tree + int64(len(ours.cms)) - 10} {
					bad := bytes.Clone(signed)
					bad[at] ^= 1
					_, err = New().Verify(t.Context(), artifact(bad), trust)
					v.Rejects(what, err, judge(bad))
				}
			}
		}
	}
}

// textOf is the manifest that RAUC would complete: with the images' digests, which
// its signer has put into its own.
func textOf(m *manifest) []byte {
	var out []string
	for _, l := range strings.Split(string(m.text), "\n") {
		if !strings.HasPrefix(l, "verity-") {
			out = append(out, l)
		}
	}
	return []byte(strings.Join(out, "\n"))
}

func signBy(t *testing.T, b []byte, id format.Identity, key *cmstest.Identity, p format.Params) ([]byte, error) {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(b), p)
	if err != nil {
		return nil, err
	}
	tbs, err := New().Assemble(plan, id, formattest.At, nil)
	if err != nil {
		return nil, err
	}
	patch, err := New().Attach(t.Context(), artifact(b), plan, id, formattest.At, []format.Signature{{Value: key.SignInput(t, id.Scheme, tbs[0].Input())}})
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}
