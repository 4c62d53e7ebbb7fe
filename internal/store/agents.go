package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const enrolmentColumns = `key, name, request, state, version, os, arch, topics, address, created`

func scanEnrolment(r scanner) (AgentEnrolment, error) {
	var e AgentEnrolment
	var key []byte
	var topics string
	var created int64
	err := r.Scan(&key, &e.Name, &e.Request, &e.State, &e.Version, &e.OS, &e.Arch, &topics, &e.Address, &created)
	copy(e.Key[:], key)
	e.Topics, e.Created = strings.Fields(topics), at(created)
	return e, err
}

// Enrol keeps an enrolment.
func (s *SQL) Enrol(ctx context.Context, e *AgentEnrolment, maxWaiting, perName int64) (*AgentEnrolment, error) {
	n, err := s.exec(ctx, `INSERT INTO agent_enrolments (`+enrolmentColumns+`) SELECT $1, $2, $3, 'waiting', $4, $5, $6, $7, $8, $9
		WHERE (SELECT count(*) FROM agent_enrolments WHERE state = 'waiting') < $10 AND (SELECT count(*) FROM agent_enrolments WHERE name = $2 AND state = 'waiting') < $11
		ON CONFLICT DO NOTHING`, e.Key[:], e.Name, blob(e.Request), text(e.Version), text(e.OS), text(e.Arch), strings.Join(e.Topics, " "), text(e.Address), ms(e.Created), maxWaiting, perName)
	if err != nil {
		return nil, err
	}
	kept, err := s.Enrolment(ctx, e.Key)
	if errors.Is(err, ErrNotFound) && n == 0 {
		err = ErrExists
	}
	return kept, err
}

// Enrolment returns one enrolment.
func (s *SQL) Enrolment(ctx context.Context, key [32]byte) (*AgentEnrolment, error) {
	e, err := scanEnrolment(s.write.QueryRowContext(ctx, `SELECT `+enrolmentColumns+` FROM agent_enrolments WHERE key = $1`, key[:]))
	if err != nil {
		return nil, s.wrap(err)
	}
	return &e, nil
}

// Enrolments lists enrolments, the oldest first.
func (s *SQL) Enrolments(ctx context.Context, state string, limit int) ([]AgentEnrolment, error) {
	rows, err := s.rows(ctx, `SELECT `+enrolmentColumns+` FROM agent_enrolments WHERE state = $1 ORDER BY created, key LIMIT $2`, state, pageSize(limit))
	out, err := collect(rows, err, scanEnrolment)
	return out, s.wrap(err)
}

// RefuseEnrolment refuses one that waits.
func (s *SQL) RefuseEnrolment(ctx context.Context, key [32]byte) error {
	n, err := s.exec(ctx, `UPDATE agent_enrolments SET state = 'refused' WHERE key = $1 AND state = 'waiting'`, key[:])
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// ForgetEnrolments removes old ones.
func (s *SQL) ForgetEnrolments(ctx context.Context, t time.Time) error {
	_, err := s.exec(ctx, `DELETE FROM agent_enrolments WHERE state IN ('waiting', 'refused') AND created < $1`, ms(t))
	return err
}

const agentColumns = `name, state, key, next, certificate, not_after, version, os, arch, topics, created, validated, validator, reason, heartbeat, running, spooled, draining, rekey, circle, trust_until`

func scanAgent(r scanner) (Agent, error) {
	var a Agent
	var state, topics string
	var key, next []byte
	var notAfter, created, validated, heartbeat, draining, rekey, trust int64
	err := r.Scan(&a.Name, &state, &key, &next, &a.Certificate, &notAfter, &a.Version, &a.OS, &a.Arch, &topics, &created, &validated, &a.Validator, &a.Reason, &heartbeat,
		&a.Running, &a.Spooled, &draining, &rekey, &a.Circle, &trust)
	copy(a.Key[:], key)
	copy(a.Next[:], next)
	a.State, a.Topics = AgentState(state), strings.Fields(topics)
	a.NotAfter, a.Created, a.Validated, a.Heartbeat, a.TrustUntil = at(notAfter), at(created), at(validated), at(heartbeat), at(trust)
	a.Draining, a.Rekey = draining != 0, rekey != 0
	return a, err
}

// PutAgent makes an agent, or gives it another key.
func (s *SQL) PutAgent(ctx context.Context, a *Agent) error {
	put := &ask{sql: `INSERT INTO agents (` + agentColumns + `) VALUES ($1, 'valid', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', 0, 0, 0, 0, 0, '', 0)
		ON CONFLICT (name) DO UPDATE SET state = 'valid', key = excluded.key, next = excluded.next, certificate = excluded.certificate, not_after = excluded.not_after,
		version = excluded.version, os = excluded.os, arch = excluded.arch, topics = excluded.topics, validated = excluded.validated, validator = excluded.validator, reason = '', rekey = 0`,
		args: []any{a.Name, a.Key[:], []byte{}, blob(a.Certificate), ms(a.NotAfter), text(a.Version), text(a.OS), text(a.Arch), strings.Join(a.Topics, " "), ms(a.Created), ms(a.Validated), text(a.Validator)}}
	return s.together(ctx, []*ask{put,
		{sql: `UPDATE agent_enrolments SET state = 'validated' WHERE key = $1`, args: []any{a.Key[:]}}})
}

// RenewAgent keeps a certificate.
func (s *SQL) RenewAgent(ctx context.Context, name string, key, next [32]byte, chain []byte, notAfter time.Time) error {
	after := next[:]
	if next == ([32]byte{}) {
		after = []byte{}
	}
	n, err := s.exec(ctx, `UPDATE agents SET next = $3, certificate = $4, not_after = $5 WHERE name = $1 AND key = $2 AND state = 'valid'`, name, key[:], after, blob(chain), ms(notAfter))
	if err == nil && n == 0 {
		err = ErrConflict
	}
	return err
}

// PromoteAgent makes next the key.
func (s *SQL) PromoteAgent(ctx context.Context, name string, next [32]byte) error {
	n, err := s.exec(ctx, `UPDATE agents SET key = next, next = $3, rekey = 0 WHERE name = $1 AND next = $2 AND state = 'valid'`, name, next[:], []byte{})
	if err == nil && n == 0 {
		err = ErrConflict
	}
	return err
}

// InvalidateAgent ends an agent. Its enrolment is refused too: the key is spent.
func (s *SQL) InvalidateAgent(ctx context.Context, name, reason string, _ time.Time) error {
	end := &ask{sql: `UPDATE agents SET state = 'invalid', reason = $2, rekey = 0, heartbeat = 0 WHERE name = $1`, args: []any{name, text(reason)}}
	err := s.together(ctx, []*ask{end,
		{sql: `UPDATE agent_enrolments SET state = 'refused' WHERE state = 'validated' AND name = $1`, args: []any{name}}})
	if err == nil && end.n == 0 {
		err = ErrNotFound
	}
	return err
}

// AskRekey asks for a new key.
func (s *SQL) AskRekey(ctx context.Context, name string) error {
	n, err := s.exec(ctx, `UPDATE agents SET rekey = 1 WHERE name = $1 AND state = 'valid'`, name)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// Agent returns one agent.
func (s *SQL) Agent(ctx context.Context, name string) (*Agent, error) {
	a, err := scanAgent(s.row(ctx, `SELECT `+agentColumns+` FROM agents WHERE name = $1`, name))
	if err != nil {
		return nil, s.wrap(err)
	}
	return &a, nil
}

// AgentByKey finds an agent by its key, or its next.
func (s *SQL) AgentByKey(ctx context.Context, key [32]byte) (*Agent, error) {
	var a Agent
	var err error
	for _, where := range []string{
		`key = $1`,
		`next = $1 ORDER BY name LIMIT 1`,
		`key = $1`, // its first use has made it the key meanwhile
	} {
		if a, err = scanAgent(s.row(ctx, `SELECT `+agentColumns+` FROM agents WHERE `+where, key[:])); err == nil {
			return &a, nil
		}
		if err = s.wrap(err); !errors.Is(err, ErrNotFound) {
			break
		}
	}
	return nil, err
}

// Agents lists all agents.
func (s *SQL) Agents(ctx context.Context) ([]Agent, error) {
	rows, err := s.rows(ctx, `SELECT `+agentColumns+` FROM agents ORDER BY name`)
	out, err := collect(rows, err, scanAgent)
	return out, s.wrap(err)
}

// Beat keeps heartbeats.
func (s *SQL) Beat(ctx context.Context, beats []AgentBeat) error {
	// In the order of names: two replicas that take beats of the same agents do not
	// wait for one another in a circle.
	sorted := slices.Clone(beats)
	slices.SortStableFunc(sorted, func(a, b AgentBeat) int { return strings.Compare(a.Name, b.Name) })
	var asks []*ask
	for _, b := range sorted {
		asks = append(asks, &ask{sql: `UPDATE agents SET heartbeat = $2, version = $3, running = $4, spooled = $5, draining = $6, circle = $7, trust_until = $8 WHERE name = $1 AND state = 'valid'`,
			args: []any{b.Name, ms(b.At), text(b.Version), b.Running, b.Spooled, flag(b.Draining), text(b.Circle), ms(b.TrustUntil)}})
	}
	return s.together(ctx, asks)
}

// TouchAgent moves an agent's heartbeat on.
func (s *SQL) TouchAgent(ctx context.Context, name string, now time.Time) error {
	_, err := s.exec(ctx, `UPDATE agents SET heartbeat = $2 WHERE name = $1 AND state = 'valid' AND heartbeat < $2`, name, ms(now))
	return err
}

// PutCluster replaces a cluster.
func (s *SQL) PutCluster(ctx context.Context, c *AgentCluster) error {
	asks := []*ask{
		{sql: `INSERT INTO agent_clusters (name, mode) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET mode = excluded.mode`, args: []any{c.Name, c.Mode}},
		{sql: `DELETE FROM agent_members WHERE cluster = $1`, args: []any{c.Name}},
	}
	for i, m := range c.Members {
		asks = append(asks, &ask{sql: `INSERT INTO agent_members (cluster, agent, position) VALUES ($1, $2, $3)`, args: []any{c.Name, m, int64(i)}})
	}
	return s.together(ctx, asks)
}

// DeleteCluster removes a cluster; its jobs wait for one of that name.
func (s *SQL) DeleteCluster(ctx context.Context, name string) error {
	gone := &ask{sql: `DELETE FROM agent_clusters WHERE name = $1`, args: []any{name}}
	err := s.together(ctx, []*ask{gone, {sql: `DELETE FROM agent_members WHERE cluster = $1`, args: []any{name}}})
	if err == nil && gone.n == 0 {
		err = ErrNotFound
	}
	return err
}

// Clusters lists the clusters.
func (s *SQL) Clusters(ctx context.Context) ([]AgentCluster, error) {
	type row struct{ name, mode, agent string }
	rows, err := s.rows(ctx, `SELECT c.name, c.mode, coalesce(m.agent, '') FROM agent_clusters c LEFT JOIN agent_members m ON m.cluster = c.name ORDER BY c.name, m.position`)
	list, err := collect(rows, err, func(r scanner) (x row, err error) {
		err = r.Scan(&x.name, &x.mode, &x.agent)
		return x, err
	})
	if err != nil {
		return nil, s.wrap(err)
	}
	var out []AgentCluster
	for _, x := range list {
		if len(out) == 0 || out[len(out)-1].Name != x.name {
			out = append(out, AgentCluster{Name: x.name, Mode: x.mode})
		}
		if x.agent != "" {
			last := &out[len(out)-1]
			last.Members = append(last.Members, x.agent)
		}
	}
	return out, nil
}

const rejectionColumns = `seq, id, time, agent, job, attempt, topic, code, subject, detail, records`

func scanRejection(r scanner) (AgentRejection, error) {
	var x AgentRejection
	var when, attempt int64
	err := r.Scan(&x.Sequence, &x.ID, &when, &x.Agent, &x.Job, &attempt, &x.Topic, &x.Code, &x.Subject, &x.Detail, &x.Records)
	x.Time, x.Attempt = at(when), uint64(attempt)
	return x, err
}

// Rejections lists rejections, newest first.
func (s *SQL) Rejections(ctx context.Context, agent, job string, before int64, limit int) ([]AgentRejection, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	// What is not asked for does not stand in the query: nobody plans an index for it.
	c := &conditions{}
	if agent != "" {
		c.and("agent = ?", agent)
	}
	if job != "" {
		c.and("job = ?", job)
	}
	c.and("seq < ?", before)
	c.args = append(c.args, pageSize(limit))
	rows, err := s.rows(ctx, `SELECT `+rejectionColumns+` FROM agent_rejections`+c.where()+fmt.Sprintf(` ORDER BY seq DESC LIMIT $%d`, len(c.args)), c.args...)
	out, err := collect(rows, err, scanRejection)
	return out, s.wrap(err)
}

// Rejection returns one rejection.
func (s *SQL) Rejection(ctx context.Context, id string) (*AgentRejection, error) {
	x, err := scanRejection(s.row(ctx, `SELECT `+rejectionColumns+` FROM agent_rejections WHERE id = $1`, id))
	if err != nil {
		return nil, s.wrap(err)
	}
	return &x, nil
}
