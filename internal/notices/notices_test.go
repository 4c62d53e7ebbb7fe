package notices_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/statement"
)

// From the request to its end: those who can act are asked, those who are missing are
// reminded, others are told when time runs, and the requester of the end.
func TestLife(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", func(c *notices.Config) {
		c.Reminders = []config.Share{share(t, "50%"), share(t, "90%")}
		c.Escalation = []config.Escalation{{After: share(t, "20h"), To: []string{"person:ann", "group:officers", "channel:ops"}}}
	})
	env, id := p.submit(t, "a", "release", func(r *statement.Request) { r.Reason = "for @channel, see https://evil.example" })
	p.told(t, "endorsement wanted", "bob", "carol", "dave")
	until(t, "the channel", func() bool { return len(p.chat.got()) == 1 })
	if s := p.chat.got()[0]; strings.Contains(s, "@channel") || strings.Contains(s, "https://evil") || !strings.Contains(s, "https://sign.acme.example/console/requests/"+id.String()) {
		t.Errorf("channel: %s", s)
	}
	p.say(t, statement.Endorse, "bob", env)
	p.Pass(12*time.Hour + time.Minute)
	p.told(t, "still waits", "carol", "dave")
	p.Pass(8 * time.Hour)
	p.told(t, "waits too long", "ann", "bob", "carol", "dave")
	p.Pass(2 * time.Hour)
	p.told(t, "still waits", "carol", "carol", "dave", "dave")
	p.say(t, statement.Endorse, "carol", env)
	p.Until(p.s, id, store.Executed)
	p.told(t, "executed", "alice")
	p.Pass(3 * time.Hour)
	p.quiet(t)
	if got := p.mails(t, ""); len(got) != 3+2+4+2+1 {
		t.Errorf("%d mails: %v", len(got), got)
	}
	list, err := p.e.Of(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, n := range list {
		if n.State == store.NoticeSent && n.Way == "mail" {
			sent++
		} else if n.State != store.NoticeSent {
			t.Errorf("%s to %s: %s %s", n.Event, n.Recipient, n.State, n.Error)
		}
	}
	if sent != 12 {
		t.Errorf("%d are noted as sent", sent)
	}
	if !p.s.MayReadTold(&store.Request{Requester: "alice"}, "alice") || !p.s.MayReadTold(&store.Request{Requester: "alice"}, "bob") || p.s.MayReadTold(&store.Request{Requester: "alice"}, "ann") {
		t.Error("who may read whom the server has told")
	}
}

// Whoever has been answered meanwhile is not reminded; who has disapproved and why is
// told; whoever has spoken learns the outcome if he wants to.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", nil)
	pref := defaults
	pref.Outcomes = true
	if err := p.e.SetPreferences(t.Context(), "bob", pref); err != nil {
		t.Fatal(err)
	}
	env, id := p.submit(t, "a", "release")
	p.told(t, "endorsement wanted", "bob", "carol", "dave")
	p.say(t, statement.Endorse, "bob", env)
	p.say(t, statement.Disapprove, "carol", env, func(e *statement.Endorsement) { e.Comment = "wrong branch <b>" })
	p.told(t, ": sign under release, 1 file, request "+id.String()[:12], slices.Sorted(slices.Values([]string{"alice", "bob", "bob", "carol", "dave"}))...)
	for _, m := range p.mail.Mails() {
		if m.To[0] != "alice@acme.example" {
			continue
		}
		_, parts := m.Parse(t)
		if !strings.Contains(parts["text/plain"], "Disapproved by: carol: “wrong branch <b>”") || strings.Contains(parts["text/html"], "<b>") {
			t.Errorf("%v", parts)
		}
	}
	p.Pass(23 * time.Hour)
	p.quiet(t)
	if got := p.mails(t, "still waits"); len(got) != 0 {
		t.Errorf("reminded of what is over: %v", got)
	}
	_, id = p.submit(t, "b", "release")
	p.told(t, "request "+id.String()[:12], "bob", "carol", "dave")
	p.Pass(25 * time.Hour)
	p.Until(p.s, id, store.Expired)
	p.told(t, "] expired", "alice")
}

// A quorum that cannot be reached is told of once for each reason.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", nil, func(c *charter.Charter) {
		x := c.Policies["release"]
		x.Rule.Veto = nil
		c.Policies["release"] = x
	})
	env, _ := p.submit(t, "a", "release")
	p.told(t, "endorsement wanted", "bob", "carol", "dave")
	p.say(t, statement.Disapprove, "bob", env, func(e *statement.Endorsement) { e.Comment = "first" })
	p.quiet(t)
	if got := p.mails(t, "cannot reach"); len(got) != 0 {
		t.Errorf("two can still agree, and %v are told that nobody can", got)
	}
	p.say(t, statement.Disapprove, "carol", env)
	p.told(t, "cannot reach", "alice", "bob", "carol", "dave")
	p.say(t, statement.Endorse, "dave", env) // changes nothing of it
	p.quiet(t)
	p.told(t, "cannot reach", "alice", "bob", "carol", "dave")
	p.say(t, statement.Disapprove, "dave", env)
	p.told(t, "cannot reach", slices.Sorted(slices.Values(slices.Repeat([]string{"alice", "bob", "carol", "dave"}, 2)))...)
}

// A digest is one mail that lists what waits then, and not what was answered before.
func TestDigest(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", nil)
	pref := defaults
	pref.Deliver, pref.Outcomes = "hourly", true
	for _, n := range []string{"bob", "alice"} {
		if err := p.e.SetPreferences(t.Context(), n, pref); err != nil {
			t.Fatal(err)
		}
	}
	var envs [][]byte
	for _, n := range []string{"a", "b", "c"} {
		env, _ := p.submit(t, n, "single")
		envs = append(envs, env)
	}
	p.told(t, "endorsement wanted", "carol", "carol", "carol", "dave", "dave", "dave")
	p.say(t, statement.Endorse, "carol", envs[0])
	p.Until(p.s, p.ID(envs[0]), store.Executed)
	p.quiet(t)
	if got := p.mails(t, ""); len(got) != 6 {
		t.Errorf("before the hour: %v", got)
	}
	p.Pass(time.Hour)
	p.told(t, "2 requests wait for you", "bob")
	p.told(t, "what became of requests", "alice")
	for _, m := range p.mail.Mails() {
		if m.To[0] != "bob@acme.example" {
			continue
		}
		_, parts := m.Parse(t)
		if text := parts["text/plain"]; strings.Count(text, "single") != 2 || strings.Contains(text, p.ID(envs[0]).String()[:12]) || !strings.Contains(text, p.ID(envs[2]).String()) {
			t.Errorf("digest:\n%s", text)
		}
	}
	p.Pass(time.Hour)
	p.quiet(t)
	if got := p.mails(t, ""); len(got) != 8 {
		t.Errorf("another hour, in which nothing happened: %v", got)
	}
}

// Invariant 5: who is no longer in the charter, or never was, is told nothing; what is
// about no request goes to operators.
func TestOperators(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", nil)
	j, err := notices.Alert(notify.Rejected, "r1", "prod", p.Now(), notify.Fact{Name: "Agent", Value: "web-1\r\nBcc: x"}, notify.Fact{Name: "Code", Value: "signature-invalid"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.st.Enqueue(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		p.told(t, "an agent refused a job", "dave")
	}
	err = p.e.Post(t.Context(), p.s, notices.Message{Key: "x", People: []string{"mallory", "gate", "xena"}, Letter: notify.Letter{Event: notify.Test, Deployment: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	p.told(t, "test message", "xena")
}

// Invariant 3: one that hangs and one that is away hold up nobody.
func TestLanes(t *testing.T) {
	t.Parallel()
	slow, away := newChannel(t), newChannel(t)
	slow.hang = make(chan struct{})
	defer close(slow.hang)
	p := newPost(t, "", func(c *notices.Config) {
		c.Channels = append([]notices.Channel{{Chat: slow.chat(t, "slow")}, {Chat: away.chat(t, "away")}}, c.Channels...)
	})
	away.Close()
	for i := range 12 {
		p.submit(t, string(rune('a'+i)), "release")
	}
	until(t, "the others", func() bool { return len(p.mail.Mails()) == 36 && len(p.chat.got()) == 12 })
	if n := len(slow.got()); n > 4 {
		t.Errorf("%d at a time for a receiver that hangs", n)
	}
}

// A mail server that is away for an hour gets each mail once.
func TestAway(t *testing.T) {
	t.Parallel()
	mail := notifytest.Start(t, "starttls")
	g := newGate(t, mail.Port)
	g.set(true)
	p := newPost(t, "", func(c *notices.Config) {
		m, err := notify.NewMailer(notify.SMTP{Host: "localhost", Port: port(g), From: "seal@acme.example", TLS: "starttls", Roots: mail.Roots})
		if err != nil {
			t.Fatal(err)
		}
		c.Mailer = m
	})
	_, id := p.submit(t, "a", "release")
	tried := func(n int) {
		until(t, "attempts", func() bool {
			list, err := p.e.Of(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			done := 0
			for _, x := range list {
				if x.Way == "mail" && x.Attempts >= n && x.State == store.NoticeWaiting {
					done++
				}
			}
			return done == 3
		})
	}
	for i := range 4 {
		tried(i + 1)
		p.Pass(15 * time.Minute)
	}
	g.set(false)
	p.Pass(time.Hour)
	mail.Wait(3)
	p.quiet(t)
	if got := mail.Mails(); len(got) != 3 {
		t.Errorf("%d mails", len(got))
	}
}

// Answers of a mail server: refused for good is given up at once, a connection that
// falls after the text is tried once more with the same Message-ID.
func TestAnswers(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", nil)
	states := func(id statement.ID) (out []store.NoticeState) {
		list, err := p.e.Of(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			if n.Way == "mail" {
				out = append(out, n.State)
			}
		}
		return out
	}
	all := func(id statement.ID, want store.NoticeState) {
		t.Helper()
		until(t, string(want), func() bool {
			s := states(id)
			return len(s) == 3 && !slices.ContainsFunc(s, func(x store.NoticeState) bool { return x != want })
		})
	}
	p.mail.Say("rcpt 550 no such user")
	_, id := p.submit(t, "a", "release")
	all(id, store.NoticeFailed)
	p.mail.Say("drop")
	_, id = p.submit(t, "b", "release")
	p.mail.Wait(3)
	all(id, store.NoticeWaiting)
	p.Pass(time.Minute)
	all(id, store.NoticeUnsure)
	seen := map[string]int{}
	for _, m := range p.mail.Mails() {
		h, _ := m.Parse(t)
		seen[h.Get("Message-Id")]++
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
	for k, n := range seen {
		if n != 2 {
			t.Errorf("%s came %d times", k, n)
		}
	}
	p.mail.Say("ok")
	p.Pass(24 * time.Hour)
	p.quiet(t)
	for _, m := range p.mail.Mails()[6:] {
		if h, _ := m.Parse(t); seen[h.Get("Message-Id")] > 0 {
			t.Error("what was unsure twice is sent a third time")
		}
	}
}

// Invariants 1 and 2: several replicas on one database send everything once.
func TestReplicas(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	p := newPost(t, pg.Database(), nil)
	p.replica(t, nil)
	p.replica(t, nil)
	const n = 12
	for i := range n {
		p.submit(t, string(rune('a'+i)), "release")
	}
	p.mail.Wait(3 * n)
	until(t, "the channel", func() bool { return len(p.chat.got()) >= n })
	p.done(t)
	p.Pass(12*time.Hour + time.Minute) // reminders, which every replica could plan
	p.mail.Wait(6 * n)
	until(t, "the channel", func() bool { return len(p.chat.got()) >= 2*n })
	p.done(t)
	seen := map[string]bool{}
	for _, m := range p.mail.Mails() {
		h, _ := m.Parse(t)
		if seen[h.Get("Message-Id")] {
			t.Errorf("%s came twice", h.Get("Message-Id"))
		}
		seen[h.Get("Message-Id")] = true
	}
	if len(seen) != 6*n || len(p.chat.got()) != 2*n {
		t.Errorf("%d mails, %d in the channel", len(seen), len(p.chat.got()))
	}
}

// A charter that is proposed is told to the officers who are not asked.
func TestProposed(t *testing.T) {
	t.Parallel()
	p := newPost(t, "", nil)
	next := *p.Charter
	next.Version, next.Previous = 2, p.Pin
	payload, err := charter.Encode(&next)
	if err != nil {
		t.Fatal(err)
	}
	env := p.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
	if _, _, err := p.s.Submit(t.Context(), env, nil); err != nil {
		t.Fatal(err)
	}
	p.told(t, "endorsement wanted", "carol", "dave")
	until(t, "the channel", func() bool { return len(p.chat.got()) == 2 })
	if s := strings.Join(p.chat.got(), "\n"); !strings.Contains(s, "another charter is proposed") {
		t.Errorf("%s", s)
	}
}
