package formattest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Details checks what facts have to do with what is signed: with each of alike in
// place of its own, p asks for the same signatures of a key of kind k, and with each
// of wrong it is refused with refusal. The names are the test's.
func Details(t testing.TB, f format.Format, p *format.Plan, k sigalg.Key, alike map[string][]format.Fact, refusal error, wrong map[string][]format.Fact) {
	t.Helper()
	id := Identity(t, k).Identity
	want, err := f.Assemble(p, id, At, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := *p
	for name, facts := range alike {
		q.Facts = facts
		got, err := f.Assemble(&q, id, At, nil)
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d signatures, %v: want %d", name, len(got), err, len(want))
			continue
		}
		for i := range want {
			if !bytes.Equal(got[i].Message, want[i].Message) || !bytes.Equal(got[i].Digest, want[i].Digest) {
				t.Errorf("%s: another message", name)
			}
		}
	}
	for name, facts := range wrong {
		q.Facts = facts
		if _, err := f.Assemble(&q, id, At, nil); !errors.Is(err, refusal) {
			t.Errorf("%s: %v, want %v", name, err, refusal)
		}
	}
}
