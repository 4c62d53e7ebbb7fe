package verify_test

import (
	"bytes"
	"testing"

	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// FuzzDecodeEvidence is invariant 2; what decodes is judged too, and is refused
// without a panic unless it is the seed.
func FuzzDecodeEvidence(f *testing.F) {
	seed := bytes.Clone(seedDocument(f))
	f.Add(seed)
	f.Add([]byte(`{"version":1}`))
	d := verifytest.New(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := verify.DecodeEvidence(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted and does not re-encode to itself: %v", err)
		}
		if _, err := verify.Judge(e, d.Root, verifytest.Formats()); err == nil && !bytes.Equal(b, seed) {
			t.Error("another document than the seed is accepted")
		}
	})
}

func seedDocument(tb testing.TB) []byte {
	tb.Helper()
	_, b := small(tb)
	return b
}
