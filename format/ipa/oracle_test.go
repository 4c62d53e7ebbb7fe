package ipa

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func write(tb testing.TB, b []byte) string {
	tb.Helper()
	at := filepath.Join(tb.TempDir(), "A.ipa")
	if err := os.WriteFile(at, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return at
}

// relic judges the application's own program against Info.plist and list.
func relic(tb testing.TB, root string, b []byte) error {
	tb.Helper()
	out, err := formattest.RunJudge(tb, formattest.Program(tb, "relic", "run make judges"), "verify", "--cert", root, write(tb, b))
	if err == nil && !strings.Contains(out, "OK") {
		err = errors.New(out)
	}
	return err
}

// python computes all lists, all page hashes and all special slots again, and has
// openssl judge the CMS signatures of all programs.
func python(tb testing.TB, root string, b []byte) error {
	tb.Helper()
	out, err := formattest.RunJudge(tb, formattest.Program(tb, "python3", "apt-get install python3"),
		filepath.Join("..", "..", "tools", "judges", "ipa_check.py"), write(tb, b), root, strconv.FormatInt(formattest.At.Unix(), 10))
	if err == nil && !strings.Contains(out, "OK") {
		err = errors.New(out)
	}
	return err
}

// built is an application whose programs the Go linker made.
func built(tb testing.TB) []byte {
	tb.Helper()
	b := []byte(goProgram(tb))
	m := largeApp()
	for p := range m {
		if isCode([]byte(m[p]+"        ")) && !isStub(p) {
			m[p] = string(b)
		}
	}
	return packed(m)
}

// repacked is the archive as another program writes it, with a change to one file.
func repacked(tb testing.TB, b []byte, name string, change func([]byte) []byte) []byte {
	tb.Helper()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			tb.Fatal(err)
		}
		c, err := io.ReadAll(in)
		if err != nil {
			tb.Fatal(err)
		}
		if f.Name == "Payload/A.app/"+name {
			if c, name = change(c), ""; c == nil {
				continue
			}
		}
		to, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Deflate, ExternalAttrs: f.ExternalAttrs, CreatorVersion: f.CreatorVersion})
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := to.Write(c); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil || name != "" {
		tb.Fatalf("%v, or no %q", err, name)
	}
	return out.Bytes()
}

func TestOracleIPA(t *testing.T) {
	v := formattest.Judge(t, "ipa", "relic 8.2.0, ipa_check.py with openssl")
	v.Note = "relic judges the main program with Info.plist and list; ipa_check.py computes every list, page hash and special slot again and gives every CMS signature to openssl; no signer of applications is to be had here, and no judge is Apple's"
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := formattest.Identity(t, key)
		_, _, root := s.Root.WriteFiles(t, t.TempDir(), "root")
		for name, b := range map[string][]byte{"four levels": packed(largeApp()), "one program": packed(smallApp("1")), "programs by Go": built(t)} {
			signed := seal(t, b, s, nil, true)
			what := fmt.Sprintf("%s %s", name, key)
			v.Accepts(what, formattest.Key(key), errors.Join(relic(t, root, signed), python(t, root, signed)))
			again := repacked(t, signed, "x", func(b []byte) []byte { return b })
			if _, err := verify(t, again, s.Trust()); err != nil {
				t.Errorf("%s, packed by another: %v", what, err)
			}
			tampered := map[string]func(b []byte) []byte{
				"x": func([]byte) []byte { return []byte("another") },
				"A": func(b []byte) []byte { b[340] ^= 1; return b },
			}
			if name != "one program" {
				const extension = "Watch/W.app/PlugIns/E.appex/"
				tampered[extension+"E"] = func(b []byte) []byte { b[340] ^= 1; return b }
				tampered[extension+"Frameworks/F.framework/version.txt"] = func([]byte) []byte { return []byte("2") }
				tampered[extension+"Frameworks/F.framework/"+listName] = func(b []byte) []byte { return append(b, '\n') }
				tampered["Frameworks/libc.dylib"] = func([]byte) []byte { return nil }
				tampered["Frameworks/B.framework/y"] = func([]byte) []byte { return nil }
			}
			for p, change := range tampered {
				bad := repacked(t, signed, p, change)
				_, ours := verify(t, bad, s.Trust())
				v.Rejects(what+": "+p, ours, python(t, root, bad))
			}
		}
	}
}
