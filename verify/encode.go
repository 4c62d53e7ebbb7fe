package verify

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of an evidence document.
const (
	MaxEvidence     = quorum.MaxChain + 64<<20 // bytes
	MaxSignatures   = format.MaxSignatures     // of one file
	MaxSignature    = 64 << 10                 // bytes of one
	MaxCertificates = 8
	MaxCertificate  = 16 << 10 // bytes of one, or of a public key
	maxCheckpoint   = 64 << 10
	maxPath         = 64 // hashes of a proof
)

// What callers branch on. Every error of DecodeEvidence and Judge wraps
// ErrEvidence; errors of File that are about the file wrap ErrFile.
var (
	ErrEvidence = errors.New("verify: evidence")
	ErrFile     = errors.New("verify: file")
)

// RootFromFounding is the ID of the first charter, from its envelope: what a
// verifier pins. It does not verify the envelope; the chain does.
func RootFromFounding(envelope []byte) (statement.ID, error) {
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return statement.ID{}, fmt.Errorf("verify: founding charter: %w", err)
	}
	return e.ID(), nil
}

// Encode writes the document in its one form: JSON without white space, members
// in the order of the structs. It refuses what exceeds a limit.
func (e *Evidence) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return e.encode()
}

func (e *Evidence) encode() ([]byte, error) {
	b, err := json.Marshal(e, json.Deterministic(true), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	return b, nil
}

// DecodeEvidence reads what Encode wrote, and nothing else. It judges nothing.
func DecodeEvidence(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("%w: %d bytes: at most %d", ErrEvidence, len(b), MaxEvidence)
	}
	var e Evidence
	if err := json.Unmarshal(b, &e, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	again, err := e.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %w", ErrEvidence, statement.ErrEncoding)
	}
	return &e, nil
}

// check holds the limits: before work is done on a document, and before one that
// nobody could read is written.
func (e *Evidence) check() error {
	f, l := &e.File, &e.Log
	type limit struct {
		what      string
		n, lo, hi int
	}
	limits := []limit{
		{"endorsements", len(e.Endorsements), 0, quorum.MaxEndorsements},
		{"bytes of charters", len(e.Chain), 2, quorum.MaxChain},
		{"bytes of item", len(f.Item), 1, format.MaxItem},
		{"signatures", len(f.Signatures), 1, MaxSignatures},
		{"further keys", len(f.Also), 0, statement.MaxAlso},
		{"hashes of item proof", len(f.ItemProof.Path), 0, maxPath},
		{"hashes of signature proof", len(f.SignatureProof.Path), 0, maxPath},
		{"bytes of checkpoint", len(l.Checkpoint), 1, maxCheckpoint},
		{"bytes of log entry", len(l.Entry), 1, audit.MaxEntry},
	}
	for _, s := range f.Signatures {
		limits = append(limits, limit{"bytes of signature", len(s), 1, MaxSignature})
	}
	keys := append([]EvidenceKey{{f.Certificates, f.PublicKey}}, f.Also...)
	for _, k := range keys {
		limits = append(limits, limit{"certificates", len(k.Certificates), 0, MaxCertificates}, limit{"bytes of public key", len(k.PublicKey), 0, MaxCertificate})
		for _, c := range k.Certificates {
			limits = append(limits, limit{"bytes of certificate", len(c), 1, MaxCertificate})
		}
	}
	if e.Version != EvidenceVersion {
		return fmt.Errorf("%w: version %d: this verifier knows %d", ErrEvidence, e.Version, EvidenceVersion)
	}
	for _, x := range limits {
		if x.n < x.lo || x.n > x.hi {
			return fmt.Errorf("%w: %s: %d: want %d to %d", ErrEvidence, x.what, x.n, x.lo, x.hi)
		}
	}
	for _, k := range keys {
		if (len(k.Certificates) > 0) == (len(k.PublicKey) > 0) {
			return fmt.Errorf("%w: certificates or a public key are wanted, one of the two", ErrEvidence)
		}
	}
	for _, p := range []merkle.Proof{f.ItemProof, f.SignatureProof} {
		if p.Size < 1 || p.Size > statement.MaxItems || p.Index < 0 || p.Index >= p.Size {
			return fmt.Errorf("%w: proof of %d in %d", ErrEvidence, p.Index, p.Size)
		}
	}
	return nil
}
