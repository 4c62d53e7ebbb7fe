package keeper

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// Whatever evidence is: no panic, no signature that was not granted.
func FuzzExecute(f *testing.F) {
	w := newWorld(f)
	w.generate("release")
	w.refusedWith("quorum-pending", w.signOrder("release", plainItems(f, 1), "bob"))
	good, err := format.Encode(w.signOrder("release", plainItems(f, 1), "bob"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o Order
		if format.Decode(b, &o) != nil {
			return
		}
		out, err := w.k.Execute(context.Background(), &o)
		if err != nil {
			return
		}
		r, _, err := w.k.ownReceipt(out.Receipt)
		if err != nil || r.Outcome != statement.Refused {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"CN=Example Ltd,O=Example Ltd,C=CH", `CN=a\,b`, "CN= x ", "=", "CN=#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		der, err := parseName(s)
		if err != nil {
			return
		}
		var seq pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) != 0 {
			t.Fatalf("%q became %x: %v", s, der, err)
		}
	})
}
