package apk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func TestConformanceV4(t *testing.T) {
	t.Parallel()
	s := formattest.Identity(t, sigalg.P256)
	formattest.Run(t, V4{}, formattest.Case{
		Name: "a.apk", Signer: s,
		Artifact: seal(t, s, build(t, modern), nil), Other: seal(t, s, build(t, modern, "b", "1"), nil),
		Unsigned: []string{"Facts"}, // what the manifest says
	})
}

// signV4 signs a signed package with several keys.
func signV4(t *testing.T, b []byte, ps ...*party) ([]byte, error) {
	t.Helper()
	f := V4{}
	p, err := f.Plan(t.Context(), artifact(b), nil)
	if err != nil {
		return nil, err
	}
	id := ps[0].id
	for _, x := range ps[1:] {
		id.Also = append(id.Also, x.id)
	}
	tbs, err := f.Assemble(p, id, formattest.At, nil)
	if err != nil {
		return nil, err
	}
	var sigs []format.Signature
	for _, x := range tbs {
		sigs = append(sigs, format.Signature{Value: ps[x.Key].SignInput(t, x.Scheme, x.Input())})
	}
	patch, err := f.Attach(t.Context(), artifact(b), p, id, formattest.At, sigs)
	if err != nil {
		return nil, err
	}
	return patch.Sidecar.Data, nil
}

func verifyV4(t *testing.T, b, idsig []byte, tr format.Trust) error {
	t.Helper()
	tr.Detached = idsig
	_, err := V4{}.Verify(t.Context(), artifact(b), tr)
	return err
}

// apksignerV4 judges a package with its .idsig. It says "Verifies" when only the latter
// is wrong: the line about v4 is what counts.
func apksignerV4(t *testing.T, b, idsig []byte) error {
	t.Helper()
	path := save(t, b)
	if err := os.WriteFile(path+SuffixV4, idsig, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := formattest.RunJudge(t, formattest.Program(t, "apksigner35", judges), "verify", "-v", "--v4-signature-file", path+SuffixV4, path)
	if err == nil && !strings.Contains(out, "(APK Signature Scheme v4): true") {
		err = errors.New(out)
	}
	return err
}

func TestOracleAPKV4(t *testing.T) {
	v := formattest.Judge(t, NameV4, "apksigner 35")
	rsa, ec := newParty(t, sigalg.RSA3072, sigalg.RSAPKCS1SHA256), newParty(t, sigalg.P256, sigalg.ECDSASHA256)
	small := realPackage(t, 24, 33)
	for _, c := range []struct {
		what string
		b    []byte
		p    *party
	}{{"small", small, rsa}, {"three levels", build(t, modern, "a", noise(1<<20)), ec}} {
		b, err := signWith(t, c.b, nil, c.p)
		if err != nil {
			t.Fatal(err)
		}
		idsig, err := signV4(t, b, c.p)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifyV4(t, b, idsig, trustIn(c.p)); err != nil {
			t.Error(err)
		}
		v.Accepts(c.what, string(c.p.Kind), apksignerV4(t, b, idsig))
		if c.p == rsa {
			for what, at := range map[string]int{"root": 20, "signature": bytes.Index(idsig, []byte(rsa.Certificate.Raw)) + len(rsa.Certificate.Raw) + 500, "tree": len(idsig) - 4000} {
				bad := bytes.Clone(idsig)
				bad[at] ^= 1
				v.Rejects(what, verifyV4(t, b, bad, trustIn(rsa)), apksignerV4(t, b, bad))
			}
		}
	}
	// With a key that took over: both sign.
	lineage := rotate(t, rsa, ec)
	b, err := signWith(t, small, format.Params{"lineage": lineage}, ec, rsa)
	if err != nil {
		t.Fatal(err)
	}
	idsig, err := signV4(t, b, ec, rsa)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyV4(t, b, idsig, trustIn(rsa, ec)); err != nil {
		t.Error(err)
	}
	v.Accepts("v3.1", string(sigalg.P256), apksignerV4(t, b, idsig))
	if _, err := signV4(t, b, ec); err == nil {
		t.Error("signed without the older key")
	}

	out := filepath.Join(t.TempDir(), "out.apk")
	if _, err := formattest.RunJudge(t, formattest.Program(t, "apksigner35", judges), "sign", "--key", ec.key, "--cert", ec.cert, "--v4-signing-enabled", "true", "--out", out, save(t, small)); err != nil {
		t.Fatal(err)
	}
	v.Takes("small", verifyV4(t, readFile(t, out), readFile(t, out+SuffixV4), trustIn(ec)))
}

// A .idsig of another signer, or over what is not signed, is nothing.
func TestV4Alone(t *testing.T) {
	one, two := newParty(t, sigalg.P256, sigalg.ECDSASHA256), newParty(t, sigalg.P256, sigalg.ECDSASHA256)
	if _, err := signV4(t, build(t, modern), one); !errors.Is(err, format.ErrUnsigned) {
		t.Errorf("of an unsigned package: %v", err)
	}
	b, err := signWith(t, build(t, modern), nil, one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signV4(t, b, two); err == nil {
		t.Error("by another key")
	}
	idsig, err := signV4(t, b, one)
	if err != nil {
		t.Fatal(err)
	}
	if a := artifact(idsig); !(V4{}).Detect(a) || (V4{}).Detect(artifact(b)) {
		t.Error("detect")
	} else if r, err := (V4{}).Inspect(t.Context(), a); err != nil || len(r.Signatures) != 1 || r.Signatures[0].Subject != one.Certificate.Subject.String() {
		t.Errorf("inspect: %+v, %v", r, err)
	}
	if err := verifyV4(t, b, idsig, trustIn(two)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("nobody trusts the signer: %v", err)
	}
}

func FuzzV4(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	b := seal(f, s, build(f, modern), nil)
	p, err := V4{}.Plan(f.Context(), artifact(b), nil)
	if err != nil {
		f.Fatal(err)
	}
	patch, err := V4{}.Attach(f.Context(), artifact(b), p, s.Identity, formattest.At, formattest.SignAll(f, V4{}, p, s, formattest.At))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(patch.Sidecar.Data)
	f.Fuzz(func(t *testing.T, idsig []byte) {
		x, err := parseV4(idsig)
		if err != nil {
			return
		}
		infos := x.infos[0].encode()
		for i, y := range x.infos[1:] {
			infos = append(le.AppendUint32(infos, x.ids[i+1]), prefix(y.encode())...)
		}
		again := append(le.AppendUint32(nil, v4Version), prefix(x.hashing, infos, x.tree)...)
		if !bytes.Equal(again, idsig) {
			t.Errorf("%x is another when written again", idsig)
		}
	})
}
