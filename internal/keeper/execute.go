package keeper

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Code is a reason of the keeper's own for a refusal. The others are package
// quorum's.
type Code string

// The codes.
const (
	KeyNotGenerated    Code = "key-not-generated"   // key.generate first
	KeyExists          Code = "key-exists"          // generated before, or there is one that the keeper did not make
	KeySuspended       Code = "key-suspended"       // key.resume first
	KeyNotSuspended    Code = "key-not-suspended"   // of key.resume
	KeyDestroyed       Code = "key-destroyed"       // for good; a name is not used again
	KeyChanged         Code = "key-changed"         // what the provider holds is not the key of the receipts
	KeyFaulty          Code = "key-faulty"          // it made a signature that does not verify; nothing was let out
	KeyKind            Code = "key-kind"            // the provider cannot generate or destroy such keys
	FormatUnknown      Code = "format-unknown"      // this keeper does not have the format
	PlanInvalid        Code = "plan-invalid"        // the format refuses the plan, or asks for another scheme
	ResultTooLarge     Code = "result-too-large"    // sign fewer items at a time
	CertificateInvalid Code = "certificate-invalid" // of key.import-certificate
	SubjectInvalid     Code = "subject-invalid"     // of key.generate: not RFC 4514
	KeeperMismatch     Code = "keeper-mismatch"     // the next charter names other keys for receipts or the log, or calls the log otherwise
)

// refusal is an error that becomes a receipt.
type refusal struct {
	code   string
	detail string
}

func (r *refusal) Error() string { return r.code + ": " + r.detail }

func refuse(c Code, text string, args ...any) *refusal {
	return &refusal{string(c), fmt.Sprintf(text, args...)}
}

// errPreempted ends an execution before its receipt because the law is about to
// change. It is begun again under the new one.
var errPreempted = errors.New("keeper: the law changes")

// execution is one run through the order that the package's comment gives.
type execution struct {
	*Local
	ctx   context.Context
	order *Order
	id    statement.ID
	at    time.Time
	req   *statement.Request
	grant *quorum.Grant
	chain *quorum.Chain
}

// Execute implements [Keeper].
func (k *Local) Execute(ctx context.Context, o *Order) (*Outcome, error) {
	if err := k.size(o); err != nil {
		return nil, err
	}
	_, id, _, err := k.cache.Request(o.Evidence.Request)
	if err != nil {
		return nil, fmt.Errorf("%w: request: %w", ErrMalformed, err)
	}
	x := &execution{Local: k, ctx: ctx, order: o, id: id}
	// One execution of a request at a time: whoever waited finds the receipt.
	unlock, err := k.requests.lock(ctx, x.id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	k.executing.Add(1)
	defer k.executing.Add(-1)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out, err := x.attempt()
		if err != errPreempted {
			return out, unavailable(err)
		}
	}
}

func (k *Local) size(o *Order) error {
	n := int64(len(o.Evidence.Request))
	for _, b := range o.Evidence.Endorsements {
		n += int64(len(b))
	}
	for _, b := range o.Items {
		n += int64(len(b))
	}
	if n > k.c.Limits.Order || len(o.Items) > statement.MaxItems {
		return fmt.Errorf("%w: %d items, %d bytes: at most %d and %d", ErrLimit, len(o.Items), n, statement.MaxItems, k.c.Limits.Order)
	}
	return nil
}

// attempt judges under the law in force and executes.
func (x *execution) attempt() (*Outcome, error) {
	x.law.RLock()
	locked := x.law.RUnlock
	defer func() { locked() }()
	if x.closed {
		return nil, ErrClosed
	}
	if out, err := x.before(); out != nil || err != nil {
		return out, err
	}
	if out, err := x.judge(); out != nil || err != nil {
		return out, err
	}
	switch x.req.Command.Name {
	case statement.Sign, statement.KeyGenerate:
	default:
		// It changes the law: judged again when nobody uses it.
		x.law.RUnlock()
		x.takeLaw()
		locked = x.law.Unlock
		if out, err := x.judge(); out != nil || err != nil {
			return out, err
		}
	}
	x.c.Hook("judged")
	out, err := x.command()
	var r *refusal
	if errors.As(err, &r) {
		return x.refuse(r, x.grant.Endorsements())
	}
	return out, err
}

// before returns the outcome of a request that was executed before.
func (x *execution) before() (*Outcome, error) {
	x.mu.Lock()
	off, ok := x.executed[x.id]
	x.mu.Unlock()
	if !ok {
		return nil, nil
	}
	out, _, err := x.outcome(off)
	return out, err
}

// judge sets grant, or returns a refusal.
func (x *execution) judge() (*Outcome, error) {
	if err := x.working(); err != nil {
		return nil, err
	}
	at, err := x.now()
	if err != nil {
		return nil, err
	}
	x.at = at
	x.mu.Lock()
	x.chain = x.Local.chain
	x.mu.Unlock()
	d, g := x.chain.Judge(x.order.Evidence, at, quorum.Options{Cache: x.cache})
	if g != nil {
		x.grant, x.req = g, g.Request()
		return nil, nil
	}
	switch d.Code {
	case quorum.Malformed, quorum.DeploymentMismatch, quorum.CharterUnknown, quorum.RequesterUnknown, quorum.RequesterSignature:
		// Nobody known asked: the ledger does not grow by it.
		return nil, fmt.Errorf("%w: %s: %s", ErrMalformed, d.Code, d.Reason)
	}
	_, req, err := statement.DecodeEnveloped[statement.Request](x.order.Evidence.Request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	x.req = &req
	reason := d.Reason
	if d.Missing != "" && !strings.Contains(reason, d.Missing) {
		reason += "; missing: " + d.Missing
	}
	counted := []statement.ID{}
	for _, v := range d.Votes {
		if v.Counted {
			counted = append(counted, v.Endorsement)
		}
	}
	return x.refuse(&refusal{string(d.Code), reason}, counted)
}

// command does what was granted. Its error is a *refusal where nothing but the
// ledger is to change.
func (x *execution) command() (*Outcome, error) {
	c := x.req.Command
	switch c.Name {
	case statement.Sign:
		return x.sign()
	case statement.KeyGenerate:
		return x.generate()
	case statement.KeyImportCert:
		return x.importCertificate()
	case statement.KeySuspend, statement.KeyResume, statement.KeyDestroy:
		return x.transition()
	case statement.CharterReplace:
		return x.replaceCharter()
	}
	return nil, fmt.Errorf("%w: command %s", ErrMalformed, c.Name)
}

// intent makes durable what is about to be done.
func (x *execution) intent(uri key.URI) error {
	v := intentRecord{Request: x.id, Command: string(x.req.Command.Name), Digest: x.req.Command.Digest(),
		Key: x.req.Command.KeyName(), URI: string(uri), At: x.at.Unix()}
	body, err := format.Encode(v)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	x.c.Hook("intent")
	_, err = x.ledger.AppendFunc(context.WithoutCancel(x.ctx), func() ([]ledger.Record, error) {
		return []ledger.Record{{Type: recIntent, Body: body}}, nil
	}, func([]int64) {
		x.mu.Lock()
		x.intended(&v)
		x.mu.Unlock()
	})
	if err == nil {
		x.c.Hook("intended")
	}
	return err
}

// receipt is a receipt without what the ledger gives it.
func (x *execution) receipt() statement.Receipt {
	_, ref := x.chain.Head()
	return statement.Receipt{Deployment: x.req.Deployment, Request: x.id, Charter: ref, Command: x.req.Command.Name,
		Outcome: statement.Executed, Time: x.at, Endorsements: []statement.ID{}}
}

// refuse makes the receipt of a refusal, or finds the one that was made before for
// the same request and reason.
func (x *execution) refuse(f *refusal, counted []statement.ID) (*Outcome, error) {
	x.mu.Lock()
	off, again := x.refused[x.id][f.code]
	x.mu.Unlock()
	if again {
		out, _, err := x.outcome(off)
		return out, err
	}
	r := x.receipt()
	r.Outcome, r.Code, r.Detail, r.Endorsements = statement.Refused, f.code, text(f.detail), counted
	return x.settle(r, outcomeRecord{}, nil)
}

// text makes of s what a receipt may carry.
func text(s string) string {
	s = strings.Map(func(r rune) rune { // what a statement may not have
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > 2048 {
		s = strings.ToValidUTF8(s[:2048], "") + " …"
	}
	return s
}

// settle numbers, signs and keeps a receipt. Nobody hears of the outcome before it
// is durable. It does not end with the caller's context: the request would look
// unexecuted while its receipt is on the way.
func (x *execution) settle(r statement.Receipt, v outcomeRecord, res *result) (*Outcome, error) {
	out := &Outcome{Signatures: [][][]byte{}, Chain: [][]byte{}, Also: [][][]byte{}}
	kind := recOutcome
	if res != nil {
		res.show(out)
		var err error
		if kind, v.Result, err = res.encode(); err != nil {
			return nil, fmt.Errorf("keeper: %w", err)
		}
	}
	x.c.Hook("settle")
	var next tail
	_, err := x.ledger.AppendFunc(context.WithoutCancel(x.ctx), func() ([]ledger.Record, error) {
		r.Number, r.Previous = x.draft.number+1, x.draft.id
		payload, err := statement.Encode(r)
		if err != nil {
			return nil, err
		}
		if v.Receipt, err = x.signReceipt(payload); err != nil {
			return nil, err
		}
		body, err := format.Encode(v)
		if err != nil {
			return nil, err
		}
		next = tail{r.Number, statement.IDOf(payload)}
		x.draft = next
		return []ledger.Record{{Type: kind, Body: body}}, nil
	}, func(offs []int64) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if err := x.settled(offs[0], &r, next.id, &v); err != nil {
			// The ledger is ahead of memory, or wrong: neither may go on.
			x.stopped = err.Error()
			x.c.Logger.Error("keeper: stopped", "error", err)
		}
	})
	if err != nil {
		return nil, err
	}
	x.c.Hook("settled")
	x.c.Logger.Info("keeper: receipt", "number", r.Number, "request", r.Request, "command", r.Command, "outcome", r.Outcome, "code", r.Code)
	out.Receipt = v.Receipt
	return out, nil
}

func keyText(pub []byte) string { return base64.StdEncoding.EncodeToString(pub) }
