package keeper

import (
	"errors"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// The records of the ledger. A type that is added gets a new number; a field that
// is added gets a new record type, for decoding is strict.
const (
	recIdentity   ledger.Type = 1 // first, once
	recFounding   ledger.Type = 2 // body: the founding envelope
	recIntent     ledger.Type = 3
	recOutcome    ledger.Type = 4
	recCheckpoint ledger.Type = 5
	recSerials    ledger.Type = 6
	recStop       ledger.Type = 7
	recHybrid     ledger.Type = 8 // an outcome of several keys
)

type identityRecord struct {
	Receipts []byte `cbor:"1,keyasint"` // Ed25519
	Log      []byte `cbor:"2,keyasint"` // Ed25519
	At       int64  `cbor:"3,keyasint"` // Unix seconds, here and below
}

// intentRecord stands before the key is used. It is closed by an outcome of the
// same request; one that is not closed belongs to an execution that was cut short.
type intentRecord struct {
	Request statement.ID `cbor:"1,keyasint"`
	Command string       `cbor:"2,keyasint"`
	Digest  string       `cbor:"3,keyasint"` // of the command
	Key     string       `cbor:"4,keyasint"`
	URI     string       `cbor:"5,keyasint"`
	At      int64        `cbor:"6,keyasint"`
}

// outcomeRecord is a receipt and what belongs to it.
type outcomeRecord struct {
	Receipt      []byte   `cbor:"1,keyasint"` // envelope
	Result       []byte   `cbor:"2,keyasint"` // of sign: resultRecord
	URI          string   `cbor:"3,keyasint"` // of key.…: where the key is
	Request      []byte   `cbor:"4,keyasint"` // of charter.replace: the evidence
	Endorsements [][]byte `cbor:"5,keyasint"`
}

func (o *outcomeRecord) evidence() quorum.Evidence {
	return quorum.Evidence{Request: o.Request, Endorsements: o.Endorsements}
}

// resultRecord is the result of one key.
type resultRecord struct {
	Signatures [][][]byte `cbor:"1,keyasint"`
	Chain      [][]byte   `cbor:"2,keyasint"`
}

// hybridRecord is the result of several keys.
type hybridRecord struct {
	Signatures [][][]byte `cbor:"1,keyasint"`
	Chains     [][][]byte `cbor:"2,keyasint"`
}

// result is what signing made: the signatures of each item, and the certificates
// of each key.
type result struct {
	signatures [][][]byte
	chains     [][][]byte
}

func (r *result) encode() (ledger.Type, []byte, error) {
	if len(r.chains) == 1 {
		b, err := format.Encode(resultRecord{r.signatures, r.chains[0]})
		return recOutcome, b, err
	}
	b, err := format.Encode(hybridRecord{r.signatures, r.chains})
	return recHybrid, b, err
}

// decodeResult is the inverse of encode.
func decodeResult(t ledger.Type, b []byte) (*result, error) {
	if t == recHybrid {
		var v hybridRecord
		if err := format.Decode(b, &v); err != nil {
			return nil, err
		}
		if len(v.Chains) < 2 {
			return nil, errors.New("result of several keys with one")
		}
		return &result{v.Signatures, v.Chains}, nil
	}
	var v resultRecord
	if err := format.Decode(b, &v); err != nil {
		return nil, err
	}
	return &result{v.Signatures, [][][]byte{v.Chain}}, nil
}

// show puts the result into an outcome.
func (r *result) show(out *Outcome) {
	out.Signatures, out.Chain, out.Also = r.signatures, r.chains[0], r.chains[1:]
}

type checkpointRecord struct {
	Origin string `cbor:"1,keyasint"`
	Size   int64  `cbor:"2,keyasint"`
	Root   []byte `cbor:"3,keyasint"`
	Note   []byte `cbor:"4,keyasint"`
	At     int64  `cbor:"5,keyasint"`
}

// serialsRecord reserves the timestamps' serial numbers below Limit.
type serialsRecord struct {
	Limit uint64 `cbor:"1,keyasint"`
	At    int64  `cbor:"2,keyasint"`
}

// stopRecord says why nothing is executed any more. A ledger that is restored
// does not have it.
type stopRecord struct {
	Why     string `cbor:"1,keyasint"`
	Receipt []byte `cbor:"2,keyasint"` // what showed it
	At      int64  `cbor:"3,keyasint"`
}
