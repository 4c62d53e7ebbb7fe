package macho

import (
	"flag"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write golden files")

// What is parsed holds what everything else relies on, is written as it was read,
// and can be taken apart and put together.
func FuzzParse(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	for _, b := range [][]byte{
		recipe{code: 64, pad: 32}.make(), recipe{narrow: true, cpu: 7, code: 64, pad: 32, info: smallInfo}.make(),
		universal(32, 6, recipe{code: 64, pad: 32}.make(), recipe{cpu: arm64, code: 64, pad: 32}.make()),
		universal(64, 7, recipe{code: 64, pad: 32}.make()),
	} {
		f.Add(b)
		f.Add(seal(f, b, s, format.Params{"identifier": "x", "reserve": "4096"}, false))
	}
	trust := s.Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		Format{}.Detect(artifact(b))
		m, err := parse(artifact(b))
		if err != nil {
			return
		}
		offs, sizes := []int64{}, []int64{}
		for _, p := range m.slices {
			if p.end() > p.size || p.link.end() != p.size || int64(len(p.raw)) > p.room || p.off+p.size > m.size {
				t.Fatalf("%+v", p)
			}
			offs, sizes = append(offs, p.off), append(sizes, p.size)
		}
		if m.width != 0 && string(m.table(offs, sizes)) != string(b[:len(m.table(offs, sizes))]) {
			t.Fatal("the table is written as another one")
		}
		Format{}.Inspect(t.Context(), artifact(b))
		if p, err := (Format{}).Plan(t.Context(), artifact(b), format.Params{"identifier": "x", "replace": "true", "reserve": "4096"}); err == nil {
			if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Fatalf("a plan that nobody can sign: %v", err)
			}
		}
		Format{}.Verify(t.Context(), artifact(b), trust)
		if p, err := (Format{}).Remove(t.Context(), artifact(b), -1); err == nil {
			if out, err := p.Bytes(artifact(b)); err != nil {
				t.Fatal(err)
			} else if _, err := parse(artifact(out)); err != nil {
				t.Fatalf("without its signature: %v", err)
			}
		}
	})
}
