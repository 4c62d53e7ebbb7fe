package api

import (
	"time"

	"github.com/greatseal-io/greatseal/internal/limit"
)

// limiters are rate limits by name.
type limiters struct{ *limit.Rates }

func (l *limiters) init(perSecond float64, burst int) { l.Rates = limit.NewRates(perSecond, burst) }

// take takes one call from name's allowance, or says when there is one again.
func (l *limiters) take(name string, now time.Time) *problem {
	wait := l.Take(name, now)
	if wait == 0 {
		return nil
	}
	return &problem{Status: 429, Code: "too-many-requests", Detail: "too many calls", Hint: "wait a little", retry: wait}
}
