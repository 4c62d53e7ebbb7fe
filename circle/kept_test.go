package circle_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

var update = flag.Bool("update", false, "make the bundle that is kept anew: what was signed before is then no longer tested")

// A bundle that was made once is taken for ever, whatever becomes of the code: it
// is the vector for another implementation too.
func TestKept(t *testing.T) {
	file, pin := filepath.Join("testdata", "v1.bundle"), filepath.Join("testdata", "v1.root")
	if *update {
		s := circletest.New(t)
		b, err := s.Bundle(s.Publish(), s.Publish()).Encode()
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{file: b, pin: []byte(s.Root.String() + "\n")} {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pin)
	if err != nil {
		t.Fatal(err)
	}
	root, err := statement.ParseID(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := circle.ReadBundle(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c, err := circle.New(t.Context(), &circletest.Memory{}, root)
	if err != nil {
		t.Fatal(err)
	}
	now := verifytest.Start.Add(time.Minute)
	apply(t, c, b, now)
	if st := c.Status(now); st[0].Version != 2 || believed(t, c, now).Enforcement(circletest.Protected) != trust.On {
		t.Errorf("%+v", st)
	}
}
