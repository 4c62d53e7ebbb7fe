package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SecurityJob is one job that signs records, as internal/records keeps it. The
// store knows nothing of what Kind, State, Spec, Place and Summary say.
type SecurityJob struct {
	ID        string
	Revision  int64
	Kind      string
	Name      string
	State     string
	Platform  string
	Requester string
	Spec      []byte // what is to be done; never changes
	Place     []byte // how far it is
	Summary   []byte
	Request   string // ID of the request to sign; empty before there is one
	Error     string
	Count     int64         // records prepared
	Total     int64         // records that there will be; -1: not known yet
	Busy      time.Duration // spent on preparing
	Created   time.Time
	Updated   time.Time
	Started   time.Time
	Finished  time.Time
}

// SecurityChunk is a piece of what a job has to say: Count entries, from First on.
type SecurityChunk struct {
	First, Count int64
	Data         []byte
}

// SecurityFilter selects security jobs, newest first; zero members select
// everything.
type SecurityFilter struct {
	States   []string
	Kind     string
	Platform string
	Before   time.Time // page on: created before,
	BeforeID string    // or at Before with a lower ID
	Limit    int       // default 100, at most 1000
}

// SecurityKind is the kind of the durable job ([Job]) that keeps a security job
// moving; its Ref is the security job's ID.
const SecurityKind = "records.job"

// KeepChunks, as StepSecurityJob's keep, keeps all.
const KeepChunks = -1

// SecurityJobs keeps security jobs. [*SQL] does.
type SecurityJobs interface {
	// PutSecurityJob adds a job at revision 1, and the durable job that moves it on
	// from runAt, in one transaction. ErrExists when the ID is taken.
	PutSecurityJob(ctx context.Context, j *SecurityJob, runAt time.Time) error
	// StepSecurityJob replaces all but ID, Spec, Kind and Created of the job at
	// j.Revision, removes its chunks from keep on (KeepChunks: none), and adds
	// chunks. It is one transaction, after which j.Revision is one higher.
	// ErrConflict when the job has moved on: nothing was changed.
	StepSecurityJob(ctx context.Context, j *SecurityJob, keep int64, chunks ...SecurityChunk) error
	// SecurityJob returns one job; ErrNotFound.
	SecurityJob(ctx context.Context, id string) (*SecurityJob, error)
	// SecurityJobs lists jobs.
	SecurityJobs(ctx context.Context, f SecurityFilter) ([]*SecurityJob, error)
	// SecurityChunks returns up to limit chunks of a job in order, beginning with
	// the one that holds record from.
	SecurityChunks(ctx context.Context, id string, from int64, limit int) ([]SecurityChunk, error)
	// WakeSecurityJob makes the durable job of a security job due at t, or puts one
	// in if it is gone.
	WakeSecurityJob(ctx context.Context, id string, t time.Time) error
}

var _ SecurityJobs = (*SQL)(nil)

const securityColumns = `id, revision, kind, name, state, platform, requester, spec, place, summary, request, error, count, total, busy, created, updated, started, finished`

func (j *SecurityJob) row() []any {
	return []any{j.Revision, j.Kind, text(j.Name), j.State, j.Platform, text(j.Requester), blob(j.Spec), blob(j.Place), blob(j.Summary), j.Request, text(j.Error),
		j.Count, j.Total, int64(j.Busy), ms(j.Created), ms(j.Updated), ms(j.Started), ms(j.Finished)}
}

func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func scanSecurity(r scanner) (*SecurityJob, error) {
	var j SecurityJob
	var busy, created, updated, started, finished int64
	err := r.Scan(&j.ID, &j.Revision, &j.Kind, &j.Name, &j.State, &j.Platform, &j.Requester, &j.Spec, &j.Place, &j.Summary, &j.Request, &j.Error,
		&j.Count, &j.Total, &busy, &created, &updated, &started, &finished)
	j.Busy, j.Created, j.Updated, j.Started, j.Finished = time.Duration(busy), at(created), at(updated), at(started), at(finished)
	return &j, err
}

const enqueueJob = `INSERT INTO jobs (kind, ref, payload, run_at, attempts, error) VALUES ($1, $2, $3, $4, 0, '')`

// PutSecurityJob adds a job.
func (s *SQL) PutSecurityJob(ctx context.Context, j *SecurityJob, runAt time.Time) error {
	j.Revision = 1
	err := s.inTx(ctx, func(t tx) error {
		_, err := t.run(ctx, []stmt{
			{`INSERT INTO security_jobs (` + securityColumns + `) VALUES (` + marks(0, 19) + `)`, append([]any{j.ID}, j.row()...)},
			{enqueueJob, []any{SecurityKind, j.ID, []byte{}, ms(runAt)}},
		})
		return err
	})
	return s.wrap(err)
}

// StepSecurityJob moves a job on.
func (s *SQL) StepSecurityJob(ctx context.Context, j *SecurityJob, keep int64, chunks ...SecurityChunk) error {
	next := *j
	next.Revision++
	err := s.inTx(ctx, func(t tx) error {
		// The guard first: with its row locked, nobody else adds chunks.
		n, err := t.run(ctx, []stmt{{`UPDATE security_jobs SET revision = $3, name = $4, state = $5, platform = $6, requester = $7, place = $8, summary = $9, request = $10,
			error = $11, count = $12, total = $13, busy = $14, updated = $15, started = $16, finished = $17 WHERE id = $1 AND revision = $2`,
			[]any{j.ID, j.Revision, next.Revision, text(j.Name), j.State, j.Platform, text(j.Requester), blob(j.Place), blob(j.Summary), j.Request,
				text(j.Error), j.Count, j.Total, int64(j.Busy), ms(j.Updated), ms(j.Started), ms(j.Finished)}}})
		if err != nil {
			return err
		}
		if n[0] != 1 {
			return ErrConflict
		}
		var ss []stmt
		if keep != KeepChunks {
			ss = append(ss, stmt{`DELETE FROM security_job_chunks WHERE job = $1 AND first >= $2`, []any{j.ID, keep}})
		}
		for _, c := range chunks {
			ss = append(ss, stmt{`INSERT INTO security_job_chunks (job, first, count, data) VALUES ($1, $2, $3, $4)`, []any{j.ID, c.First, c.Count, blob(c.Data)}})
		}
		if len(ss) > 0 {
			_, err = t.run(ctx, ss)
		}
		return err
	})
	if err == nil {
		j.Revision = next.Revision
	}
	if errors.Is(err, ErrConflict) {
		return ErrConflict
	}
	return s.wrap(err)
}

// SecurityJob returns one job.
func (s *SQL) SecurityJob(ctx context.Context, id string) (*SecurityJob, error) {
	j, err := scanSecurity(s.read.QueryRowContext(ctx, `SELECT `+securityColumns+` FROM security_jobs WHERE id = $1`, id))
	if err != nil {
		return nil, s.wrap(err)
	}
	return j, nil
}

// SecurityJobs lists jobs.
func (s *SQL) SecurityJobs(ctx context.Context, f SecurityFilter) ([]*SecurityJob, error) {
	var where []string
	var args []any
	arg := func(v any) string { args = append(args, v); return fmt.Sprintf("$%d", len(args)) }
	if len(f.States) > 0 {
		var in []string
		for _, st := range f.States {
			in = append(in, arg(st))
		}
		where = append(where, `state IN (`+strings.Join(in, ", ")+`)`)
	}
	if f.Kind != "" {
		where = append(where, `kind = `+arg(f.Kind))
	}
	if f.Platform != "" {
		where = append(where, `platform = `+arg(f.Platform))
	}
	if !f.Before.IsZero() {
		b := arg(ms(f.Before))
		where = append(where, `(created < `+b+` OR created = `+b+` AND id < `+arg(f.BeforeID)+`)`)
	}
	q := `SELECT ` + securityColumns + ` FROM security_jobs`
	if len(where) > 0 {
		q += ` WHERE ` + strings.Join(where, ` AND `)
	}
	q += ` ORDER BY created DESC, id DESC LIMIT ` + arg(page(f.Limit))
	rows, err := s.read.QueryContext(ctx, q, args...)
	out, err := collect(rows, err, scanSecurity)
	return out, s.wrap(err)
}

func page(limit int) int64 {
	if limit <= 0 {
		limit = 100
	}
	return int64(min(limit, 1000))
}

// SecurityChunks returns what a job has prepared.
func (s *SQL) SecurityChunks(ctx context.Context, id string, from int64, limit int) ([]SecurityChunk, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT first, count, data FROM security_job_chunks WHERE job = $1 AND first >=
		(SELECT coalesce(max(first), 0) FROM security_job_chunks WHERE job = $1 AND first <= $2) ORDER BY first LIMIT $3`, id, from, int64(limit))
	out, err := collect(rows, err, func(r scanner) (c SecurityChunk, err error) {
		err = r.Scan(&c.First, &c.Count, &c.Data)
		return c, err
	})
	return out, s.wrap(err)
}

// WakeSecurityJob makes a job's durable job due.
func (s *SQL) WakeSecurityJob(ctx context.Context, id string, t time.Time) error {
	_, err := s.exec(ctx, enqueueJob+` ON CONFLICT (kind, ref) DO UPDATE SET run_at = excluded.run_at, attempts = 0, error = ''`, SecurityKind, id, []byte{}, ms(t))
	return err
}
