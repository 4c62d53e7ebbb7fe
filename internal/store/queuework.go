package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/greatseal-io/greatseal/order"
)

var _ Queue = (*SQL)(nil)

// ask is one statement of a transaction, with what becomes of its rows.
type ask struct {
	sql  string
	args []any
	scan func(scanner) error // nil: it returns no rows
	n    int64               // rows changed, or returned
}

// together runs asks in one transaction; on PostgreSQL they travel in one piece.
func (s *SQL) together(ctx context.Context, asks []*ask) error {
	if len(asks) == 0 {
		return nil
	}
	if s.pool == nil {
		return s.wrap(s.inSQLTx(ctx, func(t tx) error {
			for _, a := range asks {
				if a.scan == nil {
					n, err := t.run(ctx, []stmt{{a.sql, a.args}})
					if err != nil {
						return err
					}
					a.n = n[0]
					continue
				}
				rows, err := t.(sqlTx).rows(ctx, a.sql, a.args)
				if err != nil {
					return err
				}
				if err := a.each(rows); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	t, err := s.pool.Begin(ctx)
	if err != nil {
		return s.wrap(err)
	}
	defer t.Rollback(context.WithoutCancel(ctx)) // nothing after a commit
	var b pgx.Batch
	for _, a := range asks {
		b.Queue(a.sql, a.args...)
	}
	r := t.SendBatch(ctx, &b)
	for _, a := range asks {
		if a.scan == nil {
			tag, err := r.Exec()
			if err != nil {
				r.Close()
				return s.wrap(err)
			}
			a.n = tag.RowsAffected()
			continue
		}
		rows, err := r.Query()
		if err == nil {
			for rows.Next() && err == nil {
				a.n++
				err = a.scan(rows)
			}
			rows.Close()
			err = errors.Join(err, rows.Err())
		}
		if err != nil {
			r.Close()
			return s.wrap(err)
		}
	}
	if err := r.Close(); err != nil {
		return s.wrap(err)
	}
	return s.wrap(t.Commit(ctx))
}

func (a *ask) each(rows *sql.Rows) error {
	defer rows.Close()
	for rows.Next() {
		a.n++
		if err := a.scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// rows is query by a statement that is kept.
func (t sqlTx) rows(ctx context.Context, q string, args []any) (*sql.Rows, error) {
	if k := t.kept.get(q); k != nil {
		return t.tx.StmtContext(ctx, k).QueryContext(ctx, args...)
	}
	return t.tx.QueryContext(ctx, q, args...)
}

// in is "column is one of the list that parameter n is", list its value.
func (s *SQL) in(column string, n int) string {
	if s.pool != nil {
		return fmt.Sprintf("%s = ANY($%d)", column, n)
	}
	return fmt.Sprintf("%s IN (SELECT value FROM json_each($%d))", column, n)
}

func (s *SQL) list(l []string) any {
	if l == nil {
		l = []string{}
	}
	if s.pool != nil {
		return l
	}
	b, err := json.Marshal(l)
	if err != nil {
		return "[]" // text that is no UTF-8 names nothing
	}
	return string(b)
}

const queueColumns = `seq, id, agent, agent_correlator, topic, name, source, response_to, queue, state, error_string, priority, payload, created, updated, processed,
	cluster, parent, repeatable, expires, attempt, token, lease_until, started, cancel, lost, pages, bytes, content_type, outcome`

func scanQueue(r scanner) (QueueRecord, error) {
	var q QueueRecord
	var state string
	var priority, created, updated, processed, repeatable, expires, attempt, until, started, cancel, lost int64
	err := r.Scan(&q.Sequence, &q.ID, &q.Agent, &q.AgentCorrelator, &q.Topic, &q.Name, &q.Source, &q.ResponseTo, &q.Queue, &state, &q.ErrorString, &priority, &q.Payload, &created, &updated, &processed,
		&q.Cluster, &q.Parent, &repeatable, &expires, &attempt, &q.Token, &until, &started, &cancel, &lost, &q.Pages, &q.Bytes, &q.ContentType, &q.Outcome)
	q.State, q.Priority, q.Attempt = QueueState(state), order.Priority(priority), uint64(attempt)
	q.Created, q.Updated, q.Processed, q.Expires, q.LeaseUntil, q.Started = at(created), at(updated), at(processed), at(expires), at(until), at(started)
	q.Repeatable, q.Cancel, q.Lost = repeatable != 0, cancel != 0, lost != 0
	return q, err
}

// maxWakes is how many targets one transaction tells of; more wake everybody.
const maxWakes = 64

// wakes tells the other replicas that targets have work.
func (s *SQL) wakes(targets []string) []*ask {
	if s.pool == nil {
		return nil
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	if len(targets) > maxWakes {
		targets = []string{""}
	}
	var out []*ask
	for _, t := range targets {
		out = append(out, &ask{sql: `SELECT pg_notify('greatseal_queue', $1)`, args: []any{t}, scan: func(scanner) error { return nil }})
	}
	return out
}

func target(agent, cluster string) string {
	if cluster != "" {
		return "c:" + cluster
	}
	return "a:" + agent
}

// SubmitWork adds jobs.
func (s *SQL) SubmitWork(ctx context.Context, jobs []QueueRecord) ([]bool, error) {
	var asks []*ask
	var targets []string
	for i := range jobs {
		j := &jobs[i]
		t := target(j.Agent, j.Cluster)
		targets = append(targets, t)
		asks = append(asks, &ask{sql: `INSERT INTO ecc_queue (id, agent, agent_correlator, topic, name, source, response_to, queue, state, error_string, priority, payload,
			created, updated, processed, cluster, target, parent, repeatable, expires, attempt, token, lease_until, started, cancel, lost, pages, bytes, content_type, outcome)
			VALUES ($1, $2, $3, $4, $5, $6, '', 'output', 'ready', '', $7, $8, $9, $9, 0, $10, $11, $12, $13, $14, 0, '', 0, 0, 0, 0, 0, 0, '', $15) ON CONFLICT DO NOTHING`,
			args: []any{j.ID, j.Agent, text(j.AgentCorrelator), j.Topic, text(j.Name), text(j.Source), int64(j.Priority), blob(j.Payload), ms(j.Created),
				j.Cluster, t, j.Parent, flag(j.Repeatable), ms(j.Expires), []byte{}}})
	}
	if err := s.together(ctx, append(slices.Clone(asks), s.wakes(targets)...)); err != nil {
		return nil, err
	}
	added := make([]bool, len(jobs))
	for i := range added {
		added[i] = asks[i].n == 1
	}
	return added, nil
}

// LeaseWork hands out jobs.
func (s *SQL) LeaseWork(ctx context.Context, in []QueueAsk) ([][]QueueRecord, error) {
	out := make([][]QueueRecord, len(in))
	skip := ""
	if s.pool != nil {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	q := `UPDATE ecc_queue SET state = 'processing', agent = $1, attempt = attempt + 1, token = $2, lease_until = $3, started = 0, updated = $4
		WHERE seq IN (SELECT seq FROM ecc_queue WHERE state = 'ready' AND queue = 'output' AND cancel = 0 AND ` + s.in("target", 5) + ` AND ` + s.in("topic", 6) + `
			AND ($8 < 0 OR priority = $8) AND (expires = 0 OR expires > $4) AND EXISTS (SELECT 1 FROM agents WHERE name = $1 AND state = 'valid')
			ORDER BY priority, seq LIMIT $7` + skip + `)
		RETURNING ` + queueColumns
	var asks []*ask
	for i := range in {
		a := &in[i]
		targets := []string{"a:" + a.Agent}
		only := int64(-1)
		if a.Only != nil {
			only = int64(*a.Only)
		}
		for _, c := range a.Clusters {
			targets = append(targets, "c:"+c)
		}
		asks = append(asks, &ask{sql: q, args: []any{a.Agent, a.Token, ms(a.Until), ms(a.Now), s.list(targets), s.list(a.Topics), int64(a.Max), only},
			scan: func(r scanner) error {
				x, err := scanQueue(r)
				out[i] = append(out[i], x)
				return err
			}})
	}
	if err := s.together(ctx, asks); err != nil {
		return nil, err
	}
	for _, l := range out {
		slices.SortFunc(l, func(a, b QueueRecord) int {
			if a.Priority != b.Priority {
				return int(a.Priority) - int(b.Priority)
			}
			return int(a.Sequence - b.Sequence)
		})
	}
	return out, nil
}

// mine is that a row is the job of a lease, whose parameters are $1 to $4.
const mine = `id = $1 AND queue = 'output' AND agent = $2 AND attempt = $3 AND token = $4 AND token <> ''`

func (l *QueueLease) args(more ...any) []any {
	return append([]any{l.Job, l.Agent, int64(l.Attempt), l.Token}, more...)
}

func lostWhere(asks []*ask, offset, step int, n int) []error {
	out := make([]error, n)
	for i := range out {
		if asks[offset+i*step].n == 0 {
			out[i] = ErrLost
		}
	}
	return out
}

// StartWork notes that jobs begin.
func (s *SQL) StartWork(ctx context.Context, leases []QueueLease, now, until time.Time) ([]error, error) {
	var asks []*ask
	for i := range leases {
		asks = append(asks, &ask{sql: `UPDATE ecc_queue SET started = CASE WHEN started = 0 THEN $5 ELSE started END, lease_until = $6, updated = $5
			WHERE ` + mine + ` AND state = 'processing'
			AND (started > 0 OR (cancel = 0 AND lease_until > $5 AND (expires = 0 OR expires > $5)))
			AND EXISTS (SELECT 1 FROM agents WHERE name = $2 AND state = 'valid')`,
			args: leases[i].args(ms(now), ms(until))})
	}
	if err := s.together(ctx, asks); err != nil {
		return nil, err
	}
	return lostWhere(asks, 0, 1, len(leases)), nil
}

// running is that a job was started and may still be heard of: when its agent was
// given up, and nobody else may have it, what that agent says is as true as before.
const running = ` AND started > 0 AND (state = 'processing' OR (state = 'error' AND lost = 1 AND repeatable = 0))`

// ProlongWork moves the end of leases.
func (s *SQL) ProlongWork(ctx context.Context, leases []QueueLease, now, until time.Time) ([]bool, []error, error) {
	cancel := make([]bool, len(leases))
	var asks []*ask
	for i := range leases {
		asks = append(asks, &ask{sql: `UPDATE ecc_queue SET state = 'processing', error_string = '', lost = 0, lease_until = $6, updated = $5, processed = 0 WHERE ` + mine + running + ` RETURNING cancel`,
			args: leases[i].args(ms(now), ms(until)),
			scan: func(r scanner) error {
				var c int64
				err := r.Scan(&c)
				cancel[i] = c != 0
				return err
			}})
	}
	if err := s.together(ctx, asks); err != nil {
		return nil, nil, err
	}
	return cancel, lostWhere(asks, 0, 1, len(leases)), nil
}

// PageID is the ID of a page: it follows from the attempt and its number.
func PageID(job string, attempt uint64, number int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "greatseal page v1\x00%s\x00%d\x00%d", job, attempt, number))
	return hex.EncodeToString(sum[:16])
}

// PutPages adds pages.
func (s *SQL) PutPages(ctx context.Context, pages []QueuePage) ([]error, error) {
	var asks []*ask
	for i := range pages {
		asks = append(asks, pageAsks(&pages[i])...)
	}
	if err := s.together(ctx, asks); err != nil {
		return nil, err
	}
	out := make([]error, len(pages))
	for i := range pages {
		if asks[2*i].n == 1 {
			continue
		}
		err := s.whyNoPage(ctx, &pages[i])
		if errors.Is(err, ErrBusy) {
			return nil, err
		}
		out[i] = err
	}
	return out, nil
}

// pageAsks counts the page at its job, and then adds it where it was counted: the
// count is the job's, so that a page which is not the next one goes nowhere.
func pageAsks(p *QueuePage) []*ask {
	return []*ask{
		{sql: `UPDATE ecc_queue SET pages = pages + 1, bytes = bytes + $6, updated = $8 WHERE ` + mine + running + ` AND pages = $5 AND bytes + $6 <= $7`,
			args: p.args(p.Number, int64(len(p.Body)), p.Limit, ms(p.Now))},
		{sql: `INSERT INTO ecc_queue (id, agent, agent_correlator, topic, name, source, response_to, queue, state, error_string, priority, payload,
			created, updated, processed, cluster, target, parent, repeatable, expires, attempt, token, lease_until, started, cancel, lost, pages, bytes, content_type, outcome)
			SELECT $5, agent, agent_correlator, topic, name, source, id, 'input', 'processing', '', priority, $6,
			$7, $7, 0, cluster, '', '', 0, 0, attempt, '', 0, 0, 0, 0, $8, $9, $10, $11 FROM ecc_queue WHERE ` + mine + running + ` AND pages = CAST($8 AS BIGINT) + 1 ON CONFLICT DO NOTHING`,
			args: p.args(p.ID, blob(p.Body), ms(p.Now), p.Number, int64(len(p.Body)), text(p.Type), []byte{})},
	}
}

// whyNoPage tells the same page again, which is none, from what is wrong.
func (s *SQL) whyNoPage(ctx context.Context, p *QueuePage) error {
	j, err := s.QueueRecord(ctx, p.Job)
	if errors.Is(err, ErrNotFound) {
		return ErrLost
	}
	if err != nil {
		return err
	}
	ended := j.State == QueueProcessed || j.State == QueueError && !j.Lost
	if j.Agent != p.Agent || j.Attempt != p.Attempt || j.Token != p.Token || j.Started.IsZero() {
		return ErrLost
	}
	if p.Number < j.Pages {
		old, err := s.QueueRecord(ctx, p.ID)
		if err != nil {
			return err
		}
		if sha256.Sum256(old.Payload) == sha256.Sum256(p.Body) && old.ContentType == text(p.Type) {
			return nil
		}
		return ErrPage
	}
	switch {
	case ended:
		return ErrLost
	case p.Number > j.Pages:
		return ErrPage
	case j.Bytes+int64(len(p.Body)) > p.Limit:
		return ErrTooLarge
	}
	return ErrLost
}

// FinishWork ends jobs.
func (s *SQL) FinishWork(ctx context.Context, ends []QueueFinish) ([]error, error) {
	const step = 2
	var asks []*ask
	for i := range ends {
		e := &ends[i]
		state := QueueProcessed
		if e.Error != "" {
			state = QueueError
		}
		asks = append(asks,
			&ask{sql: `UPDATE ecc_queue SET state = $5, error_string = $6, outcome = $7, updated = $8, processed = $8, lost = 0 WHERE ` + mine + running + ` AND pages = $9`,
				args: e.args(string(state), text(e.Error), blob(e.Outcome), ms(e.Now), e.Pages)},
			// What was brought is a result when the statement above ended the job: not
			// when it was refused, cancelled or given up before.
			&ask{sql: `UPDATE ecc_queue SET state = 'ready', updated = $5 WHERE queue = 'input' AND response_to = $1 AND attempt = $3 AND state = 'processing'
				AND EXISTS (SELECT 1 FROM ecc_queue j WHERE j.id = $1 AND j.queue = 'output' AND j.agent = $2 AND j.attempt = $3 AND j.token = $4 AND j.token <> ''
					AND j.state = $6 AND j.error_string = $7 AND j.processed = $5 AND j.pages = $8 AND j.lost = 0)`,
				args: e.args(ms(e.Now), string(state), text(e.Error), e.Pages)})
	}
	if err := s.together(ctx, asks); err != nil {
		return nil, err
	}
	out := make([]error, len(ends))
	for i := range ends {
		if asks[step*i].n == 1 {
			continue
		}
		e := &ends[i]
		j, err := s.QueueRecord(ctx, e.Job)
		switch {
		case errors.Is(err, ErrNotFound):
			out[i] = ErrLost
		case err != nil:
			return nil, err
		case j.Agent != e.Agent || j.Attempt != e.Attempt || j.Token != e.Token || j.Started.IsZero():
			out[i] = ErrLost
		case j.State == QueueProcessed && e.Error == "", j.State == QueueError && !j.Lost && e.Error != "" && j.ErrorString == text(e.Error):
			if j.Pages != e.Pages {
				out[i] = ErrPage
			} // else the same again
		case j.State == QueueProcessing, j.Lost && !j.Repeatable:
			out[i] = ErrPage
		default:
			out[i] = ErrLost
		}
	}
	return out, nil
}

// RejectWork ends a job that its agent refuses.
func (s *SQL) RejectWork(ctx context.Context, l QueueLease, r *AgentRejection, entries []LogEntry, jobs []Job) (bool, error) {
	code := r.Code
	if r.Subject != "" {
		code += "(" + r.Subject + ")"
	}
	fresh := false
	err := s.inSQLTx(ctx, func(t tx) error {
		// Whoever never had the job has nothing to refuse; whoever had it is heard,
		// whatever has become of it.
		rows, err := t.query(ctx, `SELECT id FROM ecc_queue WHERE `+mine, l.args()...)
		had, err := collect(rows, err, func(r scanner) (id string, err error) { err = r.Scan(&id); return id, err })
		if err != nil {
			return err
		}
		if len(had) == 0 {
			return ErrLost
		}
		n, err := t.run(ctx, []stmt{
			{`INSERT INTO agent_rejections (id, time, agent, job, attempt, topic, code, subject, detail, records) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
				[]any{r.ID, ms(r.Time), r.Agent, text(r.Job), int64(r.Attempt), text(r.Topic), r.Code, text(r.Subject), text(r.Detail), blob(r.Records)}},
			{`UPDATE ecc_queue SET state = 'error', error_string = $5, updated = $6, processed = $6, lost = 0 WHERE ` + mine + ` AND (state = 'processing' OR (state = 'error' AND lost = 1 AND repeatable = 0))`,
				l.args(text(code), ms(r.Time))}})
		if err != nil {
			return err
		}
		if fresh = n[0] == 1; !fresh {
			return nil
		}
		var rest []stmt
		for _, e := range entries {
			rest = append(rest, stmt{`INSERT INTO log_waiting (kind, request, time, data) VALUES ($1, $2, $3, $4)`, []any{string(e.Kind), e.Request[:], ms(e.Time), e.Data}})
		}
		for _, j := range jobs {
			rest = append(rest, stmt{`INSERT INTO jobs (kind, ref, payload, run_at, attempts, error) VALUES ($1, $2, $3, $4, 0, '') ON CONFLICT DO NOTHING`, []any{j.Kind, j.Ref, blob(j.Payload), ms(j.RunAt)}})
		}
		_, err = t.run(ctx, rest)
		return err
	})
	if errors.Is(err, ErrLost) {
		return false, ErrLost
	}
	return fresh, s.wrap(err)
}

// FailWork ends a job that cannot be handed over.
func (s *SQL) FailWork(ctx context.Context, l QueueLease, cause string, now time.Time) error {
	n, err := s.exec(ctx, `UPDATE ecc_queue SET state = 'error', error_string = $5, updated = $6, processed = $6 WHERE `+mine+` AND state = 'processing' AND started = 0`, l.args(text(cause), ms(now))...)
	if err == nil && n == 0 {
		err = ErrLost
	}
	return err
}

// CancelWork ends a job, or asks for its end.
func (s *SQL) CancelWork(ctx context.Context, id string, now time.Time) (*QueueRecord, error) {
	err := s.together(ctx, []*ask{
		{sql: `UPDATE ecc_queue SET cancel = 1, updated = $2 WHERE id = $1 AND queue = 'output' AND state = 'processing' AND started > 0`, args: []any{id, ms(now)}},
		{sql: `UPDATE ecc_queue SET cancel = 1, state = 'error', error_string = 'CANCELLED', updated = $2, processed = $2
			WHERE id = $1 AND queue = 'output' AND (state = 'ready' OR (state = 'processing' AND started = 0))`, args: []any{id, ms(now)}},
	})
	if err != nil {
		return nil, err
	}
	r, err := s.QueueRecord(ctx, id)
	if err == nil && r.Queue != QueueOutput {
		err = ErrNotFound
	}
	return r, err
}

// again is what becomes of a job that may be handed out again: a cluster's goes back
// to the cluster, but a Command stays with the agent that it was given to.
const again = `SET state = 'ready', token = '', lease_until = 0, started = 0, pages = 0, bytes = 0, updated = $1,
	target = CASE WHEN cluster = '' OR topic = 'Command' THEN 'a:' || agent ELSE 'c:' || cluster END,
	agent = CASE WHEN cluster = '' OR topic = 'Command' THEN agent ELSE '' END`

// SweepWork looks after what nobody works on.
func (s *SQL) SweepWork(ctx context.Context, now, down time.Time, attempts uint64) (*QueueSweep, error) {
	out := &QueueSweep{}
	moved := func(r scanner) error {
		var t string
		err := r.Scan(&t)
		out.Moved = append(out.Moved, t)
		return err
	}
	// Who is to be given up is decided on rows that are locked as they are found, so
	// that two replicas, or a start that comes in between, see one another.
	skip := ""
	if s.pool != nil {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	const gone = `NOT EXISTS (SELECT 1 FROM agents a WHERE a.name = ecc_queue.agent AND a.state = 'valid' AND a.heartbeat >= $2)`
	const leased = `queue = 'output' AND state = 'processing'`
	expired := &ask{sql: `UPDATE ecc_queue SET state = 'error', error_string = 'JOB_EXPIRED', updated = $1, processed = $1 WHERE queue = 'output' AND expires > 0 AND expires <= $1
		AND state = 'ready'`, args: []any{ms(now)}}
	asks := []*ask{
		// Begun, its lease over, and not to be repeated.
		{sql: `UPDATE ecc_queue SET state = 'error', error_string = CASE WHEN cancel = 1 THEN 'CANCELLED' ELSE 'AGENT_LOST' END, lost = 1, updated = $1, processed = $1
			WHERE seq IN (SELECT seq FROM ecc_queue WHERE ` + leased + ` AND started > 0 AND (repeatable = 0 OR cancel = 1) AND lease_until <= $1` + skip + `) RETURNING id`, args: []any{ms(now)},
			scan: func(r scanner) error {
				var id string
				err := r.Scan(&id)
				out.Lost = append(out.Lost, id)
				return err
			}},
		// Handed out in vain too often.
		{sql: `UPDATE ecc_queue SET state = 'error', error_string = 'ATTEMPTS', updated = $1, processed = $1
			WHERE seq IN (SELECT seq FROM ecc_queue WHERE ` + leased + ` AND lease_until <= $1 AND attempt >= $2` + skip + `)`, args: []any{ms(now), int64(attempts)}},
		// Not begun, or to be repeated, and the lease over.
		{sql: `UPDATE ecc_queue ` + again + ` WHERE seq IN (SELECT seq FROM ecc_queue WHERE ` + leased + ` AND lease_until <= $1 AND (started = 0 OR repeatable = 1)` + skip + `) RETURNING target`,
			args: []any{ms(now)}, scan: moved},
		// Not begun, and its agent gone: a cluster has others.
		{sql: `UPDATE ecc_queue ` + again + ` WHERE seq IN (SELECT seq FROM ecc_queue WHERE ` + leased + ` AND started = 0 AND cluster <> '' AND topic <> 'Command' AND ` + gone + skip + `) RETURNING target`,
			args: []any{ms(now), ms(down)}, scan: moved},
		expired,
	}
	if err := s.together(ctx, asks); err != nil {
		return nil, err
	}
	out.Expired = int(expired.n)
	slices.Sort(out.Moved)
	out.Moved = slices.Compact(out.Moved)
	if len(out.Moved) > 0 {
		return out, s.together(ctx, s.wakes(slices.Clone(out.Moved)))
	}
	return out, nil
}

// ReadyTargets lists whom work waits for.
func (s *SQL) ReadyTargets(ctx context.Context) ([]string, error) {
	rows, err := s.rows(ctx, `SELECT DISTINCT target FROM ecc_queue WHERE state = 'ready' AND queue = 'output'`)
	out, err := collect(rows, err, func(r scanner) (t string, err error) { err = r.Scan(&t); return t, err })
	return out, s.wrap(err)
}

// WatchQueue listens.
func (s *SQL) WatchQueue(ctx context.Context, wake func(string)) error {
	if s.pool == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	// Of its own: the pool's connections are for work.
	c, err := pgx.ConnectConfig(ctx, s.patient.Copy())
	if err != nil {
		return s.wrap(err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	if _, err := c.Exec(ctx, `LISTEN greatseal_queue`); err != nil {
		return s.wrap(err)
	}
	wake("") // what came before
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return s.wrap(err)
		}
		if len(n.Payload) < 200 && (n.Payload == "" || strings.HasPrefix(n.Payload, "a:") || strings.HasPrefix(n.Payload, "c:")) {
			wake(n.Payload)
		}
	}
}
