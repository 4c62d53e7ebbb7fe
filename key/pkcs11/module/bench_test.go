//go:build cgo && unix

package module

import (
	"fmt"
	"testing"

	"github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/sigalg"
)

// BenchmarkSign is the whole way: parent, pipe, child, SoftHSM, and back.
func BenchmarkSign(b *testing.B) {
	h := newHSM(b, "hsm")
	first, _ := h.open(b, nil)
	algorithms := []sigalg.Key{sigalg.RSA3072, sigalg.P256}
	for _, k := range algorithms {
		generate(b, first, uri(string(k)), k)
	}
	if err := first.Close(); err != nil {
		b.Fatal(err)
	}
	for _, algorithm := range algorithms {
		for _, sessions := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("%s/sessions=%d", algorithm, sessions), func(b *testing.B) {
				p, _ := h.open(b, func(c *pkcs11.Config) { c.Sessions = sessions })
				k, err := p.Open(b.Context(), uri(string(algorithm)))
				if err != nil {
					b.Fatal(err)
				}
				scheme := algorithm.Default()
				input := scheme.Input([]byte("benchmark"))
				b.SetParallelism(16) // callers, for each core
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := k.Sign(b.Context(), scheme, input); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sign/s")
			})
		}
	}
}
