package xar

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Every promise of package format, with one signature and with two.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"P-256", formattest.Case{
			Artifact: small("1"), Other: small("2"), Name: "a.pkg", Signer: formattest.Identity(t, sigalg.P256),
			Params:   format.Params{"reserve": "0", "checksums": "sha256"},
			Refused:  []format.Params{{"digest": "sha1"}, {"reserve": "-1"}, {"reserve": "01"}},
			Unsigned: []string{"Body"},
		}},
		{"RSA", formattest.Case{
			Artifact: small("1"), Other: small("2"), Name: "a.pkg", Signer: formattest.Identity(t, sigalg.RSA3072),
			Params: format.Params{"reserve": "0"}, Unsigned: []string{"Body"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); formattest.Run(t, Format{}, c.c) })
	}
}

// table changes the text of a signed package's table and computes its digest anew,
// as somebody without the key can.
func retable(t *testing.T, b []byte, change func(xml string) string) []byte {
	t.Helper()
	x, err := parse(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	xml := change(x.xml)
	if xml == x.xml {
		t.Fatal("nothing changes")
	}
	packed := store(xml)
	out := append(header(packed, len(xml), x.number), digest(x.hash, packed)...)
	return append(out, b[x.heap+x.checksum.size:]...)
}

func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	good := seal(t, small("1"), s, nil, true)
	if r, err := verify(t, good, s.Trust()); err != nil || len(r.Signatures) != 2 || r.Signatures[0].Time.IsZero() {
		t.Fatalf("%+v, %v", r, err)
	}
	x, err := parse(artifact(good))
	if err != nil {
		t.Fatal(err)
	}
	cut := func(xml, from, to string) string {
		i := strings.Index(xml, from)
		j := strings.Index(xml, to)
		return xml[:i] + xml[j+len(to):]
	}
	replace := func(from, to string) func(string) string {
		return func(xml string) string { return strings.Replace(xml, from, to, 1) }
	}
	ticket := []byte("a ticket")
	trailer := append(append([]byte("t8lr\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), ticket...), "t8lr\x01\x00\x02\x00\x08\x00\x00\x00\x00\x00\x00\x00"...)
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"data changed":                 {flipped(good, x.end-1), "does not have its digest"},
		"digest of a file changed":     {retable(t, good, replace(`style="sha256">2`, `style="sha256">3`)), ""},
		"another certificate":          {retable(t, good, replace("<X509Certificate>", "<X509Certificate>AAAA")), "same certificates"},
		"RSA signature taken out":      {retable(t, good, func(xml string) string { return cut(xml, `<signature style="RSA">`, "</signature>") }), ""},
		"CMS signature taken out":      {retable(t, good, func(xml string) string { return cut(xml, `<x-signature style="CMS">`, "</x-signature>") }), ""},
		"signature named twice":        {retable(t, good, replace("<toc>", `<toc><signature style="RSA"><offset>0</offset><size>1</size></signature>`)), "stands twice"},
		"a second table":               {retable(t, good, replace("</toc>", "</toc><toc></toc>")), "one <toc>"},
		"comment":                      {retable(t, good, replace("<toc>", "<toc><!-- x -->")), "comment"},
		"file twice named":             {retable(t, good, replace("<name>Bom", "<name>x</name><name>Bom")), "a name, or with two"},
		"entity of its own":            {retable(t, good, replace("<xar>", "<!DOCTYPE x><xar>")), "comment, a declaration"},
		"gap before the data":          {retable(t, good, replace("<length>5", "<length>4")), "without gaps"},
		"bytes behind the data":        {append(bytes.Clone(good), make([]byte, 40)...), "no notary's ticket"},
		"space of a signature is used": {flipped(good, x.heap+x.cms.end()-1), "not zero"},
	} {
		_, err := verify(t, c.b, s.Trust())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want %q", name, err, c.want)
		}
	}
	r, err := verify(t, append(bytes.Clone(good), trailer...), s.Trust())
	if err != nil || !slices.Contains(r.Signatures[0].Open, "notary ticket behind the data") {
		t.Errorf("with a ticket: %+v, %v", r, err)
	}
	again := seal(t, append(bytes.Clone(good), trailer...), s, format.Params{"replace": "true"}, true)
	if len(again) > len(good)+16 || bytes.Contains(again, ticket) {
		t.Error("the ticket of the old signature stays")
	}
}

// A weak digest of the table is a weak signature.
func TestSHA1OfTheTableIsRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, small("1"), s, nil, false)
	x, err := parse(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	xml := strings.Replace(x.xml, "<checksum style=\"sha256\">\n   <offset>0</offset>\n   <size>32", "<checksum style=\"sha1\">\n   <offset>0</offset>\n   <size>32", 1)
	packed := store(xml)
	weak := append(header(packed, len(xml), hashSHA1), b[x.heap:]...)
	if _, err := verify(t, weak, s.Trust()); !errors.Is(err, ErrWeak) {
		t.Errorf("%v", err)
	}
}

// Digests of files can be made stronger.
func TestChecksums(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for option, want := range map[string]bool{"keep": true, "sha256": false} {
		r, err := verify(t, seal(t, small("1"), s, format.Params{"checksums": option}, false), s.Trust())
		if err != nil {
			t.Fatal(err)
		}
		if weak := slices.ContainsFunc(r.Signatures[0].Open, func(s string) bool { return strings.Contains(s, "SHA-1") }); weak != want {
			t.Errorf("%s: %v", option, r.Signatures[0].Open)
		}
	}
}

func TestASignatureIsReplacedOnlyWhenAsked(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, small("1"), s, nil, false)
	if _, err := (Format{}).Plan(t.Context(), artifact(b), nil); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	other := formattest.Identity(t, sigalg.RSA4096)
	if r, err := verify(t, seal(t, b, other, format.Params{"replace": "true"}, false), other.Trust()); err != nil || len(r.Signatures) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Apple's certificates for packages have a usage of their own.
func TestInstallerUsage(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{oidInstaller}
	})
	if _, err := verify(t, seal(t, small("1"), s, nil, false), s.Trust()); err != nil {
		t.Error(err)
	}
	tls := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	plan, err := Format{}.Plan(t.Context(), artifact(small("1")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Format{}).Assemble(plan, tls.Identity, formattest.At, nil); err == nil {
		t.Error("a certificate for TLS servers is accepted")
	}
}

func TestRefused(t *testing.T) {
	good := small("1")
	for name, b := range map[string][]byte{
		"no xar":               []byte("xar? and something that is long enough for a header"),
		"another version":      flipped(good, 7),
		"table is cut off":     good[:100],
		"data is wrong":        flipped(good, int64(len(good)-1)),
		"sizes of the table":   flipped(good, 23),
		"bytes after the data": append(bytes.Clone(good), 0),
		"overlapping data": packXML(crypto.SHA256, func(int64) string {
			f := `<file><name>a</name><data><offset>32</offset><length>4</length><size>4</size><archived-checksum style="sha256">` + strings.Repeat("0", 64) + `</archived-checksum></data></file>`
			return `<xar><toc><checksum style="sha256"><offset>0</offset><size>32</size></checksum>` + f + strings.Replace(f, "<offset>32", "<offset>34", 1) + `</toc></xar>`
		}, entry{content: "123456"}),
		"data without a digest": packXML(crypto.SHA256, func(int64) string {
			return `<xar><toc><checksum style="sha256"><offset>0</offset><size>32</size></checksum><file><name>a</name><data><offset>32</offset><length>6</length><size>6</size></data></file></toc></xar>`
		}, entry{content: "123456"}),
		"long paths": packXML(crypto.SHA256, func(int64) string {
			return `<xar><toc><checksum style="sha256"><offset>0</offset><size>32</size></checksum><file><name>` + strings.Repeat("a", 5000) + `</name></file></toc></xar>`
		}),
		"text for a table": packXML(crypto.SHA256, func(int64) string { return `<xar><toc>0</toc></xar>` }),
		"closed table":     packXML(crypto.SHA256, func(int64) string { return `<xar><toc/></xar>` }),
		"table after text": packXML(crypto.SHA256, func(int64) string { return `<xar>0<toc><a/></toc></xar>` }),
		"bomb":             append(header(bytes.Repeat([]byte{0}, 64), 1<<40, hashSHA256), make([]byte, 100)...),
	} {
		if _, err := (Format{}).Plan(t.Context(), artifact(b), nil); err == nil {
			t.Errorf("%s is planned", name)
		}
	}
}

func TestStamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, small("1"), s, nil, false)
	todo, err := Format{}.Unstamped(t.Context(), artifact(b), nil)
	if err != nil || len(todo) != 1 {
		t.Fatalf("%v, %v", todo, err)
	}
	if _, err := (Format{}).Stamp(t.Context(), artifact(b), nil, todo[0], s.Timestamp(t, []byte("other"), formattest.At)); err == nil {
		t.Error("a timestamp over something else is taken")
	}
	patch, err := Format{}.Stamp(t.Context(), artifact(b), nil, todo[0], s.Timestamp(t, todo[0].Message, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	b = apply(t, b, patch)
	if r, err := verify(t, b, s.Trust()); err != nil || r.Signatures[0].Time.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	if todo, err := (Format{}).Unstamped(t.Context(), artifact(b), nil); err != nil || len(todo) != 0 {
		t.Errorf("%v, %v", todo, err)
	}
}

func TestReadsOnce(t *testing.T) {
	big := pack(crypto.SHA256, entry{"a", strings.Repeat("x", 5<<20), "sha1"}, entry{"b", strings.Repeat("y", 3<<20), "sha256"})
	formattest.Reads(t, Format{}, artifact(big), format.Params{"checksums": "sha256"})
}

func TestGoldenPlan(t *testing.T) {
	p, err := Format{}.Plan(t.Context(), artifact(small("golden")), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	// The digest of what stood before the data depends on this Go's compressor: the
	// rest may not change.
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err1 := format.DecodePlan(got)
	q, err2 := format.DecodePlan(want)
	if err1 != nil || err2 != nil || !bytes.Equal(p.Content, q.Content) || !slices.Equal(p.Facts, q.Facts) || !slices.Equal(p.Params, q.Params) {
		t.Errorf("plan differs from %s: %v, %v", path, err1, err2)
	}
}

// A table has a place for a digest before it has one: nothing is put beside it.
func TestTable(t *testing.T) {
	for xml, ok := range map[string]bool{
		`<xar><toc></toc></xar>`:                      true,
		`<xar><toc> </toc></xar>`:                     true,
		`<xar><toc id="1"><a/></toc></xar>`:           true,
		`<xar><toc>0</toc></xar>`:                     false,
		`<xar><toc/></xar>`:                           false,
		`<xar><toc id="1"/></xar>`:                    false,
		`<xar>0<toc></toc></xar>`:                     false,
		`<xar><toc></toc><toc></toc></xar>`:           false,
		`<xar><a/><toc></toc></xar>`:                  false,
		`<xar><toc><file>0<name/></file></toc></xar>`: false,
	} {
		table, err := parseTable(xml)
		if (err == nil) != ok {
			t.Errorf("%s: %v", xml, err)
		}
		if err != nil {
			continue
		}
		signed, err := parseTable(table.sign(crypto.SHA256, 384, 1000, [][]byte{[]byte("certificate")}))
		if err != nil || signed.bare(nil) != xml || signed.checksum == nil || signed.rsa == nil || signed.cms == nil {
			t.Errorf("%s: signed and bare again: %v", xml, err)
		}
	}
}

// Whatever table is accepted is the same without signatures that are put in.
func FuzzTable(f *testing.F) {
	x, err := parse(artifact(small("1")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(x.xml)
	f.Add(x.bare(nil))
	f.Add(`<xar><toc/></xar>`)
	f.Add(`<xar><toc><file><name>a</name><ea><name>x</name></ea><file><name>b</name></file></file></toc></xar>`)
	f.Fuzz(func(t *testing.T, xml string) {
		a, err := parseTable(xml)
		if err != nil {
			return
		}
		bare := a.bare(nil)
		b, err := parseTable(bare)
		if err != nil {
			return // data that stood before the signatures
		}
		c, err := parseTable(b.sign(crypto.SHA256, 384, 1000, [][]byte{[]byte("certificate")}))
		if err != nil {
			t.Fatal(err)
		}
		if c.bare(nil) != bare || c.signatures != 32+384+1000 || len(c.files) != len(a.files) {
			t.Fatalf("%s\n%s", c.bare(nil), bare)
		}
	})
}

func FuzzParse(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	f.Add(small("1"))
	f.Add(seal(f, small("1"), s, format.Params{"reserve": "0"}, false))
	trust := s.Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		Format{}.Detect(artifact(b))
		Format{}.Inspect(t.Context(), artifact(b))
		Format{}.Verify(t.Context(), artifact(b), trust)
		Format{}.Remove(t.Context(), artifact(b), -1)
		Format{}.List(t.Context(), artifact(b), func(format.Entry) error { return nil })
		if p, err := (Format{}).Plan(t.Context(), artifact(b), format.Params{"replace": "true"}); err == nil {
			if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Fatalf("a plan that nobody can sign: %v", err)
			}
		}
	})
}

// What is stored is read by everybody, whatever its size.
func TestStore(t *testing.T) {
	for _, n := range []int{0, 1, 65535, 65536, 200000} {
		s := strings.Repeat("x", n)
		if got, err := inflate(store(s), int64(n)); err != nil || got != s {
			t.Errorf("%s bytes: %v", strconv.Itoa(n), err)
		}
	}
}

// Apple's reader of tables goes by local names: to it <x:file> is a file.
func TestPrefixesAreRefused(t *testing.T) {
	for _, xml := range []string{
		`<xar><toc xmlns:x="y"><x:file id="1"><name>a</name></x:file></toc></xar>`,
		`<xar xmlns:x="y"><x:toc></x:toc><toc></toc></xar>`,
	} {
		if _, err := parseTable(xml); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", xml, err)
		}
	}
	if _, err := parseTable(`<xar><toc></toc></xar>`); err != nil {
		t.Error(err)
	}
}
