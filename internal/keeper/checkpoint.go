package keeper

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/statement"
)

// maxProof is the number of hashes of a consistency proof at the most.
const maxProof = 2 * 64

// Checkpoint implements [Keeper]. The same tree gives the same note.
func (k *Local) Checkpoint(ctx context.Context, e *Extension) ([]byte, error) {
	k.law.RLock()
	defer k.law.RUnlock()
	if err := k.working(); err != nil {
		return nil, err
	}
	k.heads.Lock()
	defer k.heads.Unlock()
	at, err := k.now()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	old, chain := k.head, k.chain
	k.mu.Unlock()
	c, _ := chain.Head()
	origin := c.Keeper.Log
	next, err := extension(e)
	if err != nil {
		return nil, err
	}
	was := audit.EmptyTree()
	if old.Note != nil {
		was = audit.Tree{Size: old.Size, Root: tlog.Hash(old.Root)}
	}
	if next == was && old.Note != nil && old.Origin == origin && len(e.Consistency) == 0 {
		return bytes.Clone(old.Note), nil
	}
	p := audit.Consistency{Old: was.Size, New: next.Size}
	for _, h := range e.Consistency {
		p.Hashes = append(p.Hashes, tlog.Hash(h))
	}
	if next.Size < was.Size {
		return nil, fmt.Errorf("%w: it has %d entries, %d were signed", ErrCheckpoint, next.Size, was.Size)
	}
	if err := audit.CheckConsistency(was, next, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	signer, err := audit.NewSigner(origin, k.log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	k.c.Hook("checkpoint")
	note, err := audit.SignCheckpoint(origin, next, signer)
	if err != nil {
		return nil, unavailable(err)
	}
	v := checkpointRecord{Origin: origin, Size: next.Size, Root: next.Root[:], Note: note, At: at.Unix()}
	body, err := format.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	k.c.Hook("checkpoint.signed")
	_, err = k.ledger.AppendFunc(context.WithoutCancel(ctx), func() ([]ledger.Record, error) {
		return []ledger.Record{{Type: recCheckpoint, Body: body}}, nil
	}, func([]int64) {
		k.mu.Lock()
		k.head = v
		k.seen(v.At)
		k.mu.Unlock()
	})
	if err != nil {
		return nil, unavailable(err)
	}
	k.c.Hook("checkpoint.kept")
	return bytes.Clone(note), nil
}

func extension(e *Extension) (audit.Tree, error) {
	t := audit.Tree{Size: e.Size}
	if e.Size < 0 || len(e.Root) != tlog.HashSize || len(e.Consistency) > maxProof {
		return t, fmt.Errorf("%w: tree of %d entries, root of %d bytes, %d hashes", ErrMalformed, e.Size, len(e.Root), len(e.Consistency))
	}
	t.Root = tlog.Hash(e.Root)
	for _, h := range e.Consistency {
		if len(h) != tlog.HashSize {
			return t, fmt.Errorf("%w: hash of %d bytes", ErrMalformed, len(h))
		}
	}
	return t, nil
}

// Public implements crypto.Signer.
func (o ownKey) Public() crypto.PublicKey { return o.pub }

// Sign implements crypto.Signer for messages, as Ed25519 takes them.
func (o ownKey) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != 0 {
		return nil, fmt.Errorf("keeper: own key signs messages only")
	}
	return o.sign(message)
}

// Observe implements [Keeper]. Somebody who holds a receipt of this keeper's that
// is not in its ledger holds the proof that the ledger is an old one, or that
// two keepers have the key.
func (k *Local) Observe(ctx context.Context, receipt []byte) error {
	k.law.RLock()
	defer k.law.RUnlock()
	if err := k.working(); err != nil {
		return err
	}
	r, id, err := k.ownReceipt(receipt)
	if err != nil {
		return err
	}
	k.mu.Lock()
	n := k.tail.number
	var off int64
	if r.Number <= n {
		off = k.numbers[r.Number-1]
	}
	k.mu.Unlock()
	why := ""
	if r.Number > n {
		why = fmt.Sprintf("somebody holds receipt %d, and the ledger ends with %d: it has been rolled back", r.Number, n)
	} else {
		o, _, err := k.outcome(off)
		if err != nil {
			return err
		}
		e, err := statement.DecodeEnvelope(o.Receipt)
		if err != nil {
			return fmt.Errorf("%w: ledger: %w", ErrUnavailable, err)
		}
		if e.ID() == id {
			return nil
		}
		why = fmt.Sprintf("somebody holds another receipt %d than the ledger: it has been rolled back and went on, or two keepers have one key", r.Number)
	}
	k.c.Logger.Error("keeper: stopped", "why", why)
	body, err := format.Encode(stopRecord{Why: why, Receipt: receipt, At: k.c.Clock().Unix()})
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	k.mu.Lock()
	k.stopped = why // at once, whatever the disk says
	k.mu.Unlock()
	if _, err := k.ledger.Append(context.WithoutCancel(ctx), ledger.Record{Type: recStop, Body: body}); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRollback, why, err)
	}
	return fmt.Errorf("%w: %s", ErrRollback, why)
}
