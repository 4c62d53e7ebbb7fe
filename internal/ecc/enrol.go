package ecc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
)

// Peer is an agent that has proved who it is.
type Peer struct {
	agent store.Agent
	key   [32]byte
}

// Name is the agent's name.
func (p *Peer) Name() string { return p.agent.Name }

// Peer tells who shows a certificate. The caller, a TLS listener, has seen the proof
// that the other side holds its key. ErrInvalidated is all that it says to those
// who are nobody, ErrNotValidated to those who may become somebody.
func (s *Service) Peer(ctx context.Context, leaf *x509.Certificate) (*Peer, error) {
	if leaf == nil {
		return nil, ErrInvalidated
	}
	id, err := s.certs.check(s.cfg.Authority, leaf, s.now())
	if err != nil {
		return nil, ErrInvalidated
	}
	for again := false; ; again = true {
		a, err := s.cfg.Store.AgentByKey(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, ErrInvalidated
		case err != nil:
			return nil, err
		case a.State != store.AgentValid || a.Name != leaf.Subject.CommonName:
			return nil, ErrInvalidated
		case a.Key == id:
			return &Peer{agent: *a, key: id}, nil
		}
		// The first use of a new key is the end of the old one.
		err = s.cfg.Store.PromoteAgent(ctx, a.Name, id)
		switch {
		case err == nil:
			s.log.Info("an agent uses its new key", "agent", a.Name, "fingerprint", hex.EncodeToString(id[:]))
			a.Key, a.Next = id, [32]byte{}
			return &Peer{agent: *a, key: id}, nil
		case !errors.Is(err, store.ErrConflict):
			return nil, err
		case again:
			return nil, ErrInvalidated
		}
		// Of calls that come together another one was the first.
	}
}

// Enrolment is what somebody says who wants to be an agent.
type Enrolment struct {
	Name     string
	Request  []byte // PKCS #10, DER
	Version  string
	OS, Arch string
	Topics   []string
	Address  string // from where
}

// Enrolled is where an enrolment stands.
type Enrolled struct {
	State        string // store.EnrolmentWaiting, Validated or Refused
	Fingerprint  string
	Certificates [][]byte // when it is validated
	Clusters     []string
	RetryAfter   time.Duration
}

const maxRequest = 16 << 10

// request checks a PKCS #10 request: it proves that its sender has the key.
func request(der []byte, name string) (crypto.PublicKey, [32]byte, error) {
	if len(der) > maxRequest {
		return nil, [32]byte{}, ErrTooLarge
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, [32]byte{}, malformed("no certificate request")
	}
	switch k := r.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, [32]byte{}, malformed("want an Ed25519, P-256 or P-384 key")
		}
	default:
		return nil, [32]byte{}, malformed("want an Ed25519, P-256 or P-384 key")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, [32]byte{}, malformed("the request is not signed by its key")
	}
	if r.Subject.CommonName != name {
		return nil, [32]byte{}, malformed("the request names another agent")
	}
	id, err := keyID(r.PublicKey)
	return r.PublicKey, id, err
}

func (e *Enrolment) check() error {
	if !order.ValidName(e.Name) {
		return malformed("name: want 1 to 64 letters, digits, '-', '_' and '.'")
	}
	if len(e.Version) > 64 || len(e.OS) > 32 || len(e.Arch) > 32 || len(e.Address) > 64 || len(e.Topics) > 64 {
		return malformed("a text of the enrolment is too long")
	}
	for _, t := range e.Topics {
		if !order.ValidTopic(t) {
			return malformed("topics: want letters and digits")
		}
	}
	return nil
}

// Enrol takes in who wants to be an agent, or says what has become of it. Anybody
// may call it.
func (s *Service) Enrol(ctx context.Context, e Enrolment) (*Enrolled, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	_, id, err := request(e.Request, e.Name)
	if err != nil {
		return nil, err
	}
	// A key that is an agent's already, also one that it was given by rekeying.
	if a, err := s.cfg.Store.AgentByKey(ctx, id); err == nil {
		return s.enrolled(ctx, a, id, e.Name)
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	kept, err := s.cfg.Store.Enrol(ctx, &store.AgentEnrolment{Key: id, Name: e.Name, Request: e.Request, Version: e.Version, OS: e.OS, Arch: e.Arch, Topics: slices.Clone(e.Topics),
		Address: e.Address, Created: s.now()}, s.cfg.Limits.Waiting, s.cfg.Limits.PerName)
	if errors.Is(err, store.ErrExists) {
		return nil, ErrTooMany
	}
	if err != nil {
		return nil, err
	}
	out := &Enrolled{State: kept.State, Fingerprint: hex.EncodeToString(id[:]), RetryAfter: s.cfg.Times.Poll}
	if kept.Name != e.Name {
		return nil, malformed("the key is enrolled under another name")
	}
	if kept.State != store.EnrolmentValidated {
		return out, nil
	}
	// It is an agent's key, of this moment; or it was one, and is not any more.
	a, err := s.cfg.Store.AgentByKey(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		out.State = store.EnrolmentRefused
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	return s.enrolled(ctx, a, id, e.Name)
}

func (s *Service) enrolled(ctx context.Context, a *store.Agent, id [32]byte, name string) (*Enrolled, error) {
	out := &Enrolled{State: store.EnrolmentValidated, Fingerprint: hex.EncodeToString(id[:])}
	if a.State != store.AgentValid || a.Name != name || !s.now().Before(a.NotAfter) { // its certificate has ended: another key is wanted
		out.State = store.EnrolmentRefused
		return out, nil
	}
	out.Certificates = Chain(a.Certificate)
	var err error
	out.Clusters, _, err = s.clustersOf(ctx, a.Name)
	return out, err
}

// Enrolments lists those that wait.
func (s *Service) Enrolments(ctx context.Context, limit int) ([]store.AgentEnrolment, error) {
	return s.cfg.Store.Enrolments(ctx, store.EnrolmentWaiting, limit)
}

// ParseFingerprint reads the SHA-256 of a public key, hexadecimal, colons or not.
func ParseFingerprint(s string) (id [32]byte, err error) {
	var digits []byte
	for _, c := range []byte(s) {
		if c != ':' && c != ' ' {
			digits = append(digits, c)
		}
	}
	b, err := hex.DecodeString(string(digits))
	if err != nil || len(b) != len(id) {
		return id, malformed("want a fingerprint of 64 hexadecimal digits")
	}
	return [32]byte(b), nil
}

// Validate makes the one whose key has this fingerprint an agent. An agent of that
// name gets this key in the place of its own.
func (s *Service) Validate(ctx context.Context, fingerprint, by string) (*store.Agent, error) {
	id, err := ParseFingerprint(fingerprint)
	if err != nil {
		return nil, err
	}
	e, err := s.cfg.Store.Enrolment(ctx, id)
	if err != nil {
		return nil, err
	}
	if e.State != store.EnrolmentWaiting {
		return nil, store.ErrConflict
	}
	pub, got, err := request(e.Request, e.Name)
	if err != nil || got != id { // what is in the database is not believed
		return nil, malformed("the enrolment in the database is not that of the fingerprint")
	}
	now := s.now()
	chain, notAfter, err := s.cfg.Authority.issue(e.Name, pub, now, s.cfg.Times.Certificate)
	if err != nil {
		return nil, err
	}
	a := &store.Agent{Name: e.Name, Key: id, Certificate: chain, NotAfter: notAfter, Version: e.Version, OS: e.OS, Arch: e.Arch, Topics: e.Topics, Created: now, Validated: now, Validator: by}
	if err := s.cfg.Store.PutAgent(ctx, a); err != nil {
		return nil, err
	}
	s.log.Info("an agent was validated", "agent", e.Name, "fingerprint", hex.EncodeToString(id[:]), "by", by)
	s.changed()
	return s.cfg.Store.Agent(ctx, e.Name)
}

// Refuse refuses an enrolment that waits.
func (s *Service) Refuse(ctx context.Context, fingerprint, by string) error {
	id, err := ParseFingerprint(fingerprint)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.RefuseEnrolment(ctx, id); err != nil {
		return err
	}
	s.log.Info("an enrolment was refused", "fingerprint", hex.EncodeToString(id[:]), "by", by)
	return nil
}

// Rekey certifies another key for an agent that calls with its own. The old one is
// good until the new one is used.
func (s *Service) Rekey(ctx context.Context, p *Peer, der []byte) (*Enrolled, error) {
	pub, id, err := request(der, p.agent.Name)
	if err != nil {
		return nil, err
	}
	if id == p.key {
		return nil, malformed("the key is the same")
	}
	if a, err := s.cfg.Store.AgentByKey(ctx, id); err == nil {
		if a.Name == p.agent.Name && a.Next == id && a.State == store.AgentValid {
			return s.enrolled(ctx, a, id, a.Name) // the answer was lost
		}
		return nil, malformed("the key is another's")
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if e, err := s.cfg.Store.Enrolment(ctx, id); err == nil && e.State != store.EnrolmentWaiting {
		return nil, malformed("the key was refused")
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	chain, notAfter, err := s.cfg.Authority.issue(p.agent.Name, pub, s.now(), s.cfg.Times.Certificate)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Store.RenewAgent(ctx, p.agent.Name, p.key, id, chain, notAfter); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return nil, ErrInvalidated
		}
		return nil, err
	}
	s.log.Info("an agent was given a new key", "agent", p.agent.Name, "fingerprint", hex.EncodeToString(id[:]))
	a, err := s.cfg.Store.Agent(ctx, p.agent.Name)
	if err != nil {
		return nil, err
	}
	return s.enrolled(ctx, a, id, a.Name)
}

// Beat is one heartbeat.
type Beat struct {
	Version    string
	Running    int64
	Spooled    int64
	Draining   bool
	Circle     string // digest of the trust in force
	TrustUntil time.Time
}

// Pulse is the answer to a Beat.
type Pulse struct {
	Clusters   []string
	Rekey      bool
	Cancel     []string
	PullCircle bool
	Renewed    [][]byte // a certificate for the same key
}

// Heartbeat keeps what an agent says of itself, and tells it what to do.
func (s *Service) Heartbeat(ctx context.Context, p *Peer, b Beat) (*Pulse, error) {
	if len(b.Version) > 64 || len(b.Circle) > 128 {
		return nil, malformed("a text of the heartbeat is too long")
	}
	now := s.now()
	if _, err := s.beats.do(ctx, store.AgentBeat{Name: p.agent.Name, Version: b.Version, Running: b.Running, Spooled: b.Spooled, Draining: b.Draining, Circle: b.Circle, TrustUntil: b.TrustUntil, At: now}); err != nil {
		return nil, err
	}
	s.Metrics.Beats.Add(1)
	out := &Pulse{Rekey: p.agent.Rekey}
	var err error
	if out.Clusters, _, err = s.clustersOf(ctx, p.agent.Name); err != nil {
		return nil, err
	}
	if out.Cancel, err = s.cfg.Store.Cancelling(ctx, p.agent.Name); err != nil {
		return nil, err
	}
	if s.cfg.Circles != nil {
		_, digest, err := s.cfg.Circles.Bundles(ctx)
		if err != nil {
			s.log.Warn("the circle of trust cannot be read", "error", err)
		} else {
			out.PullCircle = digest != "" && digest != b.Circle
		}
	}
	if now.After(p.agent.NotAfter.Add(-s.cfg.Times.Certificate/3)) && p.agent.Next == ([32]byte{}) {
		if out.Renewed, err = s.renew(ctx, p, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// renew certifies the agent's own key again.
func (s *Service) renew(ctx context.Context, p *Peer, now time.Time) ([][]byte, error) {
	var pub crypto.PublicKey
	if old, err := x509.ParseCertificates(p.agent.Certificate); err == nil && len(old) > 0 {
		if id, err := keyID(old[0].PublicKey); err == nil && id == p.key {
			pub = old[0].PublicKey
		}
	}
	if pub == nil {
		return nil, nil
	}
	chain, notAfter, err := s.cfg.Authority.issue(p.agent.Name, pub, now, s.cfg.Times.Certificate)
	if err != nil {
		return nil, err
	}
	switch err := s.cfg.Store.RenewAgent(ctx, p.agent.Name, p.key, [32]byte{}, chain, notAfter); {
	case errors.Is(err, store.ErrConflict):
		return nil, ErrInvalidated
	case err != nil:
		return nil, err
	}
	return Chain(chain), nil
}

// Circle are the bundles of the circle of trust.
func (s *Service) Circle(ctx context.Context) ([][]byte, error) {
	if s.cfg.Circles == nil {
		return nil, nil
	}
	b, _, err := s.cfg.Circles.Bundles(ctx)
	return b, err
}

// Status is an agent as administrators see it.
type Status struct {
	store.Agent
	Up       bool
	Clusters []string
}

// Agents lists the agents.
func (s *Service) Agents(ctx context.Context) ([]Status, error) {
	list, err := s.cfg.Store.Agents(ctx)
	if err != nil {
		return nil, err
	}
	clusters, err := s.cfg.Store.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	now := s.now()
	out := make([]Status, len(list))
	for i := range list {
		out[i] = Status{Agent: list[i], Up: s.up(&list[i], now)}
		for _, c := range clusters {
			if slices.Contains(c.Members, list[i].Name) {
				out[i].Clusters = append(out[i].Clusters, c.Name)
			}
		}
	}
	return out, nil
}

// Agent returns one agent.
func (s *Service) Agent(ctx context.Context, name string) (*Status, error) {
	a, err := s.cfg.Store.Agent(ctx, name)
	if err != nil {
		return nil, err
	}
	member, _, err := s.clustersOf(ctx, name)
	return &Status{Agent: *a, Up: s.up(a, s.now()), Clusters: member}, err
}

// Invalidate ends an agent. Jobs of its own wait; those of its clusters go to other
// members, unless they have begun.
func (s *Service) Invalidate(ctx context.Context, name, reason, by string) error {
	if len(reason) > 500 {
		return malformed("reason: want at most 500 bytes")
	}
	if err := s.cfg.Store.InvalidateAgent(ctx, name, reason, s.now()); err != nil {
		return err
	}
	s.log.Warn("an agent was invalidated", "agent", name, "by", by)
	s.changed()
	return nil
}

// AskRekey asks an agent for a new key with its next heartbeat.
func (s *Service) AskRekey(ctx context.Context, name string) error {
	return s.cfg.Store.AskRekey(ctx, name)
}

// maxMembers bounds a cluster.
const maxMembers = 256

// PutCluster makes or replaces a cluster. The order of members is that of fail-over.
func (s *Service) PutCluster(ctx context.Context, c store.AgentCluster) error {
	if !order.ValidName(c.Name) || c.Mode != store.ClusterBalance && c.Mode != store.ClusterFailover || len(c.Members) > maxMembers {
		return malformed("want a name, the mode balance or failover, and at most %d members", maxMembers)
	}
	for i, m := range c.Members {
		if slices.Contains(c.Members[:i], m) {
			return malformed("a member stands twice")
		}
		if _, err := s.cfg.Store.Agent(ctx, m); err != nil {
			return err
		}
	}
	if err := s.cfg.Store.PutCluster(ctx, &c); err != nil {
		return err
	}
	s.changed()
	return nil
}

// DeleteCluster removes a cluster; jobs for it wait until there is one of that name
// again.
func (s *Service) DeleteCluster(ctx context.Context, name string) error {
	if err := s.cfg.Store.DeleteCluster(ctx, name); err != nil {
		return err
	}
	s.changed()
	return nil
}

// Clusters lists the clusters.
func (s *Service) Clusters(ctx context.Context) ([]store.AgentCluster, error) {
	return s.cfg.Store.Clusters(ctx)
}
