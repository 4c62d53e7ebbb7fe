package circle_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

func small() *circle.Bundle {
	return &circle.Bundle{Root: statement.IDOf([]byte("root")), Circles: []circle.Update{{Statement: []byte("s1"), Evidence: []byte("e1")}, {Statement: []byte("s2"), Evidence: []byte("circle 1 1\n")}},
		Freshness: &circle.Update{Statement: []byte("f"), Evidence: []byte("end\n")}}
}

func TestBundle(t *testing.T) {
	b, err := small().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := circle.ReadBundle(iotest.OneByteReader(bytes.NewReader(b)))
	if err != nil || !reflect.DeepEqual(got, small()) {
		t.Fatalf("%+v, %v", got, err)
	}
	head := string(b[:bytes.IndexByte(b, '\n')+1])
	for name, x := range map[string]string{
		"a byte more": string(b) + "\n", "nothing": "", "another word": strings.Replace(string(b), "greatseal", "Greatseal", 1), "no root": "greatseal circle bundle v1 \nend\n",
		"no parts": head + "end\n", "an unknown part": head + "anchor 1 1\nabend\n", "a zero": head + "circle 0 1\naend\n", "a number in another form": head + "circle 01 1\nabend\n",
		"a plus": head + "circle +1 1\nabend\n", "three sizes": head + "circle 1 1 1\nabend\n", "one size": head + "circle 1\nabend\n",
		"freshness first": head + "freshness 1 1\nabcircle 1 1\nabend\n", "freshness twice": head + "freshness 1 1\nabfreshness 1 1\nabend\n", "a return": strings.Replace(string(b), "end\n", "end\r\n", 1),
	} {
		if _, err := circle.ReadBundle(strings.NewReader(x)); rejection.Of(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range b {
		if _, err := circle.ReadBundle(bytes.NewReader(b[:i])); rejection.Of(err) == nil {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
	if _, err := circle.ReadBundle(iotest.ErrReader(iotest.ErrTimeout)); err == nil || rejection.Of(err) != nil {
		t.Errorf("a reader that fails: %v", err)
	}
	w := &failing{}
	if _, err := small().WriteTo(w); err == nil {
		t.Error("a writer that fails")
	}
}

type failing struct{}

func (*failing) Write([]byte) (int, error) { return 0, iotest.ErrTimeout }

func FuzzBundle(f *testing.F) {
	b, err := small().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := circle.ReadBundle(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again, err := x.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q re-encodes to %q, %v", b, again, err)
		}
	})
}

func state() *circle.State {
	return &circle.State{Time: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Sides: map[statement.ID]circle.Side{
		statement.IDOf([]byte("a")): {Circle: circle.Update{Statement: []byte("s"), Evidence: []byte("e")}, Freshness: &circle.Update{Statement: []byte("f"), Evidence: []byte("d")}},
		statement.IDOf([]byte("b")): {Circle: circle.Update{Statement: []byte("t"), Evidence: []byte("u")}},
	}}
}

func TestState(t *testing.T) {
	b, err := state().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := circle.DecodeState(b)
	if err != nil || !reflect.DeepEqual(got, state()) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := circle.DecodeState(b[:i]); err == nil {
			t.Errorf("cut after %d bytes", i)
		}
	}
	many := &circle.State{Sides: map[statement.ID]circle.Side{}}
	for i := range circle.MaxSides + 1 {
		many.Sides[statement.ID{byte(i + 1)}] = circle.Side{}
	}
	if _, err := many.Encode(); err == nil {
		t.Error("too many sides")
	}
	empty, err := (&circle.State{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := circle.DecodeState(empty); err != nil || !s.Time.IsZero() || len(s.Sides) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzState(f *testing.F) {
	b, err := state().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := circle.DecodeState(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

// What goes over the bundle is what comes out of it.
func TestOffline(t *testing.T) {
	s := circletest.New(t)
	var file bytes.Buffer
	if _, err := s.Bundle(s.Publish(), s.Publish()).WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	b, err := circle.ReadBundle(&file)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, &circletest.Memory{}, s)
	apply(t, c, b, s.Now)
	believed(t, c, s.Now)
}
