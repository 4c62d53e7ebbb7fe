package xmldsig

import (
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

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Both canonical forms are those of libxml2.
func TestCanonicalLikeLibxml(t *testing.T) {
	xmllint := formattest.Program(t, "xmllint", "apt-get install libxml2-utils")
	for _, doc := range documents {
		path := write(t, filepath.Join(t.TempDir(), "doc.xml"), doc)
		for flag, inclusive := range map[string]bool{"--c14n": true, "--exc-c14n": false} {
			want, err := exec.Command(xmllint, "--nonet", flag, path).Output()
			if err != nil {
				t.Fatalf("%s: %v", doc, err)
			}
			var got strings.Builder
			if err := parse([]byte(doc), &canon{w: &got, comments: true, inclusive: inclusive}); err != nil || got.String() != string(want) {
				t.Errorf("%s %s: %v: got\n%q\nwant\n%q", flag, doc, err, got.String(), want)
			}
		}
	}
}

// xmlsec1 judges ours, and is the peer.
func TestOracleXMLDSig(t *testing.T) {
	xmlsec := formattest.Program(t, "xmlsec1", "apt-get install xmlsec1")
	version, err := formattest.RunJudge(t, xmlsec, "--version")
	if err != nil {
		t.Fatal(err)
	}
	v := formattest.Judge(t, Name, strings.TrimSpace(version))
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384} {
		root := cmstest.NewRoot(t)
		key := root.Issue(t, "XML Signer", kind)
		id := format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
		trust := format.Trust{Roots: root.Pool(), Now: formattest.At}
		dir := t.TempDir()
		cert, private, rootFile := key.WriteFiles(t, dir, "signer")
		judge := func(doc string) error {
			_, err := formattest.RunJudge(t, xmlsec, "--verify", "--trusted-pem", rootFile, "--enabled-key-data", "x509", "--X509-skip-strict-checks", write(t, filepath.Join(dir, "signed.xml"), doc))
			return err
		}
		for _, doc := range documents {
			what := string(kind) + " " + doc
			plan, err := New().Plan(t.Context(), artifact(doc), nil)
			if err != nil {
				t.Fatal(err)
			}
			tbs, err := New().Assemble(plan, id, formattest.At, nil)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := New().Attach(t.Context(), artifact(doc), plan, id, formattest.At, []format.Signature{{Value: key.SignInput(t, id.Scheme, tbs[0].Input())}})
			if err != nil {
				t.Fatal(err)
			}
			b, err := patch.Bytes(artifact(doc))
			if err != nil {
				t.Fatal(err)
			}
			signed := string(b)
			v.Accepts(what, string(kind), judge(signed))
			bad := strings.Replace(signed, "<Signature", "<more></more><Signature", 1)
			_, err = verify(t, bad, trust)
			v.Rejects(what, err, judge(bad))

			// Theirs: a template of ours that they fill, and one in another form.
			method, err := methodOf(id.Scheme)
			if err != nil {
				t.Fatal(err)
			}
			for _, transform := range []string{inclusive, exclusive} {
				if r, err := read([]byte(doc), true, true); err != nil || transform == exclusive && r.unused {
					continue // we do not accept that form for this document
				}
				info := strings.Replace(signedInfo(method, "sha256", nil, strings.Contains(doc, "<!--"), false), `<Transform Algorithm="`+inclusive, `<Transform Algorithm="`+transform, 1)
				info = strings.ReplaceAll(strings.Replace(info, exclusive+"#WithComments", exclusiveComments, 1), "></", ">\n  </")
				template := "<ds:Signature xmlns:ds=\"" + space + "\">\n" + strings.NewReplacer("</", "</ds:", "<", "<ds:").Replace(info) + "\n<ds:SignatureValue/>\n<ds:KeyInfo><ds:X509Data><ds:X509Certificate/></ds:X509Data></ds:KeyInfo>\n</ds:Signature>"
				at := strings.Index(signed, "<Signature")
				in := write(t, filepath.Join(dir, "template.xml"), doc[:at]+template+doc[at:])
				out := filepath.Join(dir, "theirs.xml")
				if _, err := formattest.RunJudge(t, xmlsec, "--sign", "--privkey-pem", private+","+cert, "--output", out, in); err != nil {
					t.Fatal(err)
				}
				theirs, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				_, err = verify(t, string(theirs), trust)
				v.Takes(what+" "+transform, err)
			}
		}
	}
}
