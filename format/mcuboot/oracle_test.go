package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// bootloader judges an image as docs/design.md and docs/imgtool.md of MCUboot say
// that a bootloader does: it shares no code with the package. The signature itself
// is checked by OpenSSL.
func bootloader(t *testing.T, b []byte, pub crypto.PublicKey) error {
	t.Helper()
	u16 := func(i int) int { return int(b[i]) | int(b[i+1])<<8 }
	u32 := func(i int) int { return u16(i) | u16(i+2)<<16 }
	if len(b) < 32 || u32(0) != 0x96f3b83d {
		return errors.New("no image")
	}
	hashed := u16(8) + u32(12)
	if len(b) < hashed+4 {
		return errors.New("cut")
	}
	if u16(hashed) == 0x6908 {
		if u16(hashed+2) != u16(10) {
			return errors.New("protected TLVs")
		}
		hashed += u16(hashed + 2)
	} else if u16(10) != 0 {
		return errors.New("no protected TLVs")
	}
	if len(b) < hashed+4 || u16(hashed) != 0x6907 {
		return errors.New("no TLVs")
	}
	end := hashed + u16(hashed+2)
	var digest []byte
	sum := func(x []byte) []byte { s := sha256.Sum256(x); return s[:] }
	mine := false
	for at := hashed + 4; at < end; {
		kind, v := u16(at), b[at+4:at+4+u16(at+2)]
		at += 4 + len(v)
		switch kind {
		case 0x10, 0x11, 0x12:
			switch kind {
			case 0x11:
				sum = func(x []byte) []byte { s := sha512.Sum384(x); return s[:] }
			case 0x12:
				sum = func(x []byte) []byte { s := sha512.Sum512(x); return s[:] }
			}
			if digest = sum(b[:hashed]); !bytes.Equal(digest, v) {
				return errors.New("hash")
			}
		case 0x01:
			der, err := x509.MarshalPKIXPublicKey(pub)
			if err != nil {
				return err
			}
			if k, err := sigalg.KeyOf(pub); err == nil && strings.HasPrefix(string(k), "rsa") {
				der = der[24:] // RSAPublicKey stands behind the algorithm's name
			}
			mine = bytes.Equal(sum(der), v)
		case 0x22, 0x23, 0x24:
			if mine && digest != nil {
				return opensslVerify(t, kind, pub, digest, v)
			}
		}
	}
	return errors.New("no signature by the key")
}

func opensslVerify(t *testing.T, kind int, pub crypto.PublicKey, digest, sig []byte) error {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for n, b := range map[string][]byte{"key": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "digest": digest, "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", filepath.Join(dir, "key"), "-in", filepath.Join(dir, "digest"), "-sigfile", filepath.Join(dir, "sig")}
	switch kind {
	case 0x23:
		args = append(args, "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:32", "-pkeyopt", "digest:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
	case 0x24:
		args = append(args, "-rawin")
	}
	_, err = formattest.RunJudge(t, "openssl", args...)
	return err
}

// An independent reading of MCUboot's documents judges ours; imgtool's images are
// the vectors.
func TestOracleMCUboot(t *testing.T) {
	v := formattest.Judge(t, Name, "verifier written from MCUboot's documents, openssl")
	v.Note = "imgtool is in no registry: vectors made by it are checked in"
	for _, k := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		theirs := vector(t, string(k)+".bin")
		pub := key(t, string(k))
		trust := format.Trust{Keys: []crypto.PublicKey{pub}}
		r, err := New().Verify(t.Context(), artifact(theirs), trust)
		v.Takes(string(k), err)
		if err := bootloader(t, theirs, pub); err != nil {
			t.Errorf("the judge refuses the vector: %v", err)
		}
		if k == sigalg.RSA3072 && err == nil && fmt.Sprint(r.Facts) != "[{version 1.2.3+4} {security-counter 7} {dependency image 1 of version 1.0.0+0}]" {
			t.Errorf("facts %v", r.Facts)
		}
		s := signer(t, k)
		for _, in := range []string{"unsigned.bin", "rsa-3072.bin", "padded-ecdsa-p256.bin"} {
			what := in + " " + string(k)
			signed, err := sign(t, vector(t, in), s, format.Params{"replace": "true", "digest": digestOption(k)})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if _, err := New().Verify(t.Context(), artifact(signed), s.Trust()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			v.Accepts(what, string(k), bootloader(t, signed, s.Public))
			for _, at := range []int{20, 300, len(vector(t, "unsigned.bin")) - 20} {
				bad := bytes.Clone(signed)
				bad[at] ^= 1
				_, err := New().Verify(t.Context(), artifact(bad), s.Trust())
				v.Rejects(fmt.Sprintf("%s byte %d", what, at), err, bootloader(t, bad, s.Public))
			}
		}
	}
	for _, n := range []string{"ed25519-sha512.bin", "padded-ecdsa-p256.bin"} {
		name := "ed25519"
		if strings.HasPrefix(n, "padded") {
			name = "ecdsa-p256"
		}
		_, err := New().Verify(t.Context(), artifact(vector(t, n)), format.Trust{Keys: []crypto.PublicKey{key(t, name)}})
		v.Takes(n, err)
	}
}
