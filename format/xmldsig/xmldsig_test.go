package xmldsig

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	text  = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<doc xmlns="urn:example:doc" xmlns:x="urn:example:x" version="1"><x:item id="a">some text</x:item><empty/></doc>` + "\n"
	notes = `<doc><!-- a comment --><a b="c"/></doc>`
)

func artifact(s string) format.Artifact { return format.BytesArtifact("doc.xml", []byte(s)) }

func sign(t testing.TB, doc string, s *formattest.Signer, p format.Params) string {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(doc), p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), artifact(doc), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	b, err := patch.Bytes(artifact(doc))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func verify(t testing.TB, doc string, trust format.Trust) (*format.Report, error) {
	t.Helper()
	return New().Verify(t.Context(), artifact(doc), trust)
}

// bare leaves out the line end after the root element, which canonical XML does not
// see.
func bare(doc string) []byte { return []byte(strings.TrimSpace(doc)) }

func TestConformance(t *testing.T) {
	for name, c := range map[string]formattest.Case{
		"chain": {Artifact: bare(text), Other: bare(strings.Replace(text, "some", "same", 1)), Signer: formattest.Identity(t, sigalg.P256)},
		"key":   {Artifact: []byte(notes), Other: []byte(strings.Replace(notes, "comment", "kommend", 1)), Signer: formattest.Identity(t, sigalg.RSA3072), Params: format.Params{"certificates": "none"}},
		"512":   {Artifact: []byte("<a>b</a>"), Other: []byte("<a>c</a>"), Signer: formattest.Identity(t, sigalg.P384), Params: format.Params{"digest": "sha512"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Name, c.Refused, c.Unsigned = "doc.xml", []format.Params{{"digest": "sha1"}, {"certificates": "all"}}, []string{"Body", "Facts", "Size"}
			formattest.Run(t, New(), c)
		})
	}
}

func TestRoundTrip(t *testing.T) {
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384} {
		s := formattest.Identity(t, kind)
		for _, doc := range documents {
			for _, certificates := range []string{"chain", "none"} {
				signed := sign(t, doc, s, format.Params{"certificates": certificates})
				r, err := verify(t, signed, s.Trust())
				if err != nil || len(r.Signatures[0].Open) != 1 {
					t.Fatalf("%s: %+v, %v", doc, r, err)
				}
				keys, roots := s.Trust(), s.Trust()
				keys.Roots, roots.Keys = nil, nil
				if r, err := verify(t, signed, keys); err != nil || (certificates == "chain") != (len(r.Signatures[0].Open) > 1) {
					t.Errorf("%s: with the key: %v", doc, err)
				}
				if _, err := verify(t, signed, roots); (err == nil) != (certificates == "chain") {
					t.Errorf("%s: with the root: %v", doc, err)
				}
				if !New().Detect(artifact(signed)) || New().Detect(artifact(doc)) {
					t.Errorf("%s: detected wrongly", doc)
				}
				if _, err := New().Plan(t.Context(), artifact(signed), nil); err == nil {
					t.Errorf("%s: signed twice", doc)
				}
			}
		}
	}
}

// documents are in all sorts of spellings.
var documents = []string{
	text, notes, "<a></a>", "<a>b</a>\n<!-- after -->\n<?pi after?>\n", "<!-- before --><?pi  data  ?>\n<a><?pi?></a>",
	"<?xml version='1.0'?>\r\n<a b='1'\r\n   c=\"2\">line\r\nline\rline\n\t</a  >",
	`<a x="&lt;&amp;&quot;&apos;&#xA;&#9;&#xD; tab	end">&lt;&gt;&amp;&#xD;&#x1F600; ü <![CDATA[<&>]]]]></a>`,
	`<p:a xmlns:p="urn:p" xmlns:q="urn:q" xmlns="urn:d" q:z="1" b="2" p:y="3" a="4"><b xmlns=""><c xmlns="urn:d"/></b><p:c xmlns:p="urn:p2"/><p:c xmlns:p="urn:p"/></p:a>`,
	`<a xmlns:unused="urn:unused" t="unused:type"><b xmlns:unused="urn:unused"/><b xmlns:unused="urn:other">unused:x</b></a>`,
	`<a xml:lang="en" xml:space="preserve"><b xml:lang="de"> </b></a>`, `<ä:ö xmlns:ä="urn:a%C3%A4" ü="ß">日本</ä:ö>`,
}

// Invariant 1.
func TestDocuments(t *testing.T) {
	for name, doc := range map[string]string{
		"empty": "", "text": "hello", "no end": "<a>", "wrong end": "<a></b>", "two roots": "<a></a><b></b>", "text after": "<a></a>x", "end first": "</a>",
		"document type":           `<!DOCTYPE a><a></a>`,
		"entities that grow":      `<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;">]><a>&c;</a>`,
		"external entity":         `<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`,
		"unknown entity":          "<a>&nbsp;</a>",
		"reference to NUL":        "<a>&#0;</a>",
		"reference to surrogate":  "<a>&#xD800;</a>",
		"reference of ten digits": "<a>&#99999999999;</a>",
		"open reference":          "<a>&amp</a>",
		"control character":       "<a>\x01</a>",
		"not UTF-8":               "<a>\xff</a>",
		"byte order mark":         "\ufeff<a></a>",
		"UTF-16":                  `<?xml version="1.0" encoding="UTF-16"?><a></a>`,
		"XML 1.1":                 `<?xml version="1.1"?><a></a>`,
		"declaration later":       `<a><?xml version="1.0"?></a>`,
		"declaration in capitals": `<a><?XML version="1.0"?></a>`,
		"hyphens in a comment":    "<a><!-- -- --></a>",
		"open comment":            "<a><!-- </a>",
		"]]> in text":             "<a>]]></a>",
		"CDATA outside":           "<a></a><![CDATA[x]]>",
		"< in an attribute":       `<a b="<"></a>`,
		"attribute twice":         `<a b="1" b="2"></a>`,
		"attribute twice by name": `<a xmlns:p="urn:p" xmlns:q="urn:p" p:b="1" q:b="2"></a>`,
		"attribute unquoted":      `<a b=1></a>`,
		"attributes run together": `<a b="1"c="2"></a>`,
		"prefix not declared":     `<p:a></p:a>`,
		"attribute prefix":        `<a p:b=""></a>`,
		"prefix undeclared":       `<p:a xmlns:p="urn:p"><b xmlns:p=""></b></p:a>`,
		"namespace twice":         `<a xmlns="urn:a" xmlns="urn:a"></a>`,
		"relative namespace":      `<a xmlns="relative"></a>`,
		"namespace of no URI":     `<a xmlns="urn:ä"></a>`,
		"xmlns redefined":         `<a xmlns:xmlns="urn:x"></a>`,
		"xml redefined":           `<a xmlns:xml="urn:x"></a>`,
		"xml under another name":  `<a xmlns:x="` + xmlSpace + `"></a>`,
		"element in xmlns":        `<xmlns:a></xmlns:a>`,
		"two colons":              `<a:b:c xmlns:a="urn:a"></a:b:c>`,
		"a colon first":           `<:a></:a>`,
		"a number first":          `<1></1>`,
		"space before the name":   `< a></a>`,
		"too many elements":       "<a>" + strings.Repeat("<b/>", maxNames) + "</a>",
		"too deep":                strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1),
		"too many namespaces":     strings.Repeat(`<a xmlns:b="urn:b">`, maxScopes+1) + strings.Repeat("</a>", maxScopes+1),
		"too many attributes":     "<a " + manyAttributes() + "></a>",
		"no end tag":              "<a/>",
		"a signature elsewhere":   `<a><b><Signature xmlns="` + space + `"></Signature></b></a>`,
		"a large signature":       `<a><Signature xmlns="` + space + `">` + strings.Repeat("<b/>", maxSignature/4) + `</Signature></a>`,
		"a signature as the root": `<Signature xmlns="` + space + `"></Signature>`,
		"much after the root":     "<a></a>" + strings.Repeat("\n", maxTail),
	} {
		if _, err := New().Plan(t.Context(), artifact(doc), nil); err == nil {
			t.Errorf("%s: planned", name)
		}
	}
}

func manyAttributes() string {
	var b strings.Builder
	for i := range maxAttributes + 1 {
		fmt.Fprintf(&b, `a%d="" `, i)
	}
	return b.String()
}

// What canonical XML takes for the same verifies, and nothing else does.
func TestChangedDocuments(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := sign(t, text, s, nil)
	for name, c := range map[string]struct {
		from, to string
		ok       bool
	}{
		"as it is":                     {"", "", true},
		"quotes":                       {`version="1">`, `version='1'>`, true},
		"white space in a tag":         {`version="1">`, "version = \"1\"\n>", true},
		"empty element":                {`<empty/>`, `<empty></empty>`, true},
		"CDATA":                        {`some text`, `<![CDATA[some]]> text`, true},
		"reference":                    {`some text`, `s&#111;me text`, true},
		"no declaration":               {`<?xml version="1.0" encoding="UTF-8"?>`, ``, true},
		"another text":                 {`some text`, `some Text`, false},
		"comment in a text":            {`some text`, `some<!-- --> text`, false},
		"comment after the root":       {"</doc>\n", "</doc>\n<!-- -->", false},
		"comment in the signature":     {`<SignedInfo>`, `<!-- --><SignedInfo>`, false},
		"comment in the digest":        {`<DigestValue>`, `<DigestValue><!-- -->`, false},
		"instruction":                  {`some text`, `some<?x?> text`, false},
		"instruction in the signature": {`<SignatureValue>`, `<SignatureValue><?x?>`, false},
		"attribute":                    {`id="a"`, `id="b"`, false},
		"one more attribute":           {`id="a"`, `id="a" c="d"`, false},
		"namespace":                    {`xmlns:x="urn:example:x"`, `xmlns:x="urn:example:y"`, false},
		"one more namespace":           {`xmlns:x="urn:example:x"`, `xmlns:x="urn:example:x" xmlns:y="urn:y"`, false},
		"one more element":             {`<empty/>`, `<empty/><empty/>`, false},
		"white space between":          {`<empty/>`, ` <empty/>`, false},
		"prefix":                       {`<x:item id="a">some text</x:item>`, `<y:item xmlns:y="urn:example:x" id="a">some text</y:item>`, false},
		"document type":                {`<doc`, `<!DOCTYPE doc><doc`, false},
		"second signature":             {`</Signature>`, `</Signature><Signature xmlns="` + space + `"></Signature>`, false},
		"a signature in the signature": {`</Signature>`, `<Signature xmlns="` + space + `"></Signature></Signature>`, false},
		"text in the signature":        {`<SignedInfo>`, `x<SignedInfo>`, false},
		"an object":                    {`</Signature>`, `<Object></Object></Signature>`, false},
		"white space in base64":        {`<X509Certificate>`, "<X509Certificate>\n", true},
		"another reference":            {`URI=""`, `URI="#a"`, false},
		"no reference":                 {` URI=""`, ``, false},
		"remote reference":             {`URI=""`, `URI="https://example.com/"`, false},
		"comments by name":             {`URI=""`, `URI="` + withComments + `"`, false},
		"transform left out":           {`<Transform Algorithm="` + inclusive + `"></Transform>`, ``, false},
		"exclusive transform":          {`<Transform Algorithm="` + inclusive + `">`, `<Transform Algorithm="` + exclusive + `">`, false},
		"XPath":                        {`<Transform Algorithm="` + inclusive + `">`, `<Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116">`, false},
		"XSLT":                         {`<Transform Algorithm="` + inclusive + `">`, `<Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116">`, false},
		"prefix list":                  {`<CanonicalizationMethod Algorithm="` + exclusive + `">`, `<CanonicalizationMethod Algorithm="` + exclusive + `"><InclusiveNamespaces PrefixList="x"/>`, false},
		"HMAC":                         {more + "ecdsa-sha256", space + "hmac-sha1", false},
		"HMAC output length":           {`</SignatureMethod>`, `<HMACOutputLength>1</HMACOutputLength></SignatureMethod>`, false},
		"another hash":                 {more + "ecdsa-sha256", more + "ecdsa-sha384", false},
		"digest under SHA-1":           {enc + "sha256", space + "sha1", false},
	} {
		if !strings.Contains(signed, c.from) {
			t.Fatalf("%s: %s is not there: %s", name, c.from, signed)
		}
		r, err := verify(t, strings.Replace(signed, c.from, c.to, 1), s.Trust())
		if (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	// The signature of one document in another, and somewhere else in its own.
	sig := regexp.MustCompile(`<Signature .*</Signature>`).FindString(signed)
	for name, doc := range map[string]string{
		"another document":   strings.Replace(text, "<empty/>", sig, 1),
		"first child":        strings.Replace(text, "<x:item", sig+"<x:item", 1),
		"deeper":             strings.Replace(text, "some text", "some text"+sig, 1),
		"wrapped":            "<w>" + strings.TrimPrefix(signed, `<?xml version="1.0" encoding="UTF-8"?>`) + "</w>",
		"beside the root":    text + sig,
		"as the root's head": sig,
	} {
		if _, err := verify(t, doc, s.Trust()); (err == nil) != (name == "first child") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// craft signs a document in a way of one's own.
func craft(t *testing.T, s *formattest.Signer, doc, info, keyInfo string) string {
	t.Helper()
	raw, err := envelope.Raw(s.Public, s.Sign(t, []byte(info)))
	if err != nil {
		t.Fatal(err)
	}
	sig := `<Signature xmlns="` + space + `">` + strings.Replace(info, ` xmlns="`+space+`"`, "", 1) + `<SignatureValue>` + base64.StdEncoding.EncodeToString(raw) + `</SignatureValue>` + keyInfo + `</Signature>`
	return strings.Replace(doc, "</doc>", sig+"</doc>", 1)
}

// Invariants 4 and 5: signatures that are right over what they leave out.
func TestLeftOut(t *testing.T) {
	s, stranger := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	certificates := func(list ...*x509.Certificate) string {
		out := "<KeyInfo><X509Data>"
		for _, c := range list {
			out += "<X509Certificate>" + base64.StdEncoding.EncodeToString(c.Raw) + "</X509Certificate>"
		}
		return out + "</X509Data></KeyInfo>"
	}
	info := func(doc string, exclusively bool) string {
		r, err := read([]byte(doc), false, exclusively, "sha256")
		if err != nil {
			t.Fatal(err)
		}
		out := signedInfo(more+"ecdsa-sha256", "sha256", r.sum("sha256"), false, true)
		if exclusively {
			out = strings.Replace(out, inclusive, exclusive, 1)
		}
		return out
	}
	const plain, unused, comment = `<doc a="b"></doc>`, `<doc xmlns:x="urn:x" type="x:y"></doc>`, `<doc><!-- x --></doc>`
	good := certificates(s.Chain...)
	for name, c := range map[string]struct {
		doc  string
		ok   bool
		open int
	}{
		"inclusive":                {craft(t, s, plain, info(plain, false), good), true, 1},
		"exclusive":                {craft(t, s, plain, info(plain, true), good), true, 1},
		"inclusive, unused prefix": {craft(t, s, unused, info(unused, false), good), true, 1},
		"exclusive, unused prefix": {craft(t, s, unused, info(unused, true), good), false, 0},
		"comments left out":        {craft(t, s, comment, info(comment, false), good), false, 0},
		"comments cut off":         {craft(t, s, "<doc></doc>", info(comment, false), good), true, 1},
		"key info of a stranger":   {craft(t, s, plain, info(plain, false), certificates(stranger.Chain...)), false, 0},
		"a stranger's certificate": {craft(t, s, plain, info(plain, false), certificates(append(s.Chain[:2:2], stranger.Chain[0])...)), false, 0},
		"a stranger signs":         {craft(t, stranger, plain, info(plain, false), certificates(stranger.Chain...)), false, 0},
		"a stranger's key":         {craft(t, stranger, plain, info(plain, false), "<KeyInfo><KeyValue></KeyValue></KeyInfo>"), false, 0},
		"key name":                 {craft(t, s, plain, info(plain, false), "<KeyInfo><KeyName>x</KeyName></KeyInfo>"), true, 2},
		"no key info":              {craft(t, s, plain, info(plain, false), ""), true, 1},
		"no certificate":           {craft(t, s, plain, info(plain, false), "<KeyInfo><X509Data><X509Certificate>AAAA</X509Certificate></X509Data></KeyInfo>"), false, 0},
		"two references":           {craft(t, s, plain, strings.Replace(info(plain, false), "</Reference>", `</Reference><Reference URI=""></Reference>`, 1), good), false, 0},
		"type of the reference":    {craft(t, s, plain, strings.Replace(info(plain, false), ` URI=""`, ` Type="x" URI=""`, 1), good), false, 0},
		"three transforms":         {craft(t, s, plain, strings.Replace(info(plain, false), "</Transforms>", `<Transform Algorithm="`+inclusive+`"></Transform></Transforms>`, 1), good), false, 0},
		"short digest":             {craft(t, s, plain, regexp.MustCompile(`<DigestValue>.*</DigestValue>`).ReplaceAllString(info(plain, false), "<DigestValue>AAAA</DigestValue>"), good), false, 0},
		"canonicalised otherwise":  {craft(t, s, plain, strings.Replace(info(plain, false), `CanonicalizationMethod Algorithm="`+exclusive, `CanonicalizationMethod Algorithm="`+inclusive, 1), good), false, 0},
	} {
		r, err := verify(t, c.doc, s.Trust())
		if (err == nil) != c.ok || err == nil && len(r.Signatures[0].Open) != c.open {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	plan := func() *format.Plan {
		p, err := New().Plan(t.Context(), artifact(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	with := func(at int64) *format.Plan {
		p := plan()
		b, err := format.Encode(&body{At: at})
		if err != nil {
			t.Fatal(err)
		}
		p.Body = b
		return p
	}
	for name, c := range map[string]struct {
		p  *format.Plan
		id format.Identity
	}{
		"before the beginning": {with(-1), s.Identity}, "after the end": {with(int64(len(text))), s.Identity},
		"no facts": {func() *format.Plan { p := plan(); p.Facts = nil; return p }(), s.Identity},
		"Ed25519":  {plan(), formattest.Identity(t, sigalg.Ed25519).Identity}, "PSS": {plan(), formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256).Identity},
		"two keys": {plan(), s.And(formattest.Identity(t, sigalg.P384)).Identity},
	} {
		if _, err := New().Assemble(c.p, c.id, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for _, at := range []int64{1, int64(strings.Index(text, "</x:item")), int64(strings.Index(text, "</doc")) + 1} {
		p := with(at)
		if _, err := New().Attach(t.Context(), artifact(text), p, s.Identity, formattest.At, formattest.SignAll(t, New(), p, s, formattest.At)); err == nil {
			t.Errorf("a signature at byte %d", at)
		}
	}
}

// Frozen: plans and documents of version 1 stay good.
func TestGolden(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	var got []byte
	for _, doc := range []string{text, notes} {
		plan, err := New().Plan(t.Context(), artifact(doc), nil)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := New().Assemble(plan, s.Identity, formattest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		got = fmt.Appendf(got, "plan %x\nmessage %s\n", enc, tbs[0].Message)
	}
	path := func(n string) string { return filepath.Join("testdata", n) }
	if *update {
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		if err := errors.Join(err, os.WriteFile(path("plans.txt"), got, 0o644), os.WriteFile(path("key.der"), der, 0o644), os.WriteFile(path("signed.xml"), []byte(sign(t, text, s, nil)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path("plans.txt")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got\n%swant\n%s", err, got, want)
	}
	doc, trust := frozen(t)
	if _, err := verify(t, doc, trust); err != nil {
		t.Error(err)
	}
}

func frozen(tb testing.TB) (string, format.Trust) {
	tb.Helper()
	b, err1 := os.ReadFile(filepath.Join("testdata", "signed.xml"))
	der, err2 := os.ReadFile(filepath.Join("testdata", "key.der"))
	pub, err3 := x509.ParsePKIXPublicKey(der)
	if err := errors.Join(err1, err2, err3); err != nil {
		tb.Fatal(err)
	}
	return string(b), format.Trust{Keys: []crypto.PublicKey{pub}, Now: formattest.At}
}

// What is read has one canonical form, which is its own.
func FuzzDocument(f *testing.F) {
	for _, d := range documents {
		f.Add(d)
	}
	doc, trust := frozen(f)
	f.Add(doc)
	want, err := canonical([]byte(text), true)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		c, err := canonical([]byte(doc), true)
		if err != nil {
			return
		}
		if again, err := canonical([]byte(c), true); err != nil || again != c {
			t.Fatalf("%q becomes %q, which becomes %q, %v", doc, c, again, err)
		}
		New().Inspect(t.Context(), artifact(doc))
		if _, err := verify(t, doc, trust); err == nil && c != want {
			t.Fatalf("accepted: %q", doc)
		}
	})
}

// canonical is the canonical form of a document without its signature.
func canonical(b []byte, comments bool) (string, error) {
	var out strings.Builder
	r := &reader{}
	r.outer = canon{w: &out, comments: comments, inclusive: true}
	err := parse(b, r)
	return out.String(), err
}
