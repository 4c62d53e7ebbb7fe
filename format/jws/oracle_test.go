package jws

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var theirAlgorithms = []gojose.SignatureAlgorithm{gojose.ES256, gojose.ES384, gojose.RS256, gojose.PS256, gojose.PS512, gojose.EdDSA}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func change(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)/2] ^= 1
	return c
}

// jose, the command, judges ours and is the peer, over a real program.
func TestOracleJWSbyJose(t *testing.T) {
	jose := formattest.Program(t, "jose", "apt-get install jose")
	v := formattest.Judge(t, Name, "jose 11")
	v.Note = "knows neither Ed25519, ML-DSA nor unencoded payloads"
	file := read(t, "/bin/sh")
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, scheme := range []sigalg.Scheme{sigalg.RSAPKCS1SHA256, sigalg.RSAPSSSHA384, sigalg.ECDSASHA256, sigalg.ECDSASHA384} {
		kind := map[sigalg.Scheme]sigalg.Key{sigalg.ECDSASHA256: sigalg.P256, sigalg.ECDSASHA384: sigalg.P384}[scheme]
		if kind == "" {
			kind = sigalg.RSA3072
		}
		s := formattest.Identity(t, kind).With(scheme)
		public, err := json.Marshal(gojose.JSONWebKey{Key: s.Public})
		if err != nil {
			t.Fatal(err)
		}
		key := write("key.jwk", public)
		for _, p := range []format.Params{
			{"payload": "embedded"}, {"payload": "detached"}, {"payload": "embedded", "serialization": "json"}, {"payload": "detached", "serialization": "json"},
		} {
			what := fmt.Sprint(scheme, p)
			judge := func(b, content []byte) error {
				args := []string{"jws", "ver", "-i", write("jws", b), "-k", key}
				if p["payload"] == "detached" {
					args = append(args, "-I", write("content", content))
				} else {
					args = append(args, "-O", filepath.Join(dir, "out"))
				}
				if _, err := formattest.RunJudge(t, jose, args...); err != nil {
					return err
				}
				if p["payload"] != "detached" && !bytes.Equal(read(t, filepath.Join(dir, "out")), content) {
					return errors.New("jose: another content")
				}
				return nil
			}
			b := sign(t, file, s, p)
			v.Accepts(what, string(kind), judge(b, file))
			_, err := verify(t, change(file), b, s.Trust())
			v.Rejects(what+", another file", err, judge(b, change(file)))
			bad := bytes.Clone(b)
			bad[len(bad)-20] ^= 2
			_, err = verify(t, file, bad, s.Trust())
			v.Rejects(what+", another signature", err, judge(bad, file))
		}

		peer := cmstest.NewRoot(t).Issue(t, "Signer", kind)
		private, err := json.Marshal(gojose.JSONWebKey{Key: peer.Key})
		if err != nil {
			t.Fatal(err)
		}
		alg, err := algorithm(scheme)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"-c"}, {}} {
			out := filepath.Join(dir, "theirs")
			args = append([]string{"jws", "sig", "-I", write("content", file), "-k", write("private.jwk", private), "-s", `{"protected":{"alg":"` + alg + `"}}`, "-o", out}, args...)
			if _, err := formattest.RunJudge(t, jose, args...); err != nil {
				t.Fatal(err)
			}
			trust := format.Trust{Now: formattest.At, Keys: []crypto.PublicKey{peer.Key.Public()}}
			_, err = verify(t, file, read(t, out), trust)
			v.Takes(fmt.Sprint(scheme, args), err)
			if _, err := verify(t, change(file), read(t, out), trust); err == nil {
				t.Errorf("%s: theirs is good for another file", scheme)
			}
		}
	}
}

// go-jose judges what jose does not know.
func TestOracleJWSbyGoJose(t *testing.T) {
	v := formattest.Judge(t, Name, "go-jose 4.1.3")
	v.Note = "knows no ML-DSA: these are verified by us alone"
	file := read(t, "/bin/sh")
	ed, p256 := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256)
	for _, s := range []*formattest.Signer{ed, p256, formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256), ed.And(p256)} {
		kind, err := sigalg.KeyOf(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []format.Params{{"payload": "embedded"}, {"payload": "detached"}, {"payload": "unencoded"}} {
			p["serialization"] = "json"
			what := fmt.Sprint(s.Scheme, len(s.Also), p)
			judge := func(b, content []byte) error {
				var m *gojose.JSONWebSignature
				var err error
				if p["payload"] == "embedded" {
					m, err = gojose.ParseSigned(string(b), theirAlgorithms)
				} else {
					// The library wants a payload to parse, and is given the real one to verify.
					m, err = gojose.ParseSigned(string(bytes.Replace(b, []byte("{"), []byte(`{"payload":"",`), 1)), theirAlgorithms)
				}
				if err != nil {
					return err
				}
				for _, one := range s.Signers() {
					if len(s.Also) == 0 {
						err = m.DetachedVerify(content, one.Public)
					} else {
						_, _, err = m.DetachedVerifyMulti(content, one.Public)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}
			b := sign(t, file, s, p)
			v.Accepts(what, string(kind), judge(b, file))
			_, err := verify(t, change(file), b, s.Trust())
			v.Rejects(what, err, judge(b, change(file)))
		}
	}
	for _, k := range []struct {
		kind sigalg.Key
		alg  gojose.SignatureAlgorithm
	}{{sigalg.Ed25519, gojose.EdDSA}, {sigalg.P384, gojose.ES384}, {sigalg.RSA3072, gojose.PS512}} {
		peer := cmstest.NewRoot(t).Issue(t, "Signer", k.kind)
		signer, err := gojose.NewSigner(gojose.SigningKey{Algorithm: k.alg, Key: peer.Key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := signer.Sign(file)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := m.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		detached, err := m.DetachedCompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range []string{compact, detached, m.FullSerialize()} {
			_, err := verify(t, file, []byte(b), format.Trust{Now: formattest.At, Keys: []crypto.PublicKey{peer.Key.Public()}})
			v.Takes(string(k.alg), err)
		}
	}
}
