package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// declared is the key that the command is about, as the charter declares it.
func (x *execution) declared() (name string, ck charter.Key, timestamping bool, err error) {
	name = x.req.Command.KeyName()
	c, _ := x.chain.Head()
	ck, ok := c.Keys[name]
	if !ok {
		return name, ck, false, refuse(Code(quorum.KeyUnknown), "no key %s in the charter", name)
	}
	return name, ck, c.Timestamping != nil && c.Timestamping.Key == name, nil
}

// generate executes key.generate. A key that an execution which was cut short has
// generated is adopted: nobody has seen it.
func (x *execution) generate() (*Outcome, error) {
	args := x.req.Command.Generate
	name, ck, timestamping, err := x.declared()
	if err != nil {
		return nil, err
	}
	unlock, err := x.making.lock(x.ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if st := x.state(name); st != nil {
		return nil, refuse(KeyExists, "key %s is %s", name, st.state)
	}
	subject, err := parseName(args.Subject)
	if err != nil {
		return nil, refuse(SubjectInvalid, "%v", err)
	}
	p, err := x.c.provider(ck.URI)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	g, ok := p.(key.Generator)
	if !ok {
		return nil, refuse(KeyKind, "provider %s does not generate keys", p.Name())
	}
	if ck.URI == x.c.ReceiptKey || ck.URI == x.c.LogKey {
		return nil, refuse(KeyExists, "%s is the keeper's own key", ck.URI)
	}
	x.mu.Lock()
	ours := x.made[string(ck.URI)]
	x.mu.Unlock()
	kk, err := p.Open(x.ctx, ck.URI)
	switch {
	case err == nil && !ours:
		return nil, refuse(KeyExists, "%s is there already, and this keeper did not make it", ck.URI)
	case err != nil && !errors.Is(err, key.ErrNotFound):
		return nil, fmt.Errorf("%w: key %s: %w", ErrUnavailable, name, err)
	}
	if err := x.intent(ck.URI); err != nil {
		return nil, err
	}
	if kk == nil {
		if kk, err = g.Generate(x.ctx, ck.URI, ck.Algorithm); err != nil {
			return nil, fmt.Errorf("%w: key %s: %w", ErrUnavailable, name, err)
		}
		x.c.Hook("generated")
	}
	if a, err := sigalg.KeyOf(kk.Public()); err != nil || a != ck.Algorithm {
		return nil, refuse(KeyChanged, "the provider made %s: the charter says %s", a, ck.Algorithm)
	}
	spki, err := marshalSPKI(kk.Public())
	if err != nil {
		return nil, fmt.Errorf("keeper: key %s: %w", name, err)
	}
	res := &statement.KeyResult{Key: name, State: Active, PublicKey: spki}
	s := &certSigner{ctx: x.ctx, key: kk, scheme: ck.SignatureScheme()}
	if res.Request, err = s.request(x.c.Rand, subject); err != nil {
		return nil, x.keyError(context.Background(), name, s.fault(err))
	}
	if args.SelfSignedDays > 0 {
		der, err := s.selfSigned(x.c.Rand, subject, x.at, args.SelfSignedDays, timestamping)
		if err != nil {
			return nil, x.keyError(context.Background(), name, s.fault(err))
		}
		res.Chain = [][]byte{der}
	}
	return x.keyReceipt(res, ck.URI)
}

func (x *execution) keyReceipt(res *statement.KeyResult, uri key.URI) (*Outcome, error) {
	r := x.receipt()
	r.Endorsements = x.grant.Endorsements()
	r.Key = res
	return x.settle(r, outcomeRecord{URI: string(uri)}, nil)
}

// importCertificate executes key.import-certificate.
func (x *execution) importCertificate() (*Outcome, error) {
	name, ck, timestamping, err := x.declared()
	if err != nil {
		return nil, err
	}
	st := x.state(name)
	if err := usable(name, ck, st); err != nil {
		return nil, err
	}
	chain, err := parseChain(x.req.Command.Certificate.Chain)
	if err == nil {
		err = checkChain(chain, st.spki, x.at, timestamping)
	}
	if err != nil {
		return nil, refuse(CertificateInvalid, "%v", err)
	}
	if err := x.intent(st.uri); err != nil {
		return nil, err
	}
	res := st.result(name, st.state)
	res.Chain = x.req.Command.Certificate.Chain
	return x.keyReceipt(res, st.uri)
}

// transition executes key.suspend, key.resume and key.destroy.
func (x *execution) transition() (*Outcome, error) {
	name, _, _, err := x.declared()
	if err != nil {
		return nil, err
	}
	st := x.state(name)
	switch {
	case st == nil:
		return nil, refuse(KeyNotGenerated, "key %s has not been generated", name)
	case st.state == Destroyed:
		return nil, refuse(KeyDestroyed, "key %s is destroyed", name)
	}
	next := ""
	switch x.req.Command.Name {
	case statement.KeySuspend:
		if st.state == Suspended {
			return nil, refuse(KeySuspended, "key %s is suspended already", name)
		}
		next = Suspended
	case statement.KeyResume:
		if st.state != Suspended {
			return nil, refuse(KeyNotSuspended, "key %s is %s", name, st.state)
		}
		next = Active
	case statement.KeyDestroy:
		next = Destroyed
	}
	var d key.Destroyer
	if next == Destroyed {
		p, err := x.c.provider(st.uri)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		ok := false
		if d, ok = p.(key.Destroyer); !ok {
			return nil, refuse(KeyKind, "provider %s does not destroy keys", p.Name())
		}
	}
	if err := x.intent(st.uri); err != nil {
		return nil, err
	}
	if d != nil {
		// Gone already: an execution that was cut short did it, or somebody else.
		if err := d.Destroy(context.WithoutCancel(x.ctx), st.uri); err != nil && !errors.Is(err, key.ErrNotFound) {
			return nil, fmt.Errorf("%w: key %s: %w", ErrUnavailable, name, err)
		}
		x.c.Hook("destroyed")
	}
	return x.keyReceipt(st.result(name, next), st.uri)
}

// replaceCharter executes charter.replace. The quorum of the charter in force was
// judged with the request; what is left is what only a keeper knows.
func (x *execution) replaceCharter() (*Outcome, error) {
	next := x.grant.Next()
	if next == nil {
		return nil, refuse(Code(quorum.CharterInvalid), "no charter")
	}
	if err := x.mine(next.Keeper.Receipts, next.Keeper.LogKey, next.Keeper.Log); err != nil {
		return nil, refuse(KeeperMismatch, "%v", err)
	}
	if head, _ := x.chain.Head(); next.Keeper.Log != head.Keeper.Log {
		// Whoever follows the log knows its checkpoints by that name.
		return nil, refuse(KeeperMismatch, "keeper.log is %q for good: the next charter says %q", head.Keeper.Log, next.Keeper.Log)
	}
	for name, ck := range next.Keys {
		if ck.URI == x.c.ReceiptKey || ck.URI == x.c.LogKey {
			return nil, refuse(KeeperMismatch, "key %s: %s is the keeper's own key", name, ck.URI)
		}
	}
	if links := x.chain.Links(); len(links) > 0 && x.at.Before(links[len(links)-1].At) {
		return nil, fmt.Errorf("%w: the charter in force is younger", ErrClock)
	}
	// What may fail fails before the receipt says that the charter is in force.
	if _, err := x.chain.Replay(next, x.order.Evidence, x.at, quorum.Options{}); err != nil {
		return nil, refuse(Code(quorum.CharterInvalid), "%v", err)
	}
	payload := x.req.Command.Charter.Statement
	ref := next.Ref(payload)
	if err := x.intent(""); err != nil {
		return nil, err
	}
	r := x.receipt()
	r.Endorsements = x.grant.Endorsements()
	r.Next = &ref
	v := outcomeRecord{Request: bytes.Clone(x.order.Evidence.Request)}
	for _, e := range x.order.Evidence.Endorsements {
		v.Endorsements = append(v.Endorsements, bytes.Clone(e))
	}
	return x.settle(r, v, nil)
}
