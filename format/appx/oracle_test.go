package appx

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// osslsigncode takes what we sign: a package by Visual Studio with a catalogue of code,
// packages and a bundle of ours; and we take what it signs.
func TestOracleAppX(t *testing.T) {
	j := authenticodetest.New(t)
	v := formattest.Judge(t, Name, j.Version)
	v.Note = "it looks neither at the block map nor at the publisher, at which relic looks, nor where packages in a bundle stand: a test of ours does"
	ours := func(name string, b []byte) error {
		_, err := Format{}.Verify(t.Context(), format.BytesArtifact(name, b), j.Trust())
		return err
	}
	long := strings.Repeat("a long content ", 10_000)
	for _, in := range []struct {
		name    string
		data    []byte
		at      string // of a byte to tamper with
		subject func(*x509.Certificate)
		params  format.Params
		theirs  bool
	}{
		{"a.appx", sample(t), "IHDR", visualStudio, format.Params{"existing": "replace"}, true},
		{"a.msix", app(t, long), "long", subject, format.Params{"description": "Größe", "url": "https://example.com/"}, true},
		{"b.msix", build(t, crypto.SHA512, types, made{name: "x", content: long}, made{name: entryManifest, content: manifest(publisher)}), "long", subject, format.Params{"digest": "sha512"}, true},
		{"c.msix", wide(t, build(t, crypto.SHA256, types, made{name: "x", content: long}, made{name: entryManifest, content: manifest(publisher), deflate: true})), "long", subject, nil, true},
		{"a.msixbundle", bundle(t, app(t, long), 0), "long", subject, nil, true},
		{"d.msix", withCode(t, long), "long", subject, nil, true},
		{"e.msix", wide(t, withCode(t, long)), "long", subject, nil, true},
		{"f.msix", unmapped(t, long), "long", subject, format.Params{"block-map": "rebuild"}, false},
		{"c.appx", sample(t), "IHDR", visualStudio, format.Params{"existing": "replace", "block-map": "rebuild"}, false},
		{"b.appx", sample(t), "IHDR", visualStudio, format.Params{"existing": "replace", "code-integrity": "renew"}, true},
	} {
		signers := []*authenticodetest.Signer{j.Signer(t, sigalg.RSA3072, in.subject), j.Signer(t, sigalg.P256, in.subject)}
		for _, s := range signers {
			what := in.name + " " + string(s.Kind)
			signed := s.Seal(t, Format{}, in.name, in.data, in.params)
			if err := ours(in.name, signed); err != nil {
				t.Errorf("%s: we do not accept ours: %v", what, err)
			}
			v.Accepts(what, string(s.Kind), j.Verify(t, in.name, signed))
			for _, at := range []string{in.at, "PK\x01\x02"} {
				bad := bytes.Clone(signed)
				i := bytes.LastIndex(bad, []byte(at))
				if at != in.at {
					i = bytes.Index(bad, []byte(at)) + 12 // a time in the directory
				}
				bad[i] ^= 1
				v.Rejects(what+" "+at, ours(in.name, bad), j.Verify(t, in.name, bad))
			}
			// Signed once more, by the other key, beside the first.
			params := format.Params{}
			if in.params["digest"] != "" {
				params["digest"] = in.params["digest"]
			}
			both := signers[1].Seal(t, Format{}, in.name, signed, params)
			if err := ours(in.name, both); err != nil {
				t.Errorf("%s: two of ours: %v", what, err)
			}
			v.Accepts(what+", twice", string(sigalg.P256), j.Verify(t, in.name, both))
			if in.theirs {
				theirs := j.Sign(t, s, in.name, in.data)
				v.Takes(what, ours(in.name, theirs))
			}
			integrity := catalogueOf(t, signed)
			if integrity == nil {
				continue
			}
			// The catalogue by itself, and what is in it.
			for name, err := range map[string]error{"CodeIntegrity.cat": j.Verify(t, "CodeIntegrity.cat", integrity), "a.exe": j.Verify(t, "a.exe", image(t, signed), "-catalog", j.File(t, "CodeIntegrity.cat", integrity))} {
				v.Accepts(what+" "+name, string(s.Kind), err)
			}
			for at := range integrity {
				if at%211 != 77 {
					continue
				}
				bad := bytes.Clone(signed)
				bad[bytes.Index(bad, integrity)+at] ^= 1
				v.Rejects(fmt.Sprintf("%s: byte %d of the catalogue", what, at), ours(in.name, bad), j.Verify(t, in.name, bad))
			}
		}
	}
	// osslsigncode signs a package whose block map is wrong: Windows would find out when
	// the program runs.
	publishers := j.Signer(t, sigalg.P256, subject)
	wrong := pack(t, made{name: "a", content: "x"}, made{name: entryManifest, content: manifest(publisher)}, made{name: entryTypes, content: types, deflate: true},
		made{name: entryBlockMap, content: `<BlockMap HashMethod="http://www.w3.org/2001/04/xmlenc#sha256"/>`})
	signed := j.Sign(t, publishers, "a.msix", wrong)
	if err := ours("a.msix", signed); !errors.Is(err, ErrBlockMap) || j.Verify(t, "a.msix", signed) != nil {
		t.Errorf("a wrong block map: %v", err)
	}
	stranger := j.Signer(t, sigalg.P256)
	if _, err := stranger.TrySeal(t, Format{}, "a.msix", app(t, long), nil); !errors.Is(err, ErrPublisher) {
		t.Errorf("somebody else than the publisher signs: %v", err)
	}
	if err := ours("a.msix", j.Sign(t, stranger, "a.msix", app(t, long))); !errors.Is(err, ErrPublisher) {
		t.Errorf("a signature of somebody else than the publisher: %v", err)
	}
}

// catalogueOf is the catalogue of code of a package that is signed here, nil where none was made.
func catalogueOf(t *testing.T, signed []byte) []byte {
	t.Helper()
	p, err := open(format.BytesArtifact("a", signed))
	if err != nil {
		t.Fatal(err)
	}
	if p.made == nil {
		return nil
	}
	return p.made.file
}

// image is the first executable of a package.
func image(t *testing.T, signed []byte) []byte {
	t.Helper()
	var out []byte
	for _, name := range []string{"bin/a.exe", "a&b.exe", "App1.exe"} {
		if b := entry(t, signed, name); b != nil {
			out = b
		}
	}
	return out
}

// entry is the content of a file of a package, nil when it is not there.
func entry(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	z, err := zipfile.Open(format.BytesArtifact("a", b), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := z.Index(name)
	if i < 0 {
		return nil
	}
	out, err := z.Content(i, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
