package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// QueueRecord returns one record.
func (s *SQL) QueueRecord(ctx context.Context, id string) (*QueueRecord, error) {
	q, err := scanQueue(s.row(ctx, `SELECT `+queueColumns+` FROM ecc_queue WHERE id = $1`, id))
	if err != nil {
		return nil, s.wrap(err)
	}
	return &q, nil
}

func pageSize(n int) int64 {
	switch {
	case n <= 0:
		return 100
	case n > 1000:
		return 1000
	}
	return int64(n)
}

// QueueRecords lists records, newest first.
func (s *SQL) QueueRecords(ctx context.Context, f QueueFilter) ([]QueueRecord, error) {
	if f.Queue == "" {
		f.Queue = QueueOutput
	}
	where, args := []string{"queue = $1"}, []any{f.Queue}
	add := func(column, v string) {
		if v != "" {
			args = append(args, text(v))
			where = append(where, fmt.Sprintf("%s = $%d", column, len(args)))
		}
	}
	add("agent", f.Agent)
	add("cluster", f.Cluster)
	add("topic", f.Topic)
	add("source", f.Source)
	add("parent", f.Parent)
	add("agent_correlator", f.Correlator)
	add("state", string(f.State))
	if f.Before > 0 {
		args = append(args, f.Before)
		where = append(where, fmt.Sprintf("seq < $%d", len(args)))
	}
	args = append(args, pageSize(f.Limit))
	rows, err := s.read.QueryContext(ctx, `SELECT `+queueColumns+` FROM ecc_queue WHERE `+strings.Join(where, " AND ")+fmt.Sprintf(" ORDER BY seq DESC LIMIT $%d", len(args)), args...)
	out, err := collect(rows, err, scanQueue)
	return out, s.wrap(err)
}

// ResultPages returns the pages of the attempt that ended the job.
func (s *SQL) ResultPages(ctx context.Context, job string, from int64, limit int) ([]QueueRecord, error) {
	rows, err := s.rows(ctx, `SELECT `+queueColumns+` FROM ecc_queue WHERE queue = 'input' AND response_to = $1 AND pages >= $2 AND state <> 'processing'
		AND attempt = (SELECT attempt FROM ecc_queue j WHERE j.id = $1 AND j.state IN ('processed', 'error')) ORDER BY pages LIMIT $3`, job, from, pageSize(limit))
	out, err := collect(rows, err, scanQueue)
	return out, s.wrap(err)
}

// TakePage marks a page.
func (s *SQL) TakePage(ctx context.Context, id, cause string, now time.Time) error {
	state := QueueProcessed
	if cause != "" {
		state = QueueError
	}
	n, err := s.exec(ctx, `UPDATE ecc_queue SET state = $2, error_string = $3, updated = $4, processed = $4 WHERE id = $1 AND queue = 'input' AND state = 'ready'`, id, string(state), text(cause), ms(now))
	if err == nil && n == 0 {
		if _, err = s.QueueRecord(ctx, id); err == nil {
			err = ErrConflict
		}
	}
	return err
}

// Cancelling lists the started jobs of an agent that are to stop.
func (s *SQL) Cancelling(ctx context.Context, agent string) ([]string, error) {
	rows, err := s.rows(ctx, `SELECT id FROM ecc_queue WHERE agent = $1 AND state = 'processing' AND queue = 'output' AND cancel = 1 ORDER BY seq LIMIT 1000`, agent)
	out, err := collect(rows, err, func(r scanner) (id string, err error) { err = r.Scan(&id); return id, err })
	return out, s.wrap(err)
}

// QueueCounts counts jobs.
func (s *SQL) QueueCounts(ctx context.Context) (map[QueueState]int64, error) {
	out := map[QueueState]int64{}
	rows, err := s.rows(ctx, `SELECT state, count(*) FROM ecc_queue WHERE queue = 'output' GROUP BY state`)
	_, err = collect(rows, err, func(r scanner) (struct{}, error) {
		var state string
		var n int64
		err := r.Scan(&state, &n)
		out[QueueState(state)] = n
		return struct{}{}, err
	})
	return out, s.wrap(err)
}

// ForgetWork removes what has long ended.
func (s *SQL) ForgetWork(ctx context.Context, t time.Time, limit int) (int64, error) {
	jobs := &ask{sql: `DELETE FROM ecc_queue WHERE seq IN (SELECT seq FROM ecc_queue WHERE queue = 'output' AND state IN ('processed', 'error') AND processed > 0 AND processed < $1 ORDER BY seq LIMIT $2)`,
		args: []any{ms(t), int64(limit)}}
	err := s.together(ctx, []*ask{jobs,
		{sql: `DELETE FROM ecc_queue WHERE queue = 'input' AND NOT EXISTS (SELECT 1 FROM ecc_queue j WHERE j.id = ecc_queue.response_to)`}})
	return jobs.n, err
}
