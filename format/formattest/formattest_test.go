package formattest

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

func TestTwoRounds(t *testing.T) {
	Run(t, TwoRounds(), Case{
		Artifact: []byte("two rounds\nhello, world\n"), Other: []byte("two rounds\nhello, w0rld\n"), Name: "hello.txt",
		Params: format.Params{"note": "a note"}, Signer: Identity(t, sigalg.Ed25519), Unsigned: []string{"Size"},
	})
}

// The second round follows from the first signature: another one gives another
// message.
func TestTwoRoundsDerived(t *testing.T) {
	s, f := Identity(t, sigalg.Ed25519), TwoRounds()
	p, err := f.Plan(t.Context(), format.BytesArtifact("x", []byte("two rounds\nx")), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := f.Assemble(p, s.Identity, At, [][]byte{{1}})
	b, err2 := f.Assemble(p, s.Identity, At, [][]byte{{2}})
	if err1 != nil || err2 != nil || string(a[0].Message) == string(b[0].Message) {
		t.Fatalf("%v, %v", err1, err2)
	}
}

const spoiledVar = "GREATSEAL_FORMATTEST_SPOILED"

// spoiled is TwoRounds with one fault.
type spoiled struct {
	format.Format
	fault string
	n     int
	met   []crypto.PublicKey
}

func (s *spoiled) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	if s.fault == "options not refused" {
		p = nil
	}
	if s.fault == "reads backwards" && a.Size() > 0 {
		big := make([]byte, a.Size())
		for range 1<<21/len(big) + 1 {
			a.ReadAt(big, 0)
		}
	}
	plan, err := s.Format.Plan(ctx, a, p)
	if s.n++; err == nil && s.fault == "plan not deterministic" {
		plan.Params[0].Value = fmt.Sprint(s.n)
	}
	return plan, err
}

func (s *spoiled) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	switch s.fault {
	case "content not signed":
		q := *p
		q.Content = make([]byte, 32)
		p = &q
	case "clock in the message":
		tbs, err := s.Format.Assemble(p, id, at, done)
		for i := range tbs {
			s.n++
			tbs[i].Message = fmt.Append(tbs[i].Message, s.n)
		}
		return tbs, err
	case "version not checked":
		q := *p
		q.Version = 1
		p = &q
	}
	return s.Format.Assemble(p, id, at, done)
}

func (s *spoiled) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	r, err := s.Format.Verify(ctx, a, t)
	switch s.fault {
	case "last byte not covered":
		if err != nil && a.Size() > 1 {
			b := make([]byte, a.Size())
			if format.ReadFull(a, b, 0) == nil {
				b[len(b)-1] = '\n'
				return s.Format.Verify(ctx, format.BytesArtifact("", b), t)
			}
		}
	case "trusts whom it met":
		if err == nil {
			s.met = t.Keys
		} else if t.Keys = s.met; t.Keys != nil {
			return s.Format.Verify(ctx, a, t)
		}
	}
	return r, err
}

// The suite finds each fault that it is there to find.
func TestSuiteFinds(t *testing.T) {
	c := Case{
		Artifact: []byte("two rounds\nhello, world\n" + strings.Repeat("line\n", 20)), Other: []byte("two rounds\nhello, w0rld\n"), Name: "hello.txt",
		Params: format.Params{"note": "a note"}, Unsigned: []string{"Size"},
	}
	faults := map[string]string{
		"":                       "",
		"options not refused":    "are accepted",
		"reads backwards":        "plan reads",
		"plan not deterministic": "plans of the same bytes differ",
		"content not signed":     "changes Content and nothing that is signed",
		"clock in the message":   "assemble twice",
		"version not checked":    "later version",
		"last byte not covered":  "is accepted",
		"trusts whom it met":     "trust in somebody else",
	}
	if fault, ok := os.LookupEnv(spoiledVar); ok {
		c.Signer = Identity(t, sigalg.Ed25519)
		if fault == "clock in the message" {
			c.Unsigned = nil
		}
		Run(t, &spoiled{Format: TwoRounds(), fault: fault}, c)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for fault, says := range faults {
		cmd := exec.Command(self, "-test.run=^TestSuiteFinds$")
		cmd.Env = append(os.Environ(), spoiledVar+"="+fault)
		out, err := cmd.CombinedOutput()
		if (err != nil) != (fault != "") || !strings.Contains(string(out), says) {
			t.Errorf("fault %q: %v, and it should say %q:\n%s", fault, err, says, out)
		}
	}
}
