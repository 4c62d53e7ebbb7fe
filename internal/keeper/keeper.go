// Package keeper holds the keys. It judges evidence itself and alone uses the
// keys; everything else in the system is a messenger.
//
// The order of one command: charter chain, request, times, policy and key state,
// quorum, grant, assembly of what is to be signed, intent in the ledger, key,
// own signature checked, receipt in the ledger.
//
// Invariants:
//
//  1. A key signs only what a quorum.Grant covers, a receipt, a checkpoint that
//     extends the last one, or a timestamp of its own authority.
//  2. The intent is durable before the key is used, the receipt before anybody
//     hears of the signature.
//  3. Receipts are numbered without a gap and chained. A command that was
//     executed is never executed again: asking again returns its receipt.
//  4. The charter only moves forward, by one version, by its own quorum.
//  5. A refusal changes nothing but the ledger.
//
// The package parses plans and evidence, never artifacts.
package keeper

import (
	"context"

	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Keeper is what the rest of the system sees of it: the same interface in
// process, over a Unix socket and over mutual TLS.
type Keeper interface {
	// Status says who the keeper is and how it is.
	Status(ctx context.Context) (*Status, error)
	// Execute judges and executes a command. A refusal is not an error: it is an
	// Outcome whose receipt says why. An error means that nothing is known of the
	// outcome; asking again is safe.
	Execute(ctx context.Context, o *Order) (*Outcome, error)
	// Consider checks the signatures of evidence that is not complete yet, so that
	// an order that brings it again costs no public-key operation for them. It
	// changes nothing that lasts and says nothing of what an order would come to.
	// It is done when there is nothing else of the kind to do, or not at all: nil
	// does not say that anything was checked.
	Consider(ctx context.Context, ev quorum.Evidence) error
	// Checkpoint signs the head of the log, if it extends the last one signed.
	Checkpoint(ctx context.Context, e *Extension) ([]byte, error)
	// Timestamp answers an RFC 3161 request (DER) with a response (DER).
	Timestamp(ctx context.Context, request []byte) ([]byte, error)
	// Receipts returns up to limit outcomes beginning with number from, so that a
	// server can fill what it lost.
	Receipts(ctx context.Context, from uint64, limit int) ([]*Outcome, error)
	// Observe shows the keeper a receipt of its own that somebody holds. A keeper
	// whose ledger ends before it has been rolled back, and stops.
	Observe(ctx context.Context, receipt []byte) error
	// Chain returns the charter chain, as quorum.EncodeChain writes it.
	Chain(ctx context.Context) ([]byte, error)
	// Found installs version 1 of the charter in a keeper that has none. It is
	// refused unless the keeper was started with its ID pinned.
	Found(ctx context.Context, envelope []byte) error
	// Close releases what the implementation holds.
	Close() error
}

// Order is a command with all that is needed to judge it.
type Order struct {
	Evidence quorum.Evidence `cbor:"1,keyasint"`
	Items    [][]byte        `cbor:"2,keyasint"` // of sign: every item, encoded, in the order of the tree
}

// Outcome is what became of a command.
type Outcome struct {
	Receipt    []byte     `cbor:"1,keyasint"` // DSSE envelope
	Signatures [][][]byte `cbor:"2,keyasint"` // of sign: per item, per round, the signature value
	Chain      [][]byte   `cbor:"3,keyasint"` // of sign: the certificates in force, DER, leaf first
	Also       [][][]byte `cbor:"4,keyasint"` // of sign: the same of each further key
}

// Extension asks for a checkpoint: the new tree and the proof that it contains
// the last one signed.
type Extension struct {
	Size        int64    `cbor:"1,keyasint"`
	Root        []byte   `cbor:"2,keyasint"`
	Consistency [][]byte `cbor:"3,keyasint"` // from the size of Status.Checkpoint to Size; empty from 0
}

// Status is the keeper's own word on itself.
type Status struct {
	ReceiptKey  []byte               `cbor:"1,keyasint"` // Ed25519
	LogKey      []byte               `cbor:"2,keyasint"` // Ed25519
	Charter     statement.CharterRef `cbor:"3,keyasint"` // zero before the founding
	Receipts    uint64               `cbor:"4,keyasint"` // number of the last one
	LastReceipt statement.ID         `cbor:"5,keyasint"`
	Checkpoint  []byte               `cbor:"6,keyasint"` // last signed note; empty before the first
	Keys        []KeyStatus          `cbor:"7,keyasint"`
	Version     string               `cbor:"8,keyasint"`
	Stopped     string               `cbor:"9,keyasint"` // why it executes nothing; empty when it works
}

// KeyStatus is one key of the charter.
type KeyStatus struct {
	Name      string   `cbor:"1,keyasint"`
	State     string   `cbor:"2,keyasint"` // pre-activation, active, suspended, destroyed
	PublicKey []byte   `cbor:"3,keyasint"` // SubjectPublicKeyInfo, DER; empty before it is generated
	Chain     [][]byte `cbor:"4,keyasint"`
	Health    string   `cbor:"5,keyasint"` // empty: usable
}
