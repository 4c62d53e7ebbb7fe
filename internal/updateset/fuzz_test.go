package updateset_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

func seeds(t testing.TB) [][]byte {
	w := newWorld(t, recordtest.Configurations())
	out := [][]byte{
		w.sealed(t, made(t, script(), gone(), property())), made(t, script()),
		set(scriptName, "INSERT_OR_UPDATE", cdata(one("<script>a&#13;\r\nb</script>"))),
		set(scriptName, "INSERT_OR_UPDATE", escaped(one("<script><![CDATA[x]]]]><![CDATA[>]]></script>"))),
		attached("3", chunk("0", packed([]byte("abc")))),
		[]byte(header + recorded("1") + recorded("2") + "</unload>"),
	}
	for _, b := range out {
		open(t, b)
	}
	return out
}

// Whatever is accepted is written as it was read, reads again, survives a round as
// documents, and is never approved without a signature when it is protected.
func FuzzOpen(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	limits := updateset.Limits{Update: 1 << 20, Attachment: 1 << 20}
	rules, err := updateset.NewRules(recordtest.Configurations(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx := context.Background()
		s, err := updateset.Open(ctx, bytes.NewReader(b), int64(len(b)), limits)
		if err != nil {
			if rejection.Of(err) == nil || s != nil {
				t.Fatal(err)
			}
			return
		}
		var same bytes.Buffer
		if _, err := s.Seal(ctx, &same, each(nil)); err != nil || !bytes.Equal(same.Bytes(), b) {
			t.Fatalf("not what was read: %v", err)
		}
		before := operations(t, s)
		var round bytes.Buffer
		w, err := updateset.NewWriter(&round, "n", setID, when, "ann")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Copy(ctx, s); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		copied, err := updateset.Open(ctx, bytes.NewReader(round.Bytes()), int64(round.Len()), updateset.Limits{})
		if err != nil {
			t.Fatalf("does not read again: %v", err)
		}
		superseded := 0
		err = s.Updates(ctx, func(u *updateset.Update) error {
			if u.Superseded {
				superseded += len(u.Operations)
			}
			return nil
		})
		if after := operations(t, copied); err != nil || len(after) != len(before)-superseded {
			t.Fatalf("%d operations, %d after a round, %v", len(before), len(after), err)
		}
		v := recordtest.Verifier(t, recordtest.Trust())
		p, err := updateset.Verify(ctx, s, v, updateset.Policy{Rules: rules, Marks: &recordtest.Marks{}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.Counts[updateset.Valid] > 0 {
			t.Fatal("valid, and nobody is believed")
		}
	})
}

// The seeds are there and are accepted: a corpus that is empty tests nothing.
func TestSeeds(t *testing.T) {
	if n := len(seeds(t)); n < 5 {
		t.Fatalf("%d seeds", n)
	}
}
