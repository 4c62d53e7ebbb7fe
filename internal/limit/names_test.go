package limit

import (
	"strconv"
	"testing"
	"time"
)

// Looking through all names makes room for many more: somebody with as many names as
// there is room for, one of which has its burst again now and then, does not have them
// looked through at each call, while everybody else waits for the lock.
func TestForgettingMakesRoom(t *testing.T) {
	l, now := NewRates(1, 2), time.Unix(1_800_000_000, 0)
	l.Take("rested", now.Add(-time.Minute))
	for i := range maxNames - 1 {
		l.Take(strconv.Itoa(i), now)
	}
	if len(l.m) != maxNames {
		t.Fatalf("%d names", len(l.m))
	}
	l.Take("one more", now)
	if len(l.m) > maxNames/4*3+1 {
		t.Errorf("%d names are kept: the next call looks through them again", len(l.m))
	}
	// Where many have rested, those that have not keep what they have used.
	clear(l.m)
	for i := range maxNames / 2 {
		l.Take("old"+strconv.Itoa(i), now)
		l.Take("used"+strconv.Itoa(i), now.Add(time.Hour))
	}
	l.Take("another", now.Add(time.Hour))
	if n := len(l.m); n != maxNames/2+1 {
		t.Errorf("%d names", n)
	}
}
