package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// tellPeople adds to a change the jobs that find out whom to tell of it: finding
// out takes longer than whoever makes the change is to wait.
func (s *Server) tellPeople(c *store.Change, e notify.Event, r *store.Request, reason string) {
	if s.cfg.Notices == nil || e == notify.Reminder { // which people get by their own jobs
		return
	}
	add := func(at time.Time, p notices.Plan) {
		p.Request = r.ID
		j, err := p.Job(at)
		if err != nil {
			s.log.Error("notice", "request", r.ID, "error", err)
			return
		}
		c.Jobs = append(c.Jobs, j)
	}
	switch e {
	case notify.Unreachable:
		add(c.At, notices.Plan{Event: e, Key: fmt.Sprintf("r%d", r.Revision+1)})
		return
	case notify.Pending:
		for _, share := range s.cfg.Notices.Reminders() {
			if at, ok := share.At(c.At, r.Expires); ok {
				add(at, notices.Plan{Event: notify.Reminder, Key: share.String()})
			}
		}
		for i, x := range s.cfg.Notices.Escalation() {
			if at, ok := x.After.At(c.At, r.Expires); ok {
				add(at, notices.Plan{Event: notify.Escalated, Key: fmt.Sprintf("%d-%s", i, x.After), To: x.To})
			}
		}
		if r.Command == statement.CharterReplace {
			add(c.At, notices.Plan{Event: notify.Proposed})
		}
	}
	add(c.At, notices.Plan{Event: e, Detail: reason})
}

// tellUnreachable tells of a pending request whose quorum cannot be reached under
// the charter that has come into force.
func (s *Server) tellUnreachable(ctx context.Context, r *store.Request) error {
	if s.cfg.Notices == nil || s.unreachable(r) == "" {
		return nil
	}
	j, err := notices.Plan{Event: notify.Unreachable, Request: r.ID, Key: fmt.Sprintf("v%d", s.Charter().Version)}.Job(s.now())
	if err != nil {
		return err
	}
	return s.cfg.Store.Enqueue(ctx, j)
}

// Contact implements notices.Desk: people of the charter are told, at the address
// that stands there.
func (s *Server) Contact(person string) (mail string, known bool) {
	p, ok := s.Charter().People[person]
	return p.Email, ok
}

// maxWaiting is how many requests a digest counts.
const maxWaiting = 200

// Waiting implements notices.Desk.
func (s *Server) Waiting(ctx context.Context, person string) (out []notify.Item, more int, err error) {
	list, _, err := s.InboxPage(ctx, person, nil, maxWaiting)
	if err != nil {
		return nil, 0, err
	}
	for _, r := range list {
		i, err := s.item(ctx, r)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, *i)
	}
	return out, 0, nil
}

// maxNamed is how many files a request may have for a notice to name some.
const maxNamed = 64

// item is a request as notices describe it.
func (s *Server) item(ctx context.Context, r *store.Request) (*notify.Item, error) {
	env, err := statement.DecodeEnvelope(r.Envelope)
	if err != nil {
		return nil, fmt.Errorf("server: request %s was altered in the database", r.ID)
	}
	req, err := statement.Decode[statement.Request](env.Payload)
	if err != nil {
		return nil, fmt.Errorf("server: request %s was altered in the database: %w", r.ID, err)
	}
	i := &notify.Item{Request: r.ID.String(), Command: string(r.Command), Policy: r.Policy, Key: r.Key, Requester: r.Requester,
		Count: r.Count, Expires: r.Expires.UTC(), State: string(r.State), Reason: notify.Line(req.Reason, 500)}
	if r.Count > 0 && r.Count <= maxNamed {
		files, err := s.cfg.Store.Files(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		for _, f := range files[:min(len(files), 4)] { // of which three are shown
			i.Names = append(i.Names, notify.Line(f.Name, 200))
		}
	}
	return i, nil
}

// maxVoices is how many endorsements a notice tells of: the last ones.
const maxVoices = 8

func voices(r *store.Request, only ...statement.Verdict) []notify.Voice {
	var out []notify.Voice
	for _, e := range r.Endorsements {
		env, err := statement.DecodeEnvelope(e.Envelope)
		if err != nil {
			continue
		}
		x, err := statement.Decode[statement.Endorsement](env.Payload)
		if err != nil || !slices.Contains(only, x.Verdict) {
			continue
		}
		out = append(out, notify.Voice{Name: x.Endorser, Verdict: string(x.Verdict), Comment: notify.Line(x.Comment, 500)})
	}
	return out[max(0, len(out)-maxVoices):]
}

// Plan implements notices.Desk.
func (s *Server) Plan(ctx context.Context, e *notices.Engine, j store.Job) error {
	p, err := notices.PlanOf(j)
	if err != nil {
		return err
	}
	r, err := s.cfg.Store.Request(ctx, p.Request)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	head := s.Charter()
	item, err := s.item(ctx, r)
	if err != nil {
		return err
	}
	m := notices.Message{Key: p.Key, Request: r.ID, Channels: true,
		Letter: notify.Letter{Event: p.Event, Deployment: head.Deployment, Item: item, Detail: notify.Line(p.Detail, 500)}}
	requester := person(head, r.Requester)
	switch p.Event {
	case notify.Pending, notify.Reminder, notify.Escalated, notify.Proposed, notify.Unreachable:
		if r.State != store.Pending || !s.now().Before(r.Expires) {
			return nil // it was answered meanwhile
		}
		m.Letter.Awaits = people(head, s.awaits(r))
	}
	both := []statement.Verdict{statement.Endorse, statement.Disapprove}
	switch p.Event {
	case notify.Pending, notify.Reminder:
		m.People = m.Letter.Awaits
		m.Letter.Voices = voices(r, both...)
		if why := s.unreachable(r); why != "" {
			return e.Post(ctx, s, m, s.cannot(head, m, requester, why))
		}
	case notify.Escalated:
		m.Channels, m.Urgent = false, true
		m.Letter.Voices = voices(r, both...)
		m.People, m.Places = targets(head, p.To)
		// Whoever is awaited is reminded anyway, and whoever has spoken has done his part.
		m.People = slices.DeleteFunc(m.People, func(n string) bool { return n == requester })
	case notify.Proposed:
		m.People = slices.DeleteFunc(Officers(head), func(n string) bool { return n == requester || slices.Contains(m.Letter.Awaits, n) })
	case notify.Unreachable:
		why := s.unreachable(r)
		if why == "" {
			return nil
		}
		m = s.cannot(head, m, requester, why)
	default:
		m.People = s.audience(ctx, e, head, r, requester)
		if p.Event == notify.Disapproved {
			m.Letter.Voices = voices(r, statement.Disapprove)
		}
	}
	return e.Post(ctx, s, m)
}

// cannot is the message that a quorum cannot be reached, once for each reason.
func (s *Server) cannot(head *charter.Charter, m notices.Message, requester, why string) notices.Message {
	sum := sha256.Sum256([]byte(why))
	m.Key, m.Channels, m.Places, m.Urgent = fmt.Sprintf("%x", sum[:8]), true, nil, true
	m.People = union([]string{requester}, Officers(head))
	l := m.Letter
	l.Event, l.Detail, l.Voices = notify.Unreachable, notify.Line(why, 500), nil
	m.Letter = l
	return m
}

// audience are those who are told what became of r: its requester, and of those who
// have spoken the ones who want to know.
func (s *Server) audience(ctx context.Context, e *notices.Engine, head *charter.Charter, r *store.Request, requester string) []string {
	out := union([]string{requester})
	for _, x := range r.Endorsements {
		name := person(head, x.Endorser)
		if name == "" || slices.Contains(out, name) {
			continue
		}
		if p, _, err := e.Preferences(ctx, name); err == nil && p.Outcomes {
			out = append(out, name)
		}
	}
	return out
}

// person is the person whom a name counts as, or "".
func person(head *charter.Charter, name string) string {
	name = owner(head, name)
	if _, ok := head.People[name]; ok {
		return name
	}
	return ""
}

func people(head *charter.Charter, names []string) []string {
	var out []string
	for _, n := range names {
		if _, ok := head.People[n]; ok {
			out = append(out, n)
		}
	}
	return out
}

// union is every name once, without "".
func union(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		for _, n := range l {
			if n != "" && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// targets are the people and channels of an escalation.
func targets(head *charter.Charter, to []string) (persons, places []string) {
	for _, t := range to {
		kind, name, _ := strings.Cut(t, ":")
		switch kind {
		case "person":
			persons = union(persons, people(head, []string{name}))
		case "group":
			persons = union(persons, people(head, head.Members(name)))
		case "channel":
			places = union(places, []string{name})
		}
	}
	return persons, places
}

// Officers are the people who may ask for or endorse commands other than signing.
func Officers(head *charter.Charter) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(head.Commands)) {
		rule := head.Commands[name]
		out = union(out, people(head, head.Requesters(rule)))
		if rule.Quorum == nil {
			continue
		}
		for _, n := range rule.Quorum.Leaves() {
			out = union(out, people(head, head.Members(n.Name())))
		}
	}
	slices.Sort(out)
	return out
}

// Told lists who was told about a request; none where nobody is told anything.
func (s *Server) Told(ctx context.Context, id statement.ID) ([]store.Notice, error) {
	if s.cfg.Notices == nil {
		return nil, nil
	}
	return s.cfg.Notices.Of(ctx, id)
}

// Notices is what tells people; nil where nobody is told anything.
func (s *Server) Notices() *notices.Engine { return s.cfg.Notices }

// CheckEscalation refuses escalations to people and groups that the charter in force
// does not have.
func (s *Server) CheckEscalation(list []config.Escalation) error {
	head := s.Charter()
	for _, x := range list {
		for _, t := range x.To {
			kind, name, _ := strings.Cut(t, ":")
			_, group := head.Groups[name]
			_, known := head.People[name]
			if kind == "group" && !group || kind == "person" && !known {
				return fmt.Errorf("server: escalation to %s: the charter does not have it", t)
			}
		}
	}
	return nil
}

// MayReadTold reports whether somebody may see who was told about r: its requester,
// the owner of the machine that is, and officers.
func (s *Server) MayReadTold(r *store.Request, who string) bool {
	head := s.Charter()
	return who != "" && (who == r.Requester || who == owner(head, r.Requester) || slices.Contains(Officers(head), who))
}
