package keeper

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// The states of a key (NIST SP 800-57 part 1, section 7).
const (
	PreActivation = "pre-activation"
	Active        = "active"
	Suspended     = "suspended"
	Destroyed     = "destroyed"
)

// maxBackwards is how far the clock may stand before the ledger's last record.
const maxBackwards = 60 * time.Second

// patience is how long a status waits for all providers together.
const patience = 2 * time.Second

// Local is a keeper in this process: the only thing that holds providers.
type Local struct {
	c          Config
	formats    map[string]format.Format
	receipts   ownKey
	receiptKey *receipt.Key
	log        ownKey
	cache      *quorum.Cache

	// law orders executions: those that only use the law in force (charter,
	// states and certificates of keys) share it, those that change it hold it
	// alone. Who wants to change it raises preempt first, and long executions
	// then give up and begin again.
	law     sync.RWMutex
	preempt atomic.Int32
	quit    atomic.Pointer[interrupt] // replaced with law held alone
	closed  bool                      // guarded by law

	executing atomic.Int32 // orders in hand

	requests names[statement.ID] // one execution of a request at a time
	making   names[string]       // one generation of a key at a time
	heads    sync.Mutex          // one checkpoint at a time

	considering sync.Mutex // one consideration at a time

	stamps stamps

	ledger *ledger.Ledger
	draft  tail // the committer's own: what the batch that is being built ends with

	mu       sync.Mutex // guards what follows; held for look-ups only
	identity *identityRecord
	chain    *quorum.Chain // nil before the founding; set once
	tail     tail
	numbers  []int64                           // offsets of outcomes, number n at n-1
	executed map[statement.ID]int64            // offset of the outcome
	refused  map[statement.ID]map[string]int64 // by code
	intents  map[statement.ID]bool             // those that no outcome has closed
	made     map[string]bool                   // URIs that an intent may have generated, and no receipt names
	keys     map[string]*keyState
	open     map[string]key.Key
	head     checkpointRecord
	last     int64 // latest time in the ledger, Unix seconds
	stopped  string
}

// interrupt ends waiting for keys under a law that is about to change: a device
// that hangs must not keep its key from being suspended.
type interrupt struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func newInterrupt() *interrupt {
	ctx, cancel := context.WithCancel(context.Background())
	return &interrupt{ctx, cancel}
}

// takeLaw takes law alone, and ends what runs under it.
func (k *Local) takeLaw() {
	k.preempt.Add(1)
	k.quit.Load().cancel()
	k.law.Lock()
	q := newInterrupt()
	k.quit.Store(q)
	if k.preempt.Add(-1) > 0 {
		q.cancel() // whoever waits for the law may have cancelled the one before
	}
}

// tail is the last receipt.
type tail struct {
	number uint64
	id     statement.ID
}

// keyState is a key as the last receipt about it says. It is replaced, not changed.
type keyState struct {
	state string
	uri   key.URI
	spki  []byte
	pub   crypto.PublicKey
	der   [][]byte
	chain []*x509.Certificate
}

var _ Keeper = (*Local)(nil)

// Open opens a keeper that Init made: it reads the whole ledger, verifies the
// charter chain anew and goes on where the last process ended.
func Open(ctx context.Context, c Config) (*Local, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	k := &Local{
		c: c, formats: map[string]format.Format{}, cache: c.Cache,
		executed: map[statement.ID]int64{}, refused: map[statement.ID]map[string]int64{},
		intents: map[statement.ID]bool{}, made: map[string]bool{},
		keys: map[string]*keyState{}, open: map[string]key.Key{},
	}
	k.quit.Store(newInterrupt())
	for _, f := range c.Formats {
		k.formats[f.Name()] = f
	}
	var err error
	if k.receipts, err = own(ctx, &c, c.ReceiptKey, false); err != nil {
		return nil, err
	}
	if k.log, err = own(ctx, &c, c.LogKey, false); err != nil {
		return nil, err
	}
	if k.receiptKey, err = receipt.NewKey(k.receipts.pub); err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	var lastReceipt []byte
	k.ledger, err = ledger.OpenFile(ledgerPath(c.Dir), ledger.Options{
		Logger: c.Logger, Hook: c.Hook,
		Company: func() int { return int(k.executing.Load()) },
		Begin:   func() { k.draft = k.tail }, // only the committer writes tail
		Replay:  func(off int64, r ledger.Record) error { return k.replay(off, r, &lastReceipt) },
	})
	if err != nil {
		return nil, err
	}
	err = k.opened(lastReceipt)
	if err != nil {
		k.ledger.Close()
		return nil, err
	}
	return k, nil
}

func (k *Local) opened(lastReceipt []byte) error {
	if k.identity == nil {
		return errors.New("keeper: the ledger is empty: run init to the end")
	}
	if !bytes.Equal(k.identity.Receipts, k.receipts.pub) || !bytes.Equal(k.identity.Log, k.log.pub) {
		return errors.New("keeper: its own keys are not those that the ledger names")
	}
	if lastReceipt != nil {
		// Each receipt names the one before: the last signature covers them all.
		if _, _, err := k.ownReceipt(lastReceipt); err != nil {
			return fmt.Errorf("keeper: last receipt of the ledger: %w", err)
		}
	}
	if k.chain != nil && k.c.Pin != (statement.ID{}) && k.chain.Root() != k.c.Pin {
		return fmt.Errorf("%w: the ledger's is %s", ErrPin, k.chain.Root())
	}
	return nil
}

// replay takes one record of the ledger.
func (k *Local) replay(off int64, r ledger.Record, lastReceipt *[]byte) error {
	if (k.identity == nil) != (r.Type == recIdentity) {
		return errors.New("keeper: the ledger's identity is not its first record")
	}
	switch r.Type {
	case recIdentity:
		var v identityRecord
		if err := format.Decode(r.Body, &v); err != nil {
			return err
		}
		k.identity = &v
		k.seen(v.At)
	case recFounding:
		if k.chain != nil {
			return errors.New("keeper: founded twice")
		}
		ch, err := quorum.NewChain(nil, r.Body)
		if err != nil {
			return err
		}
		k.chain = ch
	case recIntent:
		var v intentRecord
		if err := format.Decode(r.Body, &v); err != nil {
			return err
		}
		k.intended(&v)
	case recOutcome, recHybrid:
		var v outcomeRecord
		if err := format.Decode(r.Body, &v); err != nil {
			return err
		}
		e, err := statement.DecodeEnvelope(v.Receipt)
		if err != nil {
			return err
		}
		rc, err := statement.Decode[statement.Receipt](e.Payload)
		if err != nil {
			return err
		}
		*lastReceipt = v.Receipt
		return k.settled(off, &rc, e.ID(), &v)
	case recCheckpoint:
		var v checkpointRecord
		if err := format.Decode(r.Body, &v); err != nil {
			return err
		}
		if v.Size < k.head.Size {
			return errors.New("keeper: checkpoints of the ledger go back")
		}
		k.head = v
		k.seen(v.At)
	case recSerials:
		var v serialsRecord
		if err := format.Decode(r.Body, &v); err != nil {
			return err
		}
		k.stamps.next, k.stamps.limit = v.Limit, v.Limit
		k.seen(v.At)
	case recStop:
		var v stopRecord
		if err := format.Decode(r.Body, &v); err != nil {
			return err
		}
		k.stopped = v.Why
	default:
		return fmt.Errorf("keeper: record of unknown type %d: a later version wrote it", r.Type)
	}
	return nil
}

func (k *Local) seen(at int64) { k.last = max(k.last, at) }

func (k *Local) intended(v *intentRecord) {
	k.intents[v.Request] = true
	if statement.CommandName(v.Command) == statement.KeyGenerate {
		k.made[v.URI] = true
	}
	k.seen(v.At)
}

// settled brings the state of memory to after a receipt, for replay and for the
// committer alike.
func (k *Local) settled(off int64, r *statement.Receipt, id statement.ID, v *outcomeRecord) error {
	if r.Number != k.tail.number+1 || r.Previous != k.tail.id {
		return fmt.Errorf("keeper: receipt %d does not follow receipt %d", r.Number, k.tail.number)
	}
	if _, twice := k.executed[r.Request]; twice && r.Outcome == statement.Executed {
		return fmt.Errorf("keeper: receipt %d: its request was executed before", r.Number)
	}
	if r.Outcome == statement.Refused {
		if k.refused[r.Request] == nil {
			k.refused[r.Request] = map[string]int64{}
		}
		k.refused[r.Request][r.Code] = off
	} else {
		if n := r.Next; n != nil {
			if k.chain == nil {
				return errors.New("keeper: charter replaced before the founding")
			}
			if err := k.chain.Extend(v.evidence(), r.Time); err != nil {
				return err
			}
			if _, head := k.chain.Head(); head != *n {
				return fmt.Errorf("keeper: receipt %d names another charter than its request", r.Number)
			}
		}
		if r.Key != nil {
			ks, err := newKeyState(r.Key, key.URI(v.URI))
			if err != nil {
				return err
			}
			k.keys[r.Key.Key] = ks
			delete(k.made, v.URI)
			delete(k.open, r.Key.Key)
		}
		k.executed[r.Request] = off
		delete(k.refused, r.Request)
	}
	delete(k.intents, r.Request)
	k.tail = tail{r.Number, id}
	k.numbers = append(k.numbers, off)
	k.seen(r.Time.Unix())
	return nil
}

func newKeyState(r *statement.KeyResult, uri key.URI) (*keyState, error) {
	pub, err := x509.ParsePKIXPublicKey(r.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("keeper: key %s: %w", r.Key, err)
	}
	chain, err := parseChain(r.Chain)
	if err != nil {
		return nil, fmt.Errorf("keeper: key %s: %w", r.Key, err)
	}
	return &keyState{state: r.State, uri: uri, spki: r.PublicKey, pub: pub, der: r.Chain, chain: chain}, nil
}

func (s *keyState) result(name, state string) *statement.KeyResult {
	return &statement.KeyResult{Key: name, State: state, PublicKey: s.spki, Chain: s.der}
}

func parseChain(der [][]byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for i, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// now is the keeper's clock, if it can be believed.
func (k *Local) now() (time.Time, error) {
	t := statement.Seconds(k.c.Clock())
	k.mu.Lock()
	last := time.Unix(k.last, 0)
	k.mu.Unlock()
	if t.Before(last.Add(-maxBackwards)) {
		return t, fmt.Errorf("%w: it is %s, and %s in the ledger", ErrClock, t.Format(time.RFC3339), last.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// working says why nothing is executed, or nil. The caller holds law.
func (k *Local) working() error {
	if k.closed {
		return ErrClosed
	}
	k.mu.Lock()
	why, chain := k.stopped, k.chain
	k.mu.Unlock()
	if why != "" {
		return fmt.Errorf("%w: %s", ErrStopped, why)
	}
	if err := k.ledger.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	if chain == nil {
		return ErrNotFounded
	}
	return nil
}

// Status implements [Keeper].
func (k *Local) Status(ctx context.Context) (*Status, error) {
	s, c, err := k.snapshot()
	if err != nil || c == nil {
		return s, err
	}
	// Providers are asked without the law, and not waited for: one that hangs holds
	// up nobody else.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	health := map[string]string{}
	for name, ck := range c.Keys {
		st := k.state(name)
		ks := KeyStatus{Name: name, State: PreActivation, PublicKey: []byte{}, Chain: [][]byte{}}
		if st != nil {
			ks.State, ks.PublicKey, ks.Chain = st.state, bytes.Clone(st.spki), append([][]byte{}, st.der...)
		}
		pn := ck.URI.Provider()
		if _, known := health[pn]; !known {
			health[pn] = k.health(ctx, pn)
		}
		if ks.Health = health[pn]; ks.Health == "" && ks.State == Active {
			if _, err := k.key(ctx, name, ck, st); err != nil {
				ks.Health = err.Error()
			}
		}
		s.Keys = append(s.Keys, ks)
	}
	slices.SortFunc(s.Keys, func(a, b KeyStatus) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// snapshot is a status but for the keys, and the charter in force.
func (k *Local) snapshot() (*Status, *charter.Charter, error) {
	k.law.RLock()
	defer k.law.RUnlock()
	if k.closed {
		return nil, nil, ErrClosed
	}
	s := &Status{ReceiptKey: bytes.Clone(k.receipts.pub), LogKey: bytes.Clone(k.log.pub), Version: k.c.Version, Keys: []KeyStatus{}}
	if err := k.working(); err != nil && !errors.Is(err, ErrNotFounded) {
		s.Stopped = err.Error()
	} else if _, err := k.now(); err != nil {
		s.Stopped = err.Error()
	}
	k.mu.Lock()
	s.Receipts, s.LastReceipt = k.tail.number, k.tail.id
	s.Checkpoint = append([]byte{}, k.head.Note...)
	chain := k.chain
	k.mu.Unlock()
	if chain == nil {
		return s, nil, nil
	}
	c, ref := chain.Head()
	s.Charter = ref
	return s, c, nil
}

func (k *Local) health(ctx context.Context, provider string) string {
	p := k.c.Providers[provider]
	if p == nil {
		return fmt.Sprintf("no provider %q", provider)
	}
	if err := p.Health(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// Receipts implements [Keeper]. It ends early before its answer becomes large.
func (k *Local) Receipts(ctx context.Context, from uint64, limit int) ([]*Outcome, error) {
	k.law.RLock()
	defer k.law.RUnlock()
	if k.closed {
		return nil, ErrClosed
	}
	k.mu.Lock()
	var offs []int64
	if from >= 1 && from <= uint64(len(k.numbers)) && limit > 0 {
		offs = k.numbers[from-1:]
		offs = slices.Clone(offs[:min(len(offs), limit)])
	}
	k.mu.Unlock()
	out := []*Outcome{}
	size := 0
	for _, off := range offs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		o, n, err := k.outcome(off)
		if err != nil {
			return nil, err
		}
		if size += n; len(out) > 0 && size > 32<<20 {
			break
		}
		out = append(out, o)
	}
	return out, nil
}

// outcome reads an outcome back from the ledger.
func (k *Local) outcome(off int64) (*Outcome, int, error) {
	r, err := k.ledger.Read(off)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var v outcomeRecord
	if err := format.Decode(r.Body, &v); err != nil || r.Type != recOutcome && r.Type != recHybrid {
		return nil, 0, fmt.Errorf("%w: ledger: no outcome at offset %d: %w", ErrUnavailable, off, err)
	}
	o := &Outcome{Receipt: v.Receipt, Signatures: [][][]byte{}, Chain: [][]byte{}, Also: [][][]byte{}}
	if len(v.Result) > 0 {
		res, err := decodeResult(r.Type, v.Result)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: ledger: %w", ErrUnavailable, err)
		}
		res.show(o)
	}
	return o, len(r.Body), nil
}

// Chain implements [Keeper].
func (k *Local) Chain(context.Context) ([]byte, error) {
	k.mu.Lock()
	chain := k.chain
	k.mu.Unlock()
	if chain == nil {
		return nil, ErrNotFounded
	}
	return chain.Encode()
}

// Found implements [Keeper]. Founding again with the same charter changes nothing.
func (k *Local) Found(ctx context.Context, envelope []byte) error {
	k.law.Lock()
	defer k.law.Unlock()
	if err := k.working(); err != nil && !errors.Is(err, ErrNotFounded) {
		return err
	}
	if k.c.Pin == (statement.ID{}) {
		return fmt.Errorf("%w: none is pinned", ErrPin)
	}
	if _, err := k.now(); err != nil {
		return err
	}
	k.mu.Lock()
	chain := k.chain
	k.mu.Unlock()
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if chain != nil {
		if chain.Root() == e.ID() {
			return nil
		}
		return fmt.Errorf("%w: %s", ErrFounded, chain.Root())
	}
	if e.ID() != k.c.Pin {
		return fmt.Errorf("%w: it is %s, and %s is pinned", ErrPin, e.ID(), k.c.Pin)
	}
	next, err := quorum.NewChain(&k.c.Pin, envelope)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, _ := next.Head()
	if err := k.mine(c.Keeper.Receipts, c.Keeper.LogKey, c.Keeper.Log); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	k.c.Hook("found")
	_, err = k.ledger.AppendFunc(context.WithoutCancel(ctx), func() ([]ledger.Record, error) {
		return []ledger.Record{{Type: recFounding, Body: envelope}}, nil
	}, func([]int64) {
		k.mu.Lock()
		k.chain = next
		k.mu.Unlock()
	})
	return unavailable(err)
}

// mine checks that a charter names this keeper's own keys.
func (k *Local) mine(receipts, log, origin string) error {
	for what, p := range map[string]struct {
		text string
		own  ed25519.PublicKey
	}{"receipts": {receipts, k.receipts.pub}, "logKey": {log, k.log.pub}} {
		if p.text != keyText(p.own) {
			return fmt.Errorf("keeper: the charter's keeper.%s is not this keeper's: want %q", what, keyText(p.own))
		}
	}
	if _, err := audit.NewVerifier(origin, k.log.pub); err != nil {
		return fmt.Errorf("keeper: the charter's keeper.log: %w", err)
	}
	return nil
}

// Close ends the keeper after what is under way. Providers are the caller's.
func (k *Local) Close() error {
	k.takeLaw()
	defer k.law.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return k.ledger.Close()
}

// unavailable makes of an error of the ledger one that callers know.
func unavailable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrStopped):
		return fmt.Errorf("%w: %w", ErrStopped, err)
	case errors.Is(err, ledger.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case ErrorCode(err) != "internal":
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (k *Local) state(name string) *keyState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[name]
}
