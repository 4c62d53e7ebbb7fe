package fit

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
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

// source is a tree as mkimage takes it: two images that others made, two
// configurations; %s stands for signature nodes.
const source = `/dts-v1/;
/ {
	description = "kernel and tree";
	#address-cells = <1>;
	images {
		kernel-1 {
			description = "kernel"; data = /incbin/("kernel"); type = "kernel"; arch = "x86_64"; os = "linux"; compression = "none";
			load = <0x80000000>; entry = <0x80000000>;
			hash-1 { algo = "sha256"; };
			hash-2 { algo = "crc32"; };
		};
		fdt-1 {
			description = "tree"; data = /incbin/("tree.dtb"); type = "flat_dt"; arch = "x86_64"; compression = "none";
			hash-1 { algo = "sha512"; };
		};
	};
	configurations {
		default = "conf-1";
		conf-1 { description = "both"; kernel = "kernel-1"; fdt = "fdt-1"; %[1]s };
		conf-2 { kernel = "kernel-1"; %[1]s };
	};
};
`

func mkimage(t *testing.T, dir string, args ...string) {
	t.Helper()
	c := exec.Command(formattest.Program(t, "mkimage", "apt-get install u-boot-tools"), args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("mkimage %v: %v: %s", args, err, out)
	}
}

// fit_check_sign is U-Boot's own verifier; mkimage its signer.
func TestOracleFIT(t *testing.T) {
	check := formattest.Program(t, "fit_check_sign", "run tools/judges/uboot.sh")
	v := formattest.Judge(t, Name, "fit_check_sign of U-Boot, mkimage")
	formattest.Program(t, "dtc", "apt-get install device-tree-compiler")
	kernels, err := filepath.Glob("/boot/vmlinuz-*")
	if err != nil || len(kernels) == 0 {
		t.Fatal("no kernel: apt-get install linux-image-cloud-amd64")
	}
	kernel, err := os.ReadFile(kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write("kernel", kernel)
	write("tree.dts", []byte("/dts-v1/; / { model = \"board\"; };"))
	if out, err := exec.Command("dtc", "-q", "-o", filepath.Join(dir, "tree.dtb"), filepath.Join(dir, "tree.dts")).CombinedOutput(); err != nil {
		t.Fatalf("dtc: %v: %s", err, out)
	}
	// The host's fit_check_sign does not take keys of ECDSA from a tree: mkimage's
	// signatures are verified instead.
	ec := cmstest.NewRoot(t).Issue(t, "dev", sigalg.P256)
	der, err := x509.MarshalPKCS8PrivateKey(ec.Key)
	if err != nil {
		t.Fatal(err)
	}
	write("dev.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write("ecdsa.its", []byte(strings.ReplaceAll(source, "%[1]s", `signature-1 { algo = "sha256,ecdsa256"; key-name-hint = "dev"; sign-images = "kernel"; };`)))
	write("ecdsa.its", bytes.Replace(read("ecdsa.its"), []byte(`fdt = "fdt-1"; signature-1 { algo = "sha256,ecdsa256"; key-name-hint = "dev"; sign-images = "kernel"`), []byte(`fdt = "fdt-1"; signature-1 { algo = "sha256,ecdsa256"; key-name-hint = "dev"; sign-images = "kernel", "fdt"`), 1))
	mkimage(t, dir, "-f", "ecdsa.its", "-k", dir, "theirs.itb")
	theirs := read("theirs.itb")
	trust := format.Trust{Keys: []crypto.PublicKey{ec.Key.Public()}}
	_, err = New().Verify(t.Context(), artifact(theirs), trust)
	v.Takes("mkimage ecdsa-sha256", err)
	r, err := New().Inspect(t.Context(), artifact(theirs))
	if got := fmt.Sprint(r.Facts); err != nil || !strings.Contains(got, "{load-address kernel-1: load 0x80000000, entry 0x80000000}") || !strings.Contains(got, "{key-name conf-1: dev} {key-name conf-2: dev}") || !strings.Contains(got, "{built 20") {
		t.Errorf("facts of mkimage's: %s, %v", got, err)
	}
	theirs[bytes.Index(theirs, []byte("both"))] ^= 1
	_, err = New().Verify(t.Context(), artifact(theirs), trust)
	v.RejectsAlone("mkimage ecdsa-sha256", err)

	for _, scheme := range []sigalg.Scheme{sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA512, sigalg.RSAPSSSHA256, sigalg.RSAPKCS1SHA384} {
		kind := sigalg.RSA3072
		if scheme == sigalg.RSAPKCS1SHA384 {
			kind = sigalg.RSA4096
		}
		key := cmstest.NewRoot(t).Issue(t, "dev", kind)
		id := format.Identity{Scheme: scheme, Public: key.Key.Public()}
		trust := format.Trust{Keys: []crypto.PublicKey{id.Public}}
		algo, err := algorithm(kind, scheme)
		if err != nil {
			t.Fatal(err)
		}
		padding := ""
		if scheme.PSS() {
			padding = `padding = "pss";`
		}
		node := fmt.Sprintf(`signature-1 { algo = "%s"; %s key-name-hint = "dev"; sign-images = "kernel"%%s; };`, algo, padding)
		its := fmt.Sprintf(source, "%[1]s")
		its = strings.Replace(its, "%[1]s", fmt.Sprintf(node, `, "fdt"`), 1)
		its = strings.Replace(its, "%[1]s", fmt.Sprintf(node, ""), 1)
		write("signed.its", []byte(its))
		write("dev.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key.Key.(*rsa.PrivateKey))}))
		write("dev.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.Certificate.Raw}))
		write("keys.dtb", read("tree.dtb"))

		// What mkimage signs, with the key put into the board's tree as required.
		mkimage(t, dir, "-f", "signed.its", "-k", dir, "-K", filepath.Join(dir, "keys.dtb"), "-r", "theirs.itb")
		_, err = New().Verify(t.Context(), artifact(read("theirs.itb")), trust)
		if scheme.PSS() { // mkimage takes the longest salt there is, ours is as long as the hash
			if err == nil {
				t.Error("a signature with a long salt is accepted")
			}
		} else {
			v.Takes("mkimage "+string(scheme), err)
		}

		write("plain.its", []byte(fmt.Sprintf(source, "")))
		for what, args := range map[string][]string{
			"plain": {"-f", "plain.its", "in.itb"}, "data behind the tree": {"-E", "-B", "200", "-f", "plain.its", "in.itb"}, "signed before": nil,
		} {
			if scheme != sigalg.RSAPKCS1SHA256 && what != "plain" {
				continue // where data lies has nothing to do with the scheme
			}
			what += " " + string(scheme)
			if args == nil {
				write("in.itb", read("theirs.itb"))
			} else {
				mkimage(t, dir, args...)
			}
			a := artifact(read("in.itb"))
			plan, err := New().Plan(t.Context(), a, format.Params{"key-name": "dev", "digest": format.HashName(scheme.Hash()), "replace": "true"})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			tbs, err := New().Assemble(plan, id, formattest.At, nil)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			var sigs []format.Signature
			for _, m := range tbs {
				sigs = append(sigs, format.Signature{Value: key.SignInput(t, scheme, m.Input())})
			}
			patch, err := New().Attach(t.Context(), a, plan, id, formattest.At, sigs)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			signed, err := patch.Bytes(a)
			if err != nil {
				t.Fatal(err)
			}
			r, err := New().Verify(t.Context(), artifact(signed), trust)
			if err != nil || len(r.Signatures) != 2 || !bytes.Equal(r.Signatures[0].Content, plan.Content) {
				t.Errorf("%s: %+v, %v", what, r, err)
			}
			judge := func(b []byte) error {
				write("judged.itb", b)
				for _, c := range []string{"conf-1", "conf-2"} {
					if out, err := formattest.RunJudge(t, check, "-f", filepath.Join(dir, "judged.itb"), "-k", filepath.Join(dir, "keys.dtb"), "-c", c); err != nil {
						return err
					} else if !strings.Contains(out, algo+":dev+") {
						return fmt.Errorf("no signature was looked at: %s", out)
					}
				}
				return nil
			}
			v.Accepts(what, string(kind), judge(signed))
			for part, old := range map[string]string{"kernel": string(kernel[5000:5032]), "load address": "x86_64\x00\x00", "description": "both"} {
				bad := bytes.Clone(signed)
				i := bytes.Index(bad, []byte(old))
				if i < 0 {
					t.Fatalf("%s is not there", part)
				}
				bad[i+1] ^= 1
				_, err = New().Verify(t.Context(), artifact(bad), trust)
				v.Rejects(what+" "+part, err, judge(bad))
			}
		}
	}
}
