package script

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func art(name string, b []byte) format.Artifact { return format.BytesArtifact(name, b) }

// encode makes a text's bytes: "", "8", "le", "be" for its byte order mark.
func encode(s, mark string) []byte {
	switch mark {
	case "":
		return []byte(s)
	case "8":
		return append([]byte{0xef, 0xbb, 0xbf}, s...)
	}
	var order binary.AppendByteOrder = binary.LittleEndian
	if mark == "be" {
		order = binary.BigEndian
	}
	var out []byte
	for _, w := range utf16.Encode([]rune("\ufeff" + s)) {
		out = order.AppendUint16(out, w)
	}
	return out
}

// scripts are one of each kind.
var scripts = map[string]string{
	"a.ps1":    "Write-Host 'hello'\r\n",
	"b.psm1":   "function f {\n  'x'\n}",
	"c.psd1":   "@{ ModuleVersion = '1.0' }\r\n",
	"d.ps1xml": "<?xml version=\"1.0\"?>\r\n<Types></Types>\r\n",
	"e.psc1":   "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<PSConsoleFile ConsoleSchemaVersion=\"1.0\"></PSConsoleFile>\r\n",
	"f.cdxml":  "<PowerShellMetadata xmlns=\"x\"></PowerShellMetadata>",
	"g.mof":    "#pragma namespace(\"\\\\\\\\.\\\\root\")\r\n",
	"h.js":     "WScript.Echo('hello');\r\n",
	"i.vbs":    "WScript.Echo \"hello\"\r\n",
	"j.wsf":    "<job id=\"a\">\r\n<script language=\"JScript\">\r\n</script>\r\n</job>\r\n",
}

func apply(t testing.TB, b []byte, p *format.Patch) []byte {
	t.Helper()
	out, err := p.Bytes(art("x", b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func seal(t testing.TB, name string, b []byte, s *formattest.Signer, params format.Params) []byte {
	t.Helper()
	p, err := (Format{}).Plan(t.Context(), art(name, b), params)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	patch, err := (Format{}).Attach(t.Context(), art(name, b), p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return apply(t, b, patch)
}

func verify(t testing.TB, name string, b []byte, s *formattest.Signer) (*format.Report, error) {
	t.Helper()
	return Format{}.Verify(t.Context(), art(name, b), s.Trust())
}

func TestConformance(t *testing.T) {
	for _, c := range []struct{ name, mark string }{{"a.ps1", ""}, {"i.vbs", "le"}, {"j.wsf", ""}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := scripts[c.name]
			formattest.Run(t, Format{}, formattest.Case{
				Artifact: encode(text, c.mark), Other: encode(strings.Replace(text, "e", "E", 1), c.mark), Name: c.name,
				Params: format.Params{"description": "Script"}, Signer: formattest.Identity(t, sigalg.P256),
				Refused: []format.Params{{"digest": "md5"}, {"url": "ftp://x"}, {"script-type": "bash"}}, Unsigned: []string{"Facts"}, // lines, which no message has
			})
		})
	}
}

func TestGoldenPlan(t *testing.T) {
	p, err := (Format{}).Plan(t.Context(), art("a.ps1", []byte(scripts["a.ps1"])), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("plan %x: want %x (%v)", b, want, err)
	}
}

// The digest, computed here a second time, in every encoding: of one text it is the
// same for the Script Host; PowerShell digests the byte order mark as a character.
func TestDigest(t *testing.T) {
	words := func(s string) []byte { return encode(s, "le")[2:] }
	for name, text := range scripts {
		k := byExtension(name)
		for _, mark := range []string{"", "8", "le", "be"} {
			content := words(text)
			at := len(content) / 2
			if k.name == "wsf" {
				at = strings.LastIndex(text, "</job>")
			}
			switch {
			case k.host:
				content = binary.LittleEndian.AppendUint32(content, uint32(at))
			case mark != "":
				content = append(words("\ufeff"), content...)
			}
			want := sha256.Sum256(content)
			p, err := (Format{}).Plan(t.Context(), art(name, encode(text, mark)), nil)
			if err != nil || !bytes.Equal(p.Content, want[:]) {
				t.Errorf("%s, mark %q: %v", name, mark, err)
			}
		}
	}
}

// Every kind in every encoding is signed, signed again, stamped, and is byte for byte
// what it was when the block goes.
func TestEveryKindAndEncoding(t *testing.T) {
	s, two := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384)
	tr := s.Trust()
	tr.Roots.AddCert(two.Root.Certificate)
	for name, text := range scripts {
		for _, mark := range []string{"", "8", "le", "be"} {
			if mark != "" && !strings.HasSuffix(name, "f") {
				text += "# Grüße 🌱 # " // after the text: it need not run
			}
			b := encode(text, mark)
			one := seal(t, name, b, s, nil)
			if !(Format{}).Detect(art("any", one)) {
				t.Errorf("%s, mark %q: signed it is not detected", name, mark)
			}
			both := seal(t, name, one, two, format.Params{"digest": "sha384"})
			todo, err := (Format{}).Unstamped(t.Context(), art(name, both), nil)
			if err != nil || len(todo) != 2 {
				t.Fatalf("%s: %v", name, err)
			}
			patch, err := (Format{}).Stamp(t.Context(), art(name, both), nil, todo[1], s.Timestamp(t, todo[1].Message, formattest.At))
			if err != nil {
				t.Fatal(err)
			}
			stamped := apply(t, both, patch)
			r, err := (Format{}).Verify(t.Context(), art(name, stamped), tr)
			if err != nil || len(r.Signatures) != 2 || r.Signatures[1].Time.IsZero() {
				t.Errorf("%s, mark %q: %v", name, mark, err)
			}
			if patch, err = (Format{}).Remove(t.Context(), art(name, stamped), -1); err != nil || !bytes.Equal(apply(t, stamped, patch), b) {
				t.Errorf("%s, mark %q: without signatures it is not what it was: %v", name, mark, err)
			}
			if patch, err = (Format{}).Remove(t.Context(), art(name, both), 1); err != nil || !bytes.Equal(apply(t, both, patch), one) {
				t.Errorf("%s, mark %q: without the second signature it is not what it was: %v", name, mark, err)
			}
		}
	}
}

// The kind is said, else the extension's, else the block's, else the beginning's; the
// plan says which, and a plan made anew with its options needs no name.
func TestKind(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	plan := func(name, text string, params format.Params) (string, error) {
		p, err := (Format{}).Plan(t.Context(), art(name, []byte(text)), params)
		if err != nil {
			return "", err
		}
		return p.Param("script-type"), nil
	}
	block := string(seal(t, "x.vbs", []byte("x\r\n"), s, nil))
	for _, c := range []struct{ name, text, say, want string }{
		{"a.PS1", "x", "", "ps1"}, {"dir\\a.Psd1", "x", "", "ps1"}, {"a.txt", "x", "mof", "mof"}, {"a.js", "x", "ps1", "ps1"},
		{"a", block, "", "vbs"}, {"a", "#!/usr/bin/env pwsh\nx", "", "ps1"}, {"a", "<?xml version='1.0'?><!-- x -->\n<PSConsoleFile >", "", "xml"},
		{"a", "<package>\n<job></job></package>", "", "wsf"}, {"a", "x", "", ""}, {"a.txt", "<jobs></job>", "", ""}, {"a.vbs.txt", "x", "", ""},
		{"a.js", block, "", ""}, {"a.vbs", block, "ps1", ""}, {"a.wsf", "<x/>", "", ""},
	} {
		params := format.Params{}
		if c.say != "" {
			params["script-type"] = c.say
		}
		got, err := plan(c.name, c.text, params)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %.20q %s: %q, %v: want %q", c.name, c.text, c.say, got, err, c.want)
		}
	}
	// A host that looks for another block would run it as unsigned text.
	b := seal(t, "x.vbs", []byte("x\r\n"), s, nil)
	if _, err := verify(t, "x.ps1", b, s); !errors.Is(err, ErrMalformed) {
		t.Errorf("a block of another kind: %v", err)
	}
	if _, err := verify(t, "anything", b, s); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "hello\n", "function f {}", "<html></html>", "\x00\x01", "MZ\x90"} {
		if (Format{}).Detect(art("a.ps1", []byte(text))) {
			t.Errorf("%q is detected", text)
		}
	}
}

// Digests that depend on the verifier's code page are not made.
func TestEncodingsThatVerifiersDisagreeOn(t *testing.T) {
	for name, b := range map[string][]byte{
		"latin-1.ps1": []byte("Gr\xfc\xdfe\r\n"), "utf-8.vbs": []byte("Grüße\r\n"), "utf-8.js": []byte("Grüße\r\n"), "utf-8.ps1xml": []byte("<x>Grüße</x>\r\n"),
		"no mark.ps1": encode("x", "le")[2:], "odd.ps1": append(encode("x", "le"), 0), "zeros.js": []byte("x\x00y"),
		"utf-32.ps1": append([]byte{0xff, 0xfe, 0, 0}, "x\x00\x00\x00"...), "zeros.ps1": encode("x\x00y", "be"),
		"overlong.ps1": []byte("\xc0\x80"), "surrogate.ps1": []byte("\xed\xa0\x80"),
	} {
		if _, err := (Format{}).Plan(t.Context(), art(name, b), nil); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Format{}).Plan(t.Context(), art("utf-8.ps1", []byte("Grüße 🌱\r\n")), nil); err != nil {
		t.Error(err)
	}
	if _, err := (Format{}).Plan(t.Context(), format.BytesArtifact("a.ps1", make([]byte, maxSize+1)), nil); err == nil {
		t.Error("a script beyond the limit")
	}
}

// What others accept: text after the block, a second block, other line ends, comments
// between its lines.
func TestMalformedBlocks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := string(seal(t, "a.ps1", []byte(scripts["a.ps1"]), s, nil))
	w := string(seal(t, "j.wsf", []byte(scripts["j.wsf"]), s, nil))
	first, last := "# "+beginPS+"\r\n", "# "+endPS+"\r\n"
	at := strings.Index(b, first)
	for _, c := range []struct{ name, file, text, want string }{
		{"text after it", "a.ps1", b + "Remove-Item x\r\n", "after it"},
		{"line end after it", "a.ps1", b + "\r\n", "after it"},
		{"two blocks", "a.ps1", b + b[at-2:], "2 beginnings"},
		{"beginning in the text", "a.ps1", "'" + first + "'" + b, "2 beginnings"},
		{"no end", "a.ps1", strings.Replace(b, last, "", 1), "0 ends"},
		{"no beginning", "a.ps1", strings.Replace(b, first, "", 1), "0 beginnings"},
		{"end before the beginning", "a.ps1", last + strings.Replace(b, last, "", 1), "last line"},
		{"LF", "a.ps1", strings.ReplaceAll(b, "\r\n", "\n"), "first line"},
		{"LF in one line", "a.ps1", b[:len(b)-200] + strings.Replace(b[len(b)-200:], "\r\n", "\n", 1), ""},
		{"indented", "a.ps1", strings.Replace(b, first, " "+first, 1), "first line"},
		{"code in the block", "a.ps1", strings.Replace(b, first, first+"Remove-Item x\r\n", 1), "not a comment"},
		{"empty line in the block", "a.ps1", strings.Replace(b, first, first+"# \r\n", 1), "a line of 0"},
		{"long line", "a.ps1", strings.Replace(b, first, first+"# "+strings.Repeat("A", 200)+"\r\n", 1), "a line of"},
		{"not base64", "a.ps1", strings.Replace(b, first, first+"# A?==\r\n", 1), ""},
		{"another signature after the first", "a.ps1", strings.Replace(b, last, "# MAA=\r\n"+last, 1), ""},
		{"block outside of the job", "j.wsf", strings.Replace(w, "</job>", "", 1) + "</job>", "before the end"},
	} {
		if _, err := verify(t, c.file, []byte(c.text), s); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want one with %q", c.name, err, c.want)
		}
	}
	// Blocks that an editor broke are replaced, with their line ends.
	for _, broken := range []string{strings.ReplaceAll(b, "\r\n", "\n"), b + "\r\n\r\n", strings.Replace(b, first, first+"# \r\n", 1)} {
		if _, err := (Format{}).Plan(t.Context(), art("a.ps1", []byte(broken)), nil); err == nil {
			t.Errorf("%q is kept", broken)
		}
		again := seal(t, "a.ps1", []byte(broken), s, format.Params{"existing": "replace"})
		if _, err := verify(t, "a.ps1", again, s); err != nil || strings.Count(string(again), beginPS) != 1 {
			t.Errorf("replaced: %v", err)
		}
	}
	if _, err := (Format{}).Plan(t.Context(), art("a.ps1", []byte(b+"Remove-Item x\r\n")), format.Params{"existing": "replace"}); err == nil {
		t.Error("text after a block is thrown away with it")
	}
	if _, err := verify(t, "a.ps1", []byte("x"), s); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
	if _, err := verify(t, "a.ps1", []byte(strings.Replace(b, "hello", "hallo", 1)), s); !errors.Is(err, authenticode.ErrDigest) {
		t.Error(err)
	}
	// Signatures of others have shorter lines.
	re := strings.Builder{}
	re.WriteString(b[:at] + first)
	body := strings.NewReplacer("# ", "", "\r\n", "").Replace(b[at+len(first) : len(b)-len(last)])
	for i := 0; i < len(body); i += 44 {
		re.WriteString("# " + body[i:min(i+44, len(body))] + "\r\n")
	}
	re.WriteString(last)
	if _, err := verify(t, "a.ps1", []byte(re.String()), s); err != nil {
		t.Errorf("lines of 44 characters: %v", err)
	}
}

// The classes are those that Microsoft's own signatures state.
func TestClasses(t *testing.T) {
	for name, want := range map[string]string{
		"ps1": "1fcc3b60594b084eb724d2c6297ef351", "js": "10e0c906ce38d411a2a300104bd35090",
		"vbs": "4ef029169927b54d8fe5ace10f17ebab", "wsf": "7005611ace38d411a2a300104bd35090",
	} {
		if got := hex.EncodeToString([]byte(byName(name).class)); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// osslsigncode takes what we sign and we take what it signs: all kinds of PowerShell,
// with and without a byte order mark.
func TestOracleScript(t *testing.T) {
	j := authenticodetest.New(t)
	v := formattest.Judge(t, "script", j.Version)
	v.Note = "PowerShell and .mof; .js, .vbs and .wsf have no verifier outside of Windows (osslsigncode's .js is not the Script Host's)"
	options := []format.Params{nil, {"description": "Größe", "url": "https://example.com/", "digest": "sha384"}}
	theirs := [][]string{nil, {"-n", "Script"}}
	var inputs []authenticodetest.Input
	for _, name := range []string{"a.ps1", "b.psm1", "c.psd1", "d.ps1xml", "e.psc1", "f.cdxml", "g.mof"} {
		for _, mark := range []string{"", "8", "le"} {
			b := encode(scripts[name], mark)
			n := len(b) / 2 &^ 1
			inputs = append(inputs, authenticodetest.Input{Name: name, Data: b, At: b[n : n+6], Params: options, Foreign: theirs})
			options, theirs = options[:1], theirs[:1] // all options once
		}
	}
	j.Oracle(t, v, Format{}, inputs)
}

// What can be planned can be signed, verifies, and is what it was without it.
func FuzzPlan(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	n := 0
	for name, text := range scripts {
		for i, mark := range []string{"", "8", "le", "be"} {
			b := encode(text, mark)
			f.Add(name, b)
			if i == n%4 {
				f.Add(name, seal(f, name, b, s, nil))
			}
		}
		n++
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		(Format{}).Detect(art(name, b))
		p, err := (Format{}).Plan(t.Context(), art(name, b), format.Params{"existing": "replace"})
		if err != nil {
			return
		}
		patch, err := (Format{}).Attach(t.Context(), art(name, b), p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		signed := apply(t, b, patch)
		if _, err := verify(t, name, signed, s); err != nil {
			t.Fatal(err)
		}
		if patch, err = (Format{}).Remove(t.Context(), art(name, signed), -1); err != nil {
			t.Fatal(err)
		}
		bare := apply(t, signed, patch)
		again, err := (Format{}).Plan(t.Context(), art(name, bare), format.Params{"script-type": p.Param("script-type")})
		if err != nil || !bytes.Equal(again.Content, p.Content) {
			t.Fatalf("bare again: %v", err)
		}
	})
}

// relic takes what we sign: scripts of all styles of PowerShell, some of others.
func TestOracleScriptByRelic(t *testing.T) {
	j := authenticodetest.NewRelic(t)
	v := formattest.Judge(t, "script", j.Version)
	v.Note = "PowerShell and .mof; relic's signatures are not in DER's order: they are not taken"
	var inputs []authenticodetest.Input
	add := func(name string, b []byte) {
		n := len(b) / 2 &^ 1
		inputs = append(inputs, authenticodetest.Input{Name: name, Data: b, At: b[n : n+6], Params: []format.Params{nil, {"digest": "sha384"}}})
	}
	for _, name := range []string{"a.ps1", "d.ps1xml", "g.mof"} {
		add(name, encode(scripts[name], "8"))
		add(name, encode(scripts[name], "le"))
	}
	for _, name := range []string{"hello.ps1", "hello.ps1xml", "hello.mof"} {
		add(name, authenticodetest.Sample(t, name))
	}
	j.Oracle(t, v, Format{}, inputs)
}

// Lines are counted in characters of the text's encoding, the byte order mark one of
// the first line: a newline's bytes across two characters are none.
func TestLinesOfDetails(t *testing.T) {
	for name, c := range map[string]struct {
		text           string
		lines, longest string
	}{
		"one":         {"Get-Date", "1", "9 characters"},
		"closed":      {"a\r\nbcd\r\n", "2", "5 characters"},
		"blank lines": {"\n\n\nx", "4", "2 characters"},
		"halves":      {"\u0a41\u4100\u0a0a\u000a\u0a00A", "2", "5 characters"},
	} {
		for _, mark := range []string{"le", "be"} {
			p, err := New().Plan(t.Context(), art(name+".ps1", encode(c.text, mark)), nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got := map[string]string{}
			for _, f := range p.Facts {
				got[f.Name] = f.Value
			}
			if got["lines"] != c.lines || got["longest-line"] != c.longest {
				t.Errorf("%s, %s: %s lines, longest %s: want %s, %s", name, mark, got["lines"], got["longest-line"], c.lines, c.longest)
			}
		}
	}
}
