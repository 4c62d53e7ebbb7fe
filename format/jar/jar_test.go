package jar

import (
	"archive/zip"
	"bytes"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

// build makes an archive of names and contents, deflated and with descriptors as
// Java's jar does.
func build(tb testing.TB, nameContent ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(nameContent); i += 2 {
		c, err := w.Create(nameContent[i])
		if err == nil {
			_, err = c.Write([]byte(nameContent[i+1]))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("a.jar", b) }

func trySeal(tb testing.TB, s *formattest.Signer, b []byte, params format.Params) ([]byte, error) {
	tb.Helper()
	f := Format{}
	p, err := f.Plan(tb.Context(), artifact(b), params)
	if err != nil {
		return nil, err
	}
	patch, err := f.Attach(tb.Context(), artifact(b), p, s.Identity, formattest.At, formattest.SignAll(tb, f, p, s, formattest.At))
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}

// seal signs an archive.
func seal(tb testing.TB, s *formattest.Signer, b []byte, params format.Params) []byte {
	tb.Helper()
	out, err := trySeal(tb, s, b, params)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
