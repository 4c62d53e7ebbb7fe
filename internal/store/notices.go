package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// NoticeState is where a notice is.
type NoticeState string

// The states of a notice. All but the first three are final.
const (
	NoticeWaiting NoticeState = "waiting" // for its job
	NoticeHeld    NoticeState = "held"    // for its recipient's digest
	NoticeSending NoticeState = "sending" // with the receiver, or may be
	NoticeSent    NoticeState = "sent"    // the receiver has taken it
	NoticeFailed  NoticeState = "failed"  // given up
	NoticeUnsure  NoticeState = "unsure"  // handed over twice without an answer
	NoticeFolded  NoticeState = "digest"  // Digest says in which
	NoticeDropped NoticeState = "dropped" // nobody to tell, or nothing left to say
)

// Notice is one message to one recipient on one way. Letter is what it says; the
// store knows nothing of it.
type Notice struct {
	ID        string       // of event, request, recipient and way
	Request   statement.ID // zero: of none
	Event     string
	Recipient string // person, or ""
	Way       string // "mail", "chat", "channel:NAME"
	State     NoticeState
	Attempts  int
	Unsure    int // attempts that ended without an answer
	Error     string
	Digest    string // ID of the notice that holds this one's text
	Letter    []byte
	Created   time.Time
	Due       time.Time
	Updated   time.Time

	Job *Job // PutNotices enqueues it with a notice that is new
}

// Notices keeps what people are told. [*SQL] does.
type Notices interface {
	// PutNotices adds those whose ID is new, each with its job, and the other jobs,
	// in one transaction. It returns how many were new.
	PutNotices(ctx context.Context, list []Notice, jobs ...Job) (int, error)
	// Notice returns one notice; ErrNotFound.
	Notice(ctx context.Context, id string) (*Notice, error)
	// NoticesOf lists those about a request in the order of their making.
	NoticesOf(ctx context.Context, request statement.ID) ([]Notice, error)
	// StepNotice sets State, Attempts, Unsure, Error and Updated of a notice that
	// is in the state from and has had n attempts. ErrConflict: somebody was faster.
	StepNotice(ctx context.Context, n *Notice, from NoticeState, attempts int) error
	// HeldNotices lists up to limit held ones of a person that are due at t.
	HeldNotices(ctx context.Context, person string, t time.Time, limit int) ([]Notice, error)
	// FoldNotices adds the digests, as PutNotices does, and sets held ones to state
	// with the first digest's ID, in one transaction.
	FoldNotices(ctx context.Context, digests []Notice, held []string, state NoticeState, now time.Time) error
	// NoticePreferences returns what SetNoticePreferences kept for a person; ErrNotFound.
	NoticePreferences(ctx context.Context, person string) ([]byte, error)
	SetNoticePreferences(ctx context.Context, person string, data []byte, now time.Time) error
	// DueKinds lists the kinds with a prefix of which a job is due at t.
	DueKinds(ctx context.Context, prefix string, t time.Time) ([]string, error)
}

var _ Notices = (*SQL)(nil)

const noticeColumns = `id, request, event, recipient, way, state, attempts, unsure, error, digest, letter, created, due, updated`

func scanNotice(r scanner) (Notice, error) {
	var n Notice
	var state string
	var request []byte
	var attempts, unsure, created, due, updated int64
	err := r.Scan(&n.ID, &request, &n.Event, &n.Recipient, &n.Way, &state, &attempts, &unsure, &n.Error, &n.Digest, &n.Letter, &created, &due, &updated)
	copy(n.Request[:], request)
	n.State, n.Attempts, n.Unsure = NoticeState(state), int(attempts), int(unsure)
	n.Created, n.Due, n.Updated = at(created), at(due), at(updated)
	return n, err
}

func requestOf(n *Notice) []byte {
	if n.Request == (statement.ID{}) {
		return []byte{}
	}
	return n.Request[:]
}

const enqueueOnce = enqueueJob + ` ON CONFLICT DO NOTHING`

func jobArgs(j *Job) []any { return []any{j.Kind, j.Ref, blob(j.Payload), ms(j.RunAt)} }

// putNotices adds those that are new with their jobs.
func putNotices(ctx context.Context, t tx, list []Notice) (int, error) {
	if len(list) == 0 {
		return 0, nil
	}
	ss := make([]stmt, len(list))
	for i := range list {
		n := &list[i]
		ss[i] = stmt{`INSERT INTO notices (` + noticeColumns + `) VALUES (` + marks(0, 14) + `) ON CONFLICT DO NOTHING`,
			[]any{n.ID, requestOf(n), n.Event, n.Recipient, n.Way, string(n.State), int64(0), int64(0), text(n.Error), n.Digest, blob(n.Letter), ms(n.Created), ms(n.Due), ms(n.Created)}}
	}
	changed, err := t.run(ctx, ss)
	if err != nil {
		return 0, err
	}
	fresh := 0
	ss = ss[:0]
	for i, c := range changed {
		if c == 0 {
			continue
		}
		fresh++
		if j := list[i].Job; j != nil {
			ss = append(ss, stmt{enqueueOnce, jobArgs(j)})
		}
	}
	if len(ss) > 0 {
		_, err = t.run(ctx, ss)
	}
	return fresh, err
}

// PutNotices adds notices that are new.
func (s *SQL) PutNotices(ctx context.Context, list []Notice, jobs ...Job) (fresh int, err error) {
	err = s.inTx(ctx, func(t tx) error {
		var err error
		if fresh, err = putNotices(ctx, t, list); err != nil || len(jobs) == 0 {
			return err
		}
		var ss []stmt
		for i := range jobs {
			ss = append(ss, stmt{enqueueOnce, jobArgs(&jobs[i])})
		}
		_, err = t.run(ctx, ss)
		return err
	})
	return fresh, s.wrap(err)
}

// Notice returns one notice.
func (s *SQL) Notice(ctx context.Context, id string) (*Notice, error) {
	n, err := scanNotice(s.read.QueryRowContext(ctx, `SELECT `+noticeColumns+` FROM notices WHERE id = $1`, id))
	if err != nil {
		return nil, s.wrap(err)
	}
	return &n, nil
}

// NoticesOf lists the notices about a request.
func (s *SQL) NoticesOf(ctx context.Context, request statement.ID) ([]Notice, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+noticeColumns+` FROM notices WHERE request = $1 ORDER BY created, id LIMIT 10000`, request[:])
	out, err := collect(rows, err, scanNotice)
	return out, s.wrap(err)
}

// StepNotice moves a notice on.
func (s *SQL) StepNotice(ctx context.Context, n *Notice, from NoticeState, attempts int) error {
	changed, err := s.exec(ctx, `UPDATE notices SET state = $1, attempts = $2, unsure = $3, error = $4, updated = $5 WHERE id = $6 AND state = $7 AND attempts = $8`,
		string(n.State), int64(n.Attempts), int64(n.Unsure), text(n.Error), ms(n.Updated), n.ID, string(from), int64(attempts))
	if err == nil && changed == 0 {
		err = ErrConflict
	}
	return err
}

// HeldNotices lists what a person's digest is to hold.
func (s *SQL) HeldNotices(ctx context.Context, person string, t time.Time, limit int) ([]Notice, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+noticeColumns+` FROM notices WHERE recipient = $1 AND state = 'held' AND due <= $2 ORDER BY created, id LIMIT $3`, person, ms(t), int64(limit))
	out, err := collect(rows, err, scanNotice)
	return out, s.wrap(err)
}

// FoldNotices puts held notices into digests.
func (s *SQL) FoldNotices(ctx context.Context, digests []Notice, held []string, state NoticeState, now time.Time) error {
	err := s.inTx(ctx, func(t tx) error {
		if _, err := putNotices(ctx, t, digests); err != nil {
			return err
		}
		digest := ""
		if len(digests) > 0 {
			digest = digests[0].ID
		}
		ss := make([]stmt, len(held))
		for i, id := range held {
			ss[i] = stmt{`UPDATE notices SET state = $1, digest = $2, updated = $3 WHERE id = $4 AND state = 'held'`, []any{string(state), digest, ms(now), id}}
		}
		if len(ss) == 0 {
			return nil
		}
		changed, err := t.run(ctx, ss)
		if err != nil {
			return err
		}
		for _, c := range changed {
			if c == 0 { // another replica has folded it: its digest is the one
				return ErrConflict
			}
		}
		return nil
	})
	return s.wrap(err)
}

// NoticePreferences returns how a person wants to be told.
func (s *SQL) NoticePreferences(ctx context.Context, person string) ([]byte, error) {
	var b []byte
	err := s.read.QueryRowContext(ctx, `SELECT data FROM notice_preferences WHERE person = $1`, person).Scan(&b)
	return b, s.wrap(err)
}

// SetNoticePreferences keeps how a person wants to be told.
func (s *SQL) SetNoticePreferences(ctx context.Context, person string, data []byte, now time.Time) error {
	_, err := s.exec(ctx, `INSERT INTO notice_preferences (person, data, updated) VALUES ($1, $2, $3)
		ON CONFLICT (person) DO UPDATE SET data = excluded.data, updated = excluded.updated`, person, blob(data), ms(now))
	return err
}

// DueKinds lists kinds of jobs that are due.
func (s *SQL) DueKinds(ctx context.Context, prefix string, t time.Time) ([]string, error) {
	if strings.ContainsAny(prefix, "%_\\") {
		return nil, fmt.Errorf("store: kind %q: no such prefix", prefix)
	}
	rows, err := s.read.QueryContext(ctx, `SELECT DISTINCT kind FROM jobs WHERE run_at <= $1 AND kind LIKE $2`, ms(t), prefix+"%")
	out, err := collect(rows, err, func(r scanner) (k string, err error) {
		err = r.Scan(&k)
		return k, err
	})
	return out, s.wrap(err)
}
