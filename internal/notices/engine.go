package notices

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// The kinds of job. Each begins with Prefix.
const (
	Prefix    = "notice."
	KindPlan  = Prefix + "plan"   // a Desk's: whom to tell of an event
	kindAlert = Prefix + "alert"  // Payload: a letter for operators
	kindFold  = Prefix + "digest" // Ref: person/time
	kindMail  = Prefix + "mail"   // Ref: notice, as below
	kindChat  = Prefix + "chat."  // and the person
	kindPlace = Prefix + "channel."
)

// Store is what an engine keeps its notices in. [*store.SQL] is one.
type Store interface {
	store.Notices
	Jobs
	Enqueue(ctx context.Context, jobs ...store.Job) error
	Done(ctx context.Context, id int64) error
	Retry(ctx context.Context, id int64, at time.Time, cause string) error
}

// Channel is a place that several people read.
type Channel struct {
	*notify.Chat
	Events   []notify.Event // empty: all
	Policies []string       // empty: all, and what is under none
}

func (c *Channel) wants(e notify.Event, policy string) bool {
	return (len(c.Events) == 0 || slices.Contains(c.Events, e)) && (len(c.Policies) == 0 || slices.Contains(c.Policies, policy))
}

// Contact is how a person is reached, besides the charter's address.
type Contact struct {
	Mail string // in place of the charter's
	Chat *notify.Chat
}

// Config is what an Engine is made of.
type Config struct {
	Store      Store
	Mailer     *notify.Mailer // nil: no mail
	Sender     *notify.Sender // of chat
	Channels   []Channel
	People     map[string]Contact
	Operators  []string // who are told of agents' rejections and untrusted records
	Reminders  []config.Share
	Escalation []config.Escalation
	Defaults   Preferences
	URL        string // of the console; "": no links
	Clock      func() time.Time
	Logger     *slog.Logger      // nil: none
	Hook       func(step string) // nil: none; see [Steps]
}

// Steps lists the durable steps of a notice: before and after it is planned, before
// it is handed to its receiver, after the receiver has it, after that is kept, and
// before and after digests are folded.
func Steps() []string {
	return []string{"notice.plan", "notice.planned", "notice.hand", "notice.handed", "notice.kept", "notice.fold", "notice.folded"}
}

// Desk knows people and requests. A server of requests is one.
type Desk interface {
	// Contact returns the address of a person, who may have none; known says that
	// he may be told anything at all.
	Contact(person string) (mail string, known bool)
	// Waiting lists what waits for a person's endorsement, and how many more do.
	Waiting(ctx context.Context, person string) (list []notify.Item, more int, err error)
	// Plan posts what a job of the kind KindPlan is about.
	Plan(ctx context.Context, e *Engine, j store.Job) error
}

// Metrics are counters since the start.
type Metrics struct{ Sent, Failures, Unsure, GivenUp, Held, Dropped atomic.Int64 }

// Engine is one replica's. It is safe for concurrent use.
type Engine struct {
	c    Config
	kick chan struct{}

	Metrics Metrics
}

// New makes an engine.
func New(c Config) (*Engine, error) {
	if c.Store == nil || c.Clock == nil {
		return nil, errors.New("notices: a store and a clock are wanted")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	if c.Sender == nil {
		c.Sender = notify.NewSender()
	}
	if c.Reminders == nil {
		c.Reminders = config.DefaultReminders()
	}
	if err := c.Defaults.Check(); err != nil {
		return nil, err
	}
	return &Engine{c: c, kick: make(chan struct{}, 1)}, nil
}

func (e *Engine) now() time.Time { return e.c.Clock() }

// Reminders and Escalation are as configured.
func (e *Engine) Reminders() []config.Share { return e.c.Reminders }

// Escalation is whom to tell of what waits too long.
func (e *Engine) Escalation() []config.Escalation { return e.c.Escalation }

// Operators are those who are told of what is not a request.
func (e *Engine) Operators() []string { return e.c.Operators }

// Kick has the engine look at once for what is due.
func (e *Engine) Kick() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// Message is an event before it is known who is told how.
type Message struct {
	Key      string   // tells events of one kind about one request apart: "90%"
	People   []string // in any order, each once
	Places   []string // channels by name, whatever events they want
	Channels bool     // and all channels that want the event
	Urgent   bool     // goes into no digest
	Letter   notify.Letter
	Request  statement.ID // zero: of none
}

// ID of a notice.
func noticeID(event notify.Event, key string, request statement.ID, recipient, way string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "greatseal notice v1\x00%s\x00%s\x00%s\x00%s\x00%s", event, key, request, recipient, way))
	return hex.EncodeToString(h[:16])
}

// Post plans messages: whatever of them is new is kept with its jobs in one
// transaction.
func (e *Engine) Post(ctx context.Context, d Desk, list ...Message) error {
	now := e.now()
	var out []store.Notice
	var folds []store.Job
	for _, m := range list {
		for _, p := range m.People {
			pref, _, err := e.Preferences(ctx, p)
			if err != nil {
				return err
			}
			ns, fold, err := e.forPerson(d, &m, p, pref, now)
			if err != nil {
				return err
			}
			out = append(out, ns...)
			if fold != nil {
				folds = append(folds, *fold)
			}
		}
		policy := ""
		if m.Letter.Item != nil {
			policy = m.Letter.Item.Policy
		}
		for i := range e.c.Channels {
			c := &e.c.Channels[i]
			if !slices.Contains(m.Places, c.Name) && !(m.Channels && c.wants(m.Letter.Event, policy)) {
				continue
			}
			n, err := e.notice(&m, "", "channel:"+c.Name, kindPlace+c.Name, now, now)
			if err != nil {
				return err
			}
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil
	}
	e.c.Hook("notice.plan")
	if _, err := e.c.Store.PutNotices(ctx, out, folds...); err != nil {
		return err
	}
	e.c.Hook("notice.planned")
	e.Kick()
	return nil
}

// notice is one that waits for its job at due.
func (e *Engine) notice(m *Message, person, way, kind string, now, due time.Time) (store.Notice, error) {
	l := m.Letter
	l.ID, l.To, l.Time = noticeID(l.Event, m.Key, m.Request, person, way), person, now.UTC().Truncate(time.Second)
	b, err := l.Encode()
	if err != nil {
		return store.Notice{}, fmt.Errorf("notices: letter: %w", err)
	}
	n := store.Notice{ID: l.ID, Request: m.Request, Event: string(l.Event), Recipient: person, Way: way, State: store.NoticeWaiting, Letter: b, Created: now, Due: due}
	if kind != "" {
		n.Job = &store.Job{Kind: kind, Ref: n.ID, RunAt: due}
	}
	return n, nil
}

// contact is a person's address, and whether he may be told anything: people of the
// charter and operators may.
func (e *Engine) contact(d Desk, person string) (mail string, known bool) {
	if d != nil {
		mail, known = d.Contact(person)
	}
	if m := e.c.People[person].Mail; m != "" {
		mail = m
	}
	return mail, known || slices.Contains(e.c.Operators, person)
}

// reached lists the ways on which a person is reached now.
func (e *Engine) reached(d Desk, person string, pref Preferences) []string {
	mail, known := e.contact(d, person)
	c := e.c.People[person]
	wants := func(w string) bool { return len(pref.Ways) == 0 || slices.Contains(pref.Ways, w) }
	var out []string
	if known && mail != "" && e.c.Mailer != nil && wants("mail") {
		out = append(out, "mail")
	}
	if known && c.Chat != nil && wants("chat") {
		out = append(out, "chat")
	}
	return out
}

func kindOf(way, person string) string {
	if way == "chat" {
		return kindChat + person
	}
	return kindMail
}

// forPerson is what one person is told of m, or is to find in his digest.
func (e *Engine) forPerson(d Desk, m *Message, person string, pref Preferences, now time.Time) (out []store.Notice, fold *store.Job, err error) {
	ways := e.reached(d, person, pref)
	if len(ways) == 0 {
		n, err := e.notice(m, person, "none", "", now, now)
		n.State, n.Error = store.NoticeDropped, "there is no way to this person"
		return []store.Notice{n}, nil, err
	}
	if pref.Deliver != "immediate" && !m.Urgent {
		due := pref.after(pref.next(now))
		n, err := e.notice(m, person, "digest", "", now, due)
		n.State = store.NoticeHeld
		return []store.Notice{n}, &store.Job{Kind: kindFold, Ref: fmt.Sprintf("%s/%d", person, due.Unix()), RunAt: due}, err
	}
	due := pref.after(now)
	for _, w := range ways {
		n, err := e.notice(m, person, w, kindOf(w, person), now, due)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, n)
	}
	return out, nil, nil
}

// Alert is the job that tells operators of something that is about no request. id
// tells events apart. It may be enqueued with the change that it is about.
func Alert(event notify.Event, id, deployment string, at time.Time, facts ...notify.Fact) (store.Job, error) {
	l := notify.Letter{ID: id, Event: event, Deployment: deployment, Time: at.UTC().Truncate(time.Second), Facts: facts}
	b, err := l.Encode()
	return store.Job{Kind: kindAlert, Ref: string(event) + "/" + id, Payload: b, RunAt: at}, err
}

// Test sends a person a message on every way that he has chosen; at most one a
// minute, across replicas. It returns the ways; ErrNoWay when there is none.
func (e *Engine) Test(ctx context.Context, d Desk, person, deployment string) ([]string, error) {
	pref, _, err := e.Preferences(ctx, person)
	if err != nil {
		return nil, err
	}
	ways := e.reached(d, person, pref)
	if len(ways) == 0 {
		return nil, ErrNoWay
	}
	now := e.now()
	m := Message{Key: now.UTC().Truncate(time.Minute).Format(time.RFC3339), Letter: notify.Letter{Event: notify.Test, Deployment: deployment}}
	var list []store.Notice
	for _, w := range ways {
		n, err := e.notice(&m, person, w, kindOf(w, person), now, now)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	fresh, err := e.c.Store.PutNotices(ctx, list)
	if err == nil && fresh == 0 {
		err = ErrTooSoon
	}
	if err != nil {
		return nil, err
	}
	e.Kick()
	return ways, nil
}

// ErrNoWay says that a person has no address, or has switched all ways off.
var ErrNoWay = errors.New("notices: there is no way to this person")

// ErrTooSoon says that a test was sent less than a minute ago.
var ErrTooSoon = errors.New("notices: a test message was sent within this minute")

// Reached lists the ways on which a person is reached.
func (e *Engine) Reached(ctx context.Context, d Desk, person string) ([]string, error) {
	pref, _, err := e.Preferences(ctx, person)
	if err != nil {
		return nil, err
	}
	return e.reached(d, person, pref), nil
}

// Of lists who was told about a request, in the order of their making.
func (e *Engine) Of(ctx context.Context, request statement.ID) ([]store.Notice, error) {
	return e.c.Store.NoticesOf(ctx, request)
}

func (e *Engine) alert(ctx context.Context, d Desk, j store.Job) error {
	l, err := notify.DecodeLetter(j.Payload)
	if err != nil {
		return err
	}
	return e.Post(ctx, d, Message{Key: l.ID, People: e.c.Operators, Channels: true, Letter: *l})
}

// plan is the payload of a job of the kind KindPlan.
type plan struct {
	Event   notify.Event `json:"event"`
	Request string       `json:"request"`
	Key     string       `json:"key,omitzero"`
	Detail  string       `json:"detail,omitzero"`
	To      []string     `json:"to,omitzero"`
}

// Plan is what is to be told of a request.
type Plan struct {
	Event   notify.Event
	Request statement.ID
	Key     string // as Message.Key
	Detail  string
	To      []string // of escalations
}

// Job is the job that plans p at a time. It may be enqueued with the change that it
// is about.
func (p Plan) Job(at time.Time) (store.Job, error) {
	b, err := json.Marshal(plan{p.Event, p.Request.String(), p.Key, p.Detail, p.To}, json.Deterministic(true))
	ref := string(p.Event) + "/" + p.Request.String()
	if p.Key != "" {
		ref += "/" + p.Key
	}
	return store.Job{Kind: KindPlan, Ref: ref, Payload: b, RunAt: at}, err
}

// PlanOf reads what Job has written.
func PlanOf(j store.Job) (Plan, error) {
	var p plan
	if err := json.Unmarshal(j.Payload, &p, json.RejectUnknownMembers(true)); err != nil {
		return Plan{}, fmt.Errorf("notices: plan: %w", err)
	}
	id, err := statement.ParseID(p.Request)
	return Plan{p.Event, id, p.Key, p.Detail, p.To}, err
}

// person of a digest's job.
func personOf(ref string) string { return ref[:max(strings.LastIndexByte(ref, '/'), 0)] }
