package verify_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// FuzzDecodeEvidence is invariant 2; what decodes is judged too, and is refused
// without a panic unless it is the document of the specification.
func FuzzDecodeEvidence(f *testing.F) {
	seed, err := os.ReadFile(vectors + "/evidence.json")
	if err != nil {
		f.Fatalf("%v: make the vectors with go test ./verify -run TestVectors -update", err)
	}
	pin, err := os.ReadFile(vectors + "/root")
	if err != nil {
		f.Fatal(err)
	}
	root, err := statement.ParseID(strings.TrimSpace(string(pin)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := verify.DecodeEvidence(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted and does not re-encode to itself: %v", err)
		}
		a, err := verify.Judge(e, root, verifytest.Formats())
		if err == nil && (a.RequestID() != seedRequest(t, seed) || a.Root() != root) {
			t.Error("another document than the seed is accepted")
		}
	})
}

func seedRequest(t *testing.T, doc []byte) statement.ID {
	t.Helper()
	e, err := verify.DecodeEvidence(doc)
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.DecodeEnvelope(e.Request)
	if err != nil {
		t.Fatal(err)
	}
	return env.ID()
}
