package statement

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/sigalg"
)

// ReceiptType is the predicate type of receipts.
const ReceiptType = "https://greatseal.io/receipt/v1"

// Outcome is what became of a command.
type Outcome string

// The outcomes.
const (
	Executed Outcome = "executed"
	Refused  Outcome = "refused"
)

// Receipt is the keeper's record of one command, executed or refused. Receipts
// of a keeper are numbered from 1 without a gap and chained: Previous is the ID
// of the receipt before.
type Receipt struct {
	Deployment   string      `json:"deployment"`
	Number       uint64      `json:"number"`
	Previous     ID          `json:"previous"` // zero for number 1
	Request      ID          `json:"request"`
	Charter      CharterRef  `json:"charter"` // in force when it was judged
	Command      CommandName `json:"command"`
	Outcome      Outcome     `json:"outcome"`
	Code         string      `json:"code,omitzero"`   // why refused: one of the reason codes
	Detail       string      `json:"detail,omitzero"` // the same, for people
	Time         time.Time   `json:"time"`            // the keeper's clock
	Endorsements []ID        `json:"endorsements"`    // those counted, in the order of the evidence

	Signed *SignedResult `json:"signed,omitzero"` // of sign
	Key    *KeyResult    `json:"key,omitzero"`    // of key.…
	Next   *CharterRef   `json:"next,omitzero"`   // of charter.replace: now in force
}

// SignedResult is what sign did.
type SignedResult struct {
	Policy     string        `json:"policy"`
	Key        string        `json:"key"`
	PublicKey  string        `json:"publicKey"` // SHA-256 of the SubjectPublicKeyInfo, hexadecimal
	Chain      string        `json:"chain"`     // SHA-256 over the certificates' DER, leaf first; "" without certificates
	Scheme     sigalg.Scheme `json:"scheme"`
	Count      int           `json:"count"`
	Items      string        `json:"items"`         // Merkle root over the items, as requested
	Signatures string        `json:"signatures"`    // Merkle root over the items' signatures, in the same order
	Also       []KeyUse      `json:"also,omitzero"` // further keys that signed the same items, in the policy's order
}

// KeyUse is one more key that signed.
type KeyUse struct {
	Key       string        `json:"key"`
	PublicKey string        `json:"publicKey"` // as SignedResult's
	Chain     string        `json:"chain"`     // as SignedResult's
	Scheme    sigalg.Scheme `json:"scheme"`
}

// MaxAlso is the number of further keys of one policy.
const MaxAlso = 3

// Keys are the keys that signed, in their order.
func (s *SignedResult) Keys() []KeyUse {
	return append([]KeyUse{{s.Key, s.PublicKey, s.Chain, s.Scheme}}, s.Also...)
}

// KeyResult is what became of a key.
type KeyResult struct {
	Key       string   `json:"key"`
	State     string   `json:"state"`              // SP 800-57: pre-activation, active, suspended, destroyed
	PublicKey []byte   `json:"publicKey,omitzero"` // SubjectPublicKeyInfo, DER
	Request   []byte   `json:"request,omitzero"`   // PKCS #10 certificate request, DER
	Chain     [][]byte `json:"chain,omitzero"`     // certificates now in force, DER, leaf first
}

// checkAlso refuses further keys without a scheme, and one that signs twice.
func (s *SignedResult) checkAlso() error {
	if len(s.Also) > MaxAlso || s.Also != nil && len(s.Also) == 0 {
		return fmt.Errorf("statement: receipt of signing with %d further keys: want 1 to %d, or none", len(s.Also), MaxAlso)
	}
	seen := map[string]bool{s.Key: true}
	for _, k := range s.Also {
		_, err := merkle.ParseHash(k.PublicKey)
		if err := errors.Join(CheckName("key", k.Key), err); err != nil {
			return err
		}
		if !k.Scheme.Valid() || seen[k.Key] {
			return errors.New("statement: receipt of signing: a further key without a scheme, or twice")
		}
		seen[k.Key] = true
	}
	return nil
}

// PredicateType is ReceiptType.
func (Receipt) PredicateType() string { return ReceiptType }

// Subject is the request, by its ID.
func (r Receipt) Subject() Subject {
	return Subject{Name: r.Deployment + "/" + string(r.Command), Digest: map[string]string{"greatsealStatement": r.Request.String()}}
}

// Check refuses a receipt that contradicts itself.
func (r Receipt) Check() error {
	if err := errors.Join(CheckName("deployment", r.Deployment), CheckTime("time", r.Time),
		checkText("code", r.Code), checkText("detail", r.Detail)); err != nil {
		return err
	}
	if r.Number == 0 || r.Charter.Version == 0 {
		return errors.New("statement: receipt without a number or a charter")
	}
	if (r.Number == 1) != (r.Previous == ID{}) {
		return errors.New("statement: receipt: only number 1 has no predecessor")
	}
	known := slices.Contains(Commands(), r.Command)
	switch r.Outcome {
	case Refused:
		if !known && r.Command != "" { // "": of a request that could not be read
			return fmt.Errorf("statement: unknown command %.80q", r.Command)
		}
		if r.Code == "" || r.Signed != nil || r.Key != nil || r.Next != nil {
			return errors.New("statement: a refusal has a code and no result")
		}
		return nil
	case Executed:
		if r.Code != "" {
			return errors.New("statement: receipt of an executed command has no code")
		}
		if !known {
			return fmt.Errorf("statement: unknown command %.80q", r.Command)
		}
	default:
		return fmt.Errorf("statement: outcome %.80q: want %s or %s", r.Outcome, Executed, Refused)
	}
	if (r.Command == Sign) != (r.Signed != nil) || (r.Command == CharterReplace) != (r.Next != nil) {
		return errors.New("statement: receipt's result is not that of its command")
	}
	if (r.Key != nil) != (r.Signed == nil && r.Next == nil) {
		return errors.New("statement: receipt's result is not that of its command")
	}
	if n := r.Next; n != nil && (n.Version != r.Charter.Version+1 || n.ID.IsZero()) {
		return errors.New("statement: receipt of charter.replace: the next charter's version is one more")
	}
	if k := r.Key; k != nil {
		if err := errors.Join(CheckName("key", k.Key), CheckName("state", k.State)); err != nil {
			return err
		}
	}
	if s := r.Signed; s != nil {
		if err := errors.Join(CheckName("policy", s.Policy), CheckName("key", s.Key)); err != nil {
			return err
		}
		_, err1 := merkle.ParseHash(s.Items)
		_, err2 := merkle.ParseHash(s.Signatures)
		_, err3 := merkle.ParseHash(s.PublicKey)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		if !s.Scheme.Valid() || s.Count < 1 {
			return errors.New("statement: receipt of signing without a scheme or a count")
		}
		return s.checkAlso()
	}
	return nil
}
