package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// Enqueue adds jobs on their own.
func (s *SQL) Enqueue(ctx context.Context, jobs ...Job) error {
	return s.Apply(ctx, &Change{Jobs: jobs})
}

// Lease hands out jobs that are due: their time is moved on by d, so that they
// come back if their worker dies.
func (s *SQL) Lease(ctx context.Context, kinds []string, limit int, now time.Time, d time.Duration) ([]Job, error) {
	if len(kinds) == 0 {
		return nil, nil
	}
	args := []any{ms(now.Add(d)), ms(now), int64(limit)}
	marks := make([]string, len(kinds))
	for i, k := range kinds {
		args = append(args, k)
		marks[i] = fmt.Sprintf("$%d", len(args))
	}
	skip := ""
	if s.pool != nil {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	rows, err := s.write.QueryContext(ctx, `UPDATE jobs SET run_at = $1, attempts = attempts + 1 WHERE id IN
		(SELECT id FROM jobs WHERE run_at <= $2 AND kind IN (`+strings.Join(marks, ", ")+`) ORDER BY run_at LIMIT $3`+skip+`)
		RETURNING id, kind, ref, payload, run_at, attempts, error`, args...)
	out, err := collect(rows, err, func(r scanner) (j Job, err error) {
		var run, attempts int64
		err = r.Scan(&j.ID, &j.Kind, &j.Ref, &j.Payload, &run, &attempts, &j.Error)
		j.RunAt, j.Attempts = at(run), int(attempts)
		return j, err
	})
	return out, s.wrap(err)
}

// Done removes a finished job.
func (s *SQL) Done(ctx context.Context, id int64) error {
	_, err := s.exec(ctx, `DELETE FROM jobs WHERE id = $1`, id)
	return err
}

// Retry puts a job back until at.
func (s *SQL) Retry(ctx context.Context, id int64, at time.Time, cause string) error {
	_, err := s.exec(ctx, `UPDATE jobs SET run_at = $2, error = $3 WHERE id = $1`, id, ms(at), text(cause))
	return err
}

// Again puts a job back that has got on.
func (s *SQL) Again(ctx context.Context, id int64, at time.Time) error {
	_, err := s.exec(ctx, `UPDATE jobs SET run_at = $2, attempts = 0, error = '' WHERE id = $1`, id, ms(at))
	return err
}

// Jobs counts the jobs by kind.
func (s *SQL) Jobs(ctx context.Context) (map[string]int, error) {
	type count struct {
		kind string
		n    int64
	}
	rows, err := s.read.QueryContext(ctx, `SELECT kind, count(*) FROM jobs GROUP BY kind`)
	list, err := collect(rows, err, func(r scanner) (c count, err error) {
		err = r.Scan(&c.kind, &c.n)
		return c, err
	})
	if err != nil {
		return nil, s.wrap(err)
	}
	out := map[string]int{}
	for _, c := range list {
		out[c.kind] = int(c.n)
	}
	return out, nil
}

// PutUpload records the progress of an upload.
func (s *SQL) PutUpload(ctx context.Context, u Upload) error {
	_, err := s.exec(ctx, `INSERT INTO uploads (request, idx, size, received, done) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (request, idx) DO UPDATE SET received = excluded.received, done = excluded.done`,
		u.Request[:], int64(u.Index), u.Size, u.Received, flag(u.Done))
	return err
}

// Uploads returns the uploads of a request, in order.
func (s *SQL) Uploads(ctx context.Context, id statement.ID) ([]Upload, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT idx, size, received, done FROM uploads WHERE request = $1 ORDER BY idx`, id[:])
	out, err := collect(rows, err, func(r scanner) (Upload, error) {
		u := Upload{Request: id}
		var index, done int64
		err := r.Scan(&index, &u.Size, &u.Received, &done)
		u.Index, u.Done = int(index), done != 0
		return u, err
	})
	return out, s.wrap(err)
}

// PutToken adds a token.
func (s *SQL) PutToken(ctx context.Context, t Token) error {
	_, err := s.exec(ctx, `INSERT INTO tokens (`+tokenColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.Hash[:], t.ID, t.Principal, strings.Join(t.Scopes, " "), t.Credential, ms(t.Created), ms(t.Expires))
	return err
}

func scanToken(r scanner) (*Token, error) {
	var t Token
	var hash []byte
	var scopes string
	var created, expires int64
	if err := r.Scan(&hash, &t.ID, &t.Principal, &scopes, &t.Credential, &created, &expires); err != nil {
		return nil, err
	}
	copy(t.Hash[:], hash)
	t.Scopes, t.Created, t.Expires = strings.Fields(scopes), at(created), at(expires)
	return &t, nil
}

const tokenColumns = `hash, id, principal, scopes, credential, created, expires`

// Token finds a token by the hash of its secret.
func (s *SQL) Token(ctx context.Context, hash [32]byte) (*Token, error) {
	t, err := scanToken(s.read.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE hash = $1`, hash[:]))
	return t, s.wrap(err)
}

// Tokens lists the tokens.
func (s *SQL) Tokens(ctx context.Context) ([]Token, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+tokenColumns+` FROM tokens ORDER BY created`)
	list, err := collect(rows, err, scanToken)
	out := make([]Token, len(list))
	for i, t := range list {
		out[i] = *t
	}
	return out, s.wrap(err)
}

// DeleteToken removes a token by its handle; ErrNotFound when there is none.
func (s *SQL) DeleteToken(ctx context.Context, id string) error {
	n, err := s.exec(ctx, `DELETE FROM tokens WHERE id = $1`, id)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}
