package verify

import (
	"encoding/json/jsontext"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/merkle"
)

// EvidenceVersion is the version of the evidence document that this package
// writes. It reads every version from 1.
const EvidenceVersion = 1

// Evidence is the proof that travels with a signed file, as NAME.evidence.json:
// all that is needed to judge, with no server, who approved the signature, under
// which charter, and that the log holds it.
type Evidence struct {
	Version      int              `json:"version"`
	Chain        jsontext.Value   `json:"charters"`     // the charter chain, as quorum.EncodeChain writes it
	Request      jsontext.Value   `json:"request"`      // DSSE envelope
	Endorsements []jsontext.Value `json:"endorsements"` // DSSE envelopes, in the order in which the keeper had them
	Receipt      jsontext.Value   `json:"receipt"`      // DSSE envelope
	File         EvidenceFile     `json:"file"`
	Log          EvidenceLog      `json:"log"`
}

// EvidenceFile is one file of the request and the signature made for it.
type EvidenceFile struct {
	Item           []byte        `json:"item"`               // format.Item, encoded
	ItemProof      merkle.Proof  `json:"itemProof"`          // to the request's root
	Signatures     [][]byte      `json:"signatures"`         // one a round
	SignatureProof merkle.Proof  `json:"signatureProof"`     // to the receipt's root
	Certificates   [][]byte      `json:"certificates"`       // DER, leaf first; none for a key without
	PublicKey      []byte        `json:"publicKey,omitzero"` // SubjectPublicKeyInfo, DER: of a key without certificates, and of no other
	Also           []EvidenceKey `json:"also,omitzero"`      // further keys that signed, in the policy's order
}

// EvidenceKey is one more key that signed.
type EvidenceKey struct {
	Certificates [][]byte `json:"certificates"`       // as EvidenceFile's
	PublicKey    []byte   `json:"publicKey,omitzero"` // as EvidenceFile's
}

// EvidenceLog shows that the log holds the receipt.
type EvidenceLog struct {
	Checkpoint string          `json:"checkpoint"` // signed note
	Entry      []byte          `json:"entry"`      // the receipt's entry
	Inclusion  audit.Inclusion `json:"inclusion"`
}
