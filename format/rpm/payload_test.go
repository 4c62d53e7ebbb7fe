package rpm

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig/pgptest"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 1: who looks at a payload endorses no header of another.
func TestPlanOfAnotherPayload(t *testing.T) {
	b := build("hello", "evil payload\n", 600)
	b = append(b[:len(b)-len("evil payload\n")], "good payload\n"...)
	for _, v3 := range []string{"false", "true"} {
		if _, err := New().Plan(t.Context(), format.BytesArtifact("f", b), format.Params{"v3": v3}); !errors.Is(err, errPayload) {
			t.Errorf("v3=%s: %v", v3, err)
		}
	}
}

// rpm takes a payload that has either of two digests. The second one is shown, and
// what does not have the first is refused here.
func TestAlternativeDigest(t *testing.T) {
	rpmkeys := formattest.Program(t, "rpmkeys", packages)
	s := formattest.Identity(t, sigalg.RSA3072)
	good, evil := "good payload\n", "evil payload\n"
	sum := sha256.Sum256([]byte(evil))
	alt := hex.EncodeToString(sum[:])
	signed := sign(t, build("hello", good, 600, func(main, sig []entry) ([]entry, []entry) {
		if main == nil {
			return nil, sig
		}
		return append(main, entry{tag: tagDigestAlt, typ: typeStringArray, count: 1, data: append([]byte(alt), 0)}), nil
	}), s, nil)
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", signed), format.Params{"replace": "true"})
	if err != nil || !strings.Contains(fmt.Sprint(p.Facts), "{payload-digest-alt "+alt+"}") {
		t.Fatalf("%v, %v", p.Facts, err)
	}
	h, err := readHead(t.Context(), format.BytesArtifact("f", signed))
	if err != nil {
		t.Fatal(err)
	}
	old, _ := h.sig.find(tagMD5)
	swapped := append(bytes.Clone(signed[:h.payload()]), evil...)
	m := md5.Sum(swapped[h.begin():])
	swapped = bytes.Replace(swapped, old.data, m[:], 1)
	if err := check(t, swapped, s); !errors.Is(err, errPayload) {
		t.Errorf("the other payload: %v", err)
	}
	db := t.TempDir()
	cert := openpgp.Armor(openpgp.ArmorPublicKey, pgptest.Certificate(t, s, 4))
	if _, err := formattest.RunJudge(t, rpmkeys, "--dbpath", db, "--import", pgptest.File(t, db, "key.asc", cert)); err != nil {
		t.Fatal(err)
	}
	// As documented: were rpm to refuse it, the warning could go.
	if out, err := formattest.RunJudge(t, rpmkeys, "--dbpath", db, "--define", "_pkgverify_level all", "-Kv", pgptest.File(t, t.TempDir(), "p.rpm", swapped)); err != nil {
		t.Errorf("rpmkeys refuses the payload of the second digest: %v\n%s", err, out)
	}
	r, err := New().Verify(t.Context(), format.BytesArtifact("f", signed), s.Trust())
	if err != nil || !strings.Contains(fmt.Sprint(r.Signatures[0].Open), "before it was compressed") {
		t.Errorf("%+v, %v", r, err)
	}
}
