package recordtest

import (
	"testing"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
)

// What this package signs is believed, and the marks hold.
func TestSign(t *testing.T) {
	s := NewSigner(t, sigalg.P256)
	script := Script()
	sigs := append(Signing{Signer: s, Revision: 2}.Sign(t, DataSource()), Signing{Signer: s, ID: "script-includes"}.Sign(t, script)...)
	v, marks := Verifier(t, Trust(s)), &Marks{}
	for i, r := range []*record.Record{DataSource(), script} {
		got, err := v.Verify(t.Context(), r, record.Queue, sigs[i:i+1], marks)
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := got.Field("name"); !ok || name != r.Fields["name"] {
			t.Errorf("name %q, %v", name, ok)
		}
	}
	if err := marks.Raise(t.Context(), DataSource().Ref, 1); err == nil {
		t.Error("a mark goes down")
	}
}
