package pe

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
)

// The digest of a stream is that of the file, however the stream is cut; what is no
// image has none, and neither has a stream that ends early.
func TestDigester(t *testing.T) {
	odd := recipe{plus: true, sections: []raw{{offset: 512, size: 512, rva: 4096, data: make([]byte, 512)}}, overlay: []byte("odd")}.make()
	d := NewDigester(crypto.SHA256, 0)
	for name, b := range map[string][]byte{
		"of odd length": odd,
		"signed":        authenticodetest.Sample(t, "WindowsFormsApplication1.exe"),
		"larger":        append(bytes.Clone(odd), make([]byte, 2<<20+5)...),
	} {
		p, err := Format{}.Plan(t.Context(), file(b), format.Params{"existing": "replace"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, n := range []int{1, 7, 4096, len(b)} {
			if n == 1 && len(b) > 1<<20 {
				continue
			}
			d.Reset(int64(len(b)))
			for at := 0; at < len(b); at += n {
				d.Write(b[at:min(at+n, len(b))])
			}
			if sum, err := d.Sum(); err != nil || !bytes.Equal(sum, p.Content) {
				t.Errorf("%s in pieces of %d: %x, %v: want %x", name, n, sum, err, p.Content)
			}
		}
		d.Reset(int64(len(b)))
		d.Write(b[:len(b)-1])
		if _, err := d.Sum(); err == nil {
			t.Errorf("%s: a stream that ends early has a digest", name)
		}
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":              {nil, ErrNotPE},
		"text":                 {[]byte("text that is no image"), ErrNotPE},
		"a program of MS-DOS":  {append([]byte("MZ"), make([]byte, 200)...), ErrMalformed},
		"headers that are cut": {odd[:100], ErrMalformed},
		"section beyond":       {odd[:600], ErrMalformed},
	} {
		d.Reset(int64(len(c.b)))
		d.Write(c.b)
		if _, err := d.Sum(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v: want %v", name, err, c.want)
		}
	}
}
