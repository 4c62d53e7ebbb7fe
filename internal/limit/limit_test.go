package limit_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/limit"
)

func TestRates(t *testing.T) {
	r, now := limit.NewRates(2, 3), time.Unix(1_800_000_000, 0)
	for range 3 {
		if r.Take("a", now) != 0 {
			t.Fatal("within the burst")
		}
	}
	if r.Take("a", now) != 1 || r.Take("b", now) != 0 {
		t.Error("a has used his up, b has not")
	}
	if r.Take("a", now.Add(time.Second)) != 0 {
		t.Error("a second later there are two again")
	}
	// However many names there are, those that have their burst again are forgotten
	// first.
	for i := range 1<<16 + 10 {
		r.Take(fmt.Sprint(i), now.Add(time.Hour))
	}
	if r.Take("a", now.Add(time.Hour)) != 0 {
		t.Error("nobody is kept out by others' names")
	}
}

func TestWaits(t *testing.T) {
	w := limit.NewWaits(3, 2)
	for i, x := range []struct {
		who string
		in  bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		if w.Enter(x.who) != x.in {
			t.Fatalf("%d, %s: two of one, three in all", i, x.who)
		}
	}
	w.Leave("a")
	if !w.Enter("c") {
		t.Error("a place is free")
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:99": "192.0.2.1", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[fe80::1%eth0]:1": "fe80::/64", "@": "local", "": "local", "name:1": "local",
	} {
		if got := limit.Address(&http.Request{RemoteAddr: in}); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
}
