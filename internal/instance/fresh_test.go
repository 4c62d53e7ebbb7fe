package instance

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// Where nobody signs freshness, requests do not pile up: a policy that wants people is
// never asked, and a keeper that is away finds one request.
func TestFreshnessIsAskedForOnce(t *testing.T) {
	w := servertest.New(t, func(c *charter.Charter) {
		c.Records = &charter.Records{Instance: circletest.Trusted, Configurations: circletest.Configurations()}
		for name, rule := range map[string]charter.Rule{
			"people": {Requesters: []string{"builds"}, Quorum: &charter.Node{Need: 2, Group: "officers"}},
			"fresh":  {Requesters: []string{"builds"}, Unattended: true},
		} {
			c.Policies[name] = charter.Policy{Key: "release", Formats: []string{"circle"}, Purposes: []string{record.Freshness}, Rule: rule}
		}
	})
	w.Config.Formats = append(servertest.Formats(), circleformat.New())
	w.RestartKeeper()
	db := w.Store("")
	s, stop := w.Server(db, func(c *server.Config) { c.Formats = w.Config.Formats })
	stop() // nothing is executed
	open := func(policy string) *Instance {
		return &Instance{c: Config{Server: s, Root: w.Pin, Clock: w.Now, Config: &config.Instance{Freshness: &config.Freshness{Policy: policy}}},
			office: &records.Office{Server: s, Author: &author.Author{Name: "ci", Signer: servertest.Signer("ci"), Now: w.Now, Rand: rand.Reader}}}
	}
	requests := func() int {
		t.Helper()
		l, err := db.Requests(t.Context(), store.Filter{})
		must(t, err)
		return len(l)
	}
	of := &circle.Status{Deployment: "acme", Version: 1, ID: statement.ID{1}}
	if err := open("people").Refresh(t.Context(), of, statement.Seconds(w.Now()), time.Hour); err == nil || !strings.Contains(err.Error(), "not unattended") || requests() != 0 {
		t.Fatalf("%v, %d requests", err, requests())
	}
	if err := open("none").Refresh(t.Context(), of, statement.Seconds(w.Now()), time.Hour); err == nil || requests() != 0 {
		t.Fatalf("%v, %d requests", err, requests())
	}
	i := open("fresh")
	for n, x := range []struct {
		pass time.Duration
		want int
	}{{0, 1}, {time.Minute, 1}, {30 * time.Minute, 1}, {time.Hour, 2}} {
		w.Pass(x.pass)
		// Nobody writes the log: it waits for as long as it may.
		refresh := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			return i.Refresh(ctx, of, statement.Seconds(w.Now()), time.Hour)
		}
		err := refresh()
		for end := time.Now().Add(time.Minute); err != nil && requests() < x.want && time.Now().Before(end); { // a busy machine submits none in so short a time
			err = refresh()
		}
		if err == nil || requests() != x.want {
			t.Fatalf("%d: %v, %d requests: want %d", n, err, requests(), x.want)
		}
	}
}
