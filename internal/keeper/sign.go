package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// job is one item on its way.
type job struct {
	format format.Format
	plan   *format.Plan
	first  []format.ToBeSigned
	sigs   [][]byte
}

// signer is one of the keys that sign.
type signer struct {
	name string
	key  key.Key
	st   *keyState
	alg  sigalg.Key
}

// signers opens the keys of a policy, in their order.
func (x *execution) signers(ctx, quit context.Context, names []string) ([]signer, format.Identity, error) {
	var none format.Identity
	c, _ := x.chain.Head()
	out := make([]signer, len(names))
	var ids []format.Identity
	for i, name := range names {
		ck, declared := c.Keys[name]
		if !declared {
			return nil, none, refuse(Code(quorum.KeyUnknown), "no key %s in the charter", name)
		}
		st := x.state(name)
		if err := usable(name, ck, st); err != nil {
			return nil, none, err
		}
		kk, err := x.key(ctx, name, ck, st)
		if err != nil {
			return nil, none, x.keyError(quit, name, err)
		}
		out[i] = signer{name, kk, st, ck.Algorithm}
		ids = append(ids, format.Identity{Scheme: ck.SignatureScheme(), Public: st.pub, Chain: st.chain})
	}
	id := ids[0]
	if len(ids) > 1 {
		id.Also = ids[1:]
	}
	return out, id, nil
}

// sign executes a command to sign.
func (x *execution) sign() (*Outcome, error) {
	args := x.req.Command.Sign
	c, _ := x.chain.Head()
	ck, declared := c.Keys[args.Key]
	if !declared {
		return nil, refuse(Code(quorum.KeyUnknown), "no key %s in the charter", args.Key)
	}
	if err := usable(args.Key, ck, x.state(args.Key)); err != nil {
		return nil, err
	}
	plans, err := x.grant.Covered(x.order.Items)
	if err != nil {
		var r *quorum.Refusal
		if errors.As(err, &r) {
			return nil, &refusal{string(r.Code), r.Detail}
		}
		return nil, err
	}
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	quit := x.quit.Load().ctx
	defer context.AfterFunc(quit, cancel)()
	signers, id, err := x.signers(ctx, quit, append([]string{args.Key}, c.Policies[args.Policy].Also...))
	if err != nil {
		return nil, err
	}

	jobs := make([]job, len(x.order.Items))
	err = x.parallel(len(jobs), func(i int) error {
		j, err := x.prepare(plans[i], id)
		if err != nil {
			return item(i, err)
		}
		jobs[i] = *j
		return nil
	})
	if err != nil {
		return nil, err
	}
	var each int64
	for _, t := range jobs[0].first {
		each += signatureSize(signers[t.Key].alg)
	}
	if n := int64(len(jobs)) * each; n > x.c.Limits.Result {
		return nil, refuse(ResultTooLarge, "%d bytes of signatures: at most %d", n, x.c.Limits.Result)
	}

	if err := x.intent(ck.URI); err != nil {
		return nil, err
	}
	var total atomic.Int64
	err = x.parallel(len(jobs), func(i int) error {
		if err := x.rounds(ctx, quit, &jobs[i], signers, id, &total); err != nil {
			return item(i, err)
		}
		return nil
	})
	switch {
	case errors.Is(err, errPreempted):
		return nil, errPreempted
	case err != nil:
		return nil, err
	}
	x.c.Hook("signed")

	res := &result{signatures: make([][][]byte, len(jobs))}
	leaves := make([]merkle.Hash, len(jobs))
	for i := range jobs {
		res.signatures[i] = jobs[i].sigs
		leaves[i] = format.SignatureLeaf(format.Leaf(x.order.Items[i]), jobs[i].sigs)
	}
	root, err := merkle.Root(merkle.Signatures, leaves)
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	var uses []statement.KeyUse
	for i, one := range id.Signers() {
		s := signers[i]
		spki := sha256.Sum256(s.st.spki)
		uses = append(uses, statement.KeyUse{Key: s.name, PublicKey: hex.EncodeToString(spki[:]), Chain: chainDigest(s.st.der), Scheme: one.Scheme})
		res.chains = append(res.chains, s.st.der)
	}
	r := x.receipt()
	r.Endorsements = x.grant.Endorsements()
	r.Signed = &statement.SignedResult{Policy: args.Policy, Key: uses[0].Key, PublicKey: uses[0].PublicKey, Chain: uses[0].Chain, Scheme: uses[0].Scheme,
		Count: len(jobs), Items: args.Items, Signatures: root.String()}
	if len(uses) > 1 {
		r.Signed.Also = uses[1:]
	}
	return x.settle(r, outcomeRecord{}, res)
}

// chainDigest is SHA-256 over the certificates' DER, leaf first; "" for none.
func chainDigest(der [][]byte) string {
	if len(der) == 0 {
		return ""
	}
	h := sha256.New()
	for _, d := range der {
		h.Write(d)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func item(i int, err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return &refusal{r.code, fmt.Sprintf("item %d: %s", i, r.detail)}
	}
	return fmt.Errorf("keeper: item %d: %w", i, err)
}

// prepare assembles what the first round of an item signs.
func (x *execution) prepare(plan *format.Plan, id format.Identity) (*job, error) {
	f := x.formats[plan.Format]
	if f == nil {
		return nil, refuse(FormatUnknown, "%.80q", plan.Format)
	}
	j := &job{format: f, plan: plan}
	err := format.CheckKeys(f, 1+len(id.Also))
	if err != nil {
		return nil, refuse(PlanInvalid, "%v", err)
	}
	if j.first, err = x.assemble(j, id); err != nil {
		return nil, err
	}
	// The plan is one that the format made; what it is for is the policy's to allow,
	// whatever the request says that it is for.
	c, _ := x.chain.Head()
	if err := format.CheckPurposes(f, plan, c.Policies[x.req.Command.Sign.Policy].Purposes); err != nil {
		return nil, refuse(Code(quorum.PurposeNotAllowed), "%v", err)
	}
	if len(j.first) == 0 {
		return nil, refuse(PlanInvalid, "nothing to sign")
	}
	return j, nil
}

// assemble asks the format what comes next and holds it to the key's scheme.
func (x *execution) assemble(j *job, id format.Identity) (tbs []format.ToBeSigned, err error) {
	defer func() {
		if p := recover(); p != nil {
			// A plan is hostile input: it must not end the keeper.
			x.c.Logger.Error("keeper: format panicked", "format", j.plan.Format, "panic", p)
			tbs, err = nil, refuse(PlanInvalid, "format %s: internal error", j.plan.Format)
		}
	}()
	id.Chain, id.Also = slices.Clone(id.Chain), slices.Clone(id.Also)
	tbs, err = format.Next(j.format, j.plan, id, x.at, slices.Clone(j.sigs))
	if err != nil {
		return nil, refuse(PlanInvalid, "%v", err)
	}
	if len(j.sigs)+len(tbs) > format.MaxSignatures {
		return nil, refuse(PlanInvalid, "more than %d signatures", format.MaxSignatures)
	}
	signers := id.Signers()
	for _, t := range tbs {
		if t.Key < 0 || t.Key >= len(signers) {
			return nil, refuse(PlanInvalid, "key %d: %d sign", t.Key, len(signers))
		}
		if want := signers[t.Key].Scheme; t.Scheme != want {
			return nil, refuse(PlanInvalid, "scheme %s: the key signs under %s", t.Scheme, want)
		}
		if err := t.Check(); err != nil {
			return nil, refuse(PlanInvalid, "%v", err)
		}
	}
	return tbs, nil
}

// rounds signs a job until its format asks for nothing more.
func (x *execution) rounds(ctx, quit context.Context, j *job, signers []signer, id format.Identity, total *atomic.Int64) error {
	pubs := id.Signers()
	tbs := j.first
	j.first = nil
	for round := 1; len(tbs) > 0; round++ {
		if round > format.MaxRounds {
			return refuse(PlanInvalid, "more than %d rounds", format.MaxRounds)
		}
		for _, t := range tbs {
			by := signers[t.Key]
			sig, err := by.key.Sign(ctx, t.Scheme, t.Input())
			if err != nil {
				return x.keyError(quit, by.name, err)
			}
			// A fault in the device must not leave it: one wrong RSA-CRT
			// signature gives the key away.
			if err := t.Verify(pubs[t.Key].Public, sig); err != nil {
				return refuse(KeyFaulty, "own signature of key %s does not verify", by.name)
			}
			if total.Add(int64(len(sig))) > x.c.Limits.Result {
				return refuse(ResultTooLarge, "more than %d bytes of signatures", x.c.Limits.Result)
			}
			j.sigs = append(j.sigs, sig)
		}
		var err error
		if tbs, err = x.assemble(j, id); err != nil {
			return err
		}
	}
	return nil
}

// parallel calls do for 0 to n-1 by a bounded number of workers. It gives up when
// one fails, when the context ends, and when the law is about to change; of
// several errors it returns that of the lowest index that it knows.
func (x *execution) parallel(n int, do func(i int) error) error {
	check := func() error {
		if x.preempt.Load() > 0 {
			return errPreempted
		}
		return x.ctx.Err()
	}
	if n == 1 {
		if err := check(); err != nil {
			return err
		}
		return do(0)
	}
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	at := n
	fail := func(i int, err error) {
		mu.Lock()
		if i < at {
			first, at = err, i
		}
		mu.Unlock()
		next.Store(int64(n))
	}
	var wg sync.WaitGroup
	for range min(n, x.c.Limits.Workers) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				err := check()
				if err == nil {
					err = do(i)
				}
				if err != nil {
					fail(i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// usable refuses a key that is not active.
func usable(name string, ck charter.Key, st *keyState) error {
	switch {
	case st == nil:
		return refuse(KeyNotGenerated, "key %s has not been generated", name)
	case st.state == Suspended:
		return refuse(KeySuspended, "key %s is suspended", name)
	case st.state == Destroyed:
		return refuse(KeyDestroyed, "key %s is destroyed", name)
	case st.state != Active:
		return refuse(KeyNotGenerated, "key %s is in state %s", name, st.state)
	}
	if k, err := sigalg.KeyOf(st.pub); err != nil || k != ck.Algorithm || !ck.SignatureScheme().Fits(k) {
		return refuse(KeyChanged, "key %s is %s: the charter says %s, %s", name, k, ck.Algorithm, ck.SignatureScheme())
	}
	return nil
}

// key opens a key and checks that it is the one of the receipts.
func (k *Local) key(ctx context.Context, name string, ck charter.Key, st *keyState) (key.Key, error) {
	k.mu.Lock()
	kk := k.open[name]
	k.mu.Unlock()
	if kk != nil && st.uri == ck.URI {
		return kk, nil
	}
	p, err := k.c.provider(ck.URI)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if kk, err = p.Open(ctx, ck.URI); err != nil {
		return nil, fmt.Errorf("%w: key %s: %w", ErrUnavailable, name, err)
	}
	if spki, err := marshalSPKI(kk.Public()); err != nil || string(spki) != string(st.spki) {
		return nil, refuse(KeyChanged, "what the provider holds as key %s is another key than the one generated", name)
	}
	if st.uri == ck.URI {
		k.mu.Lock()
		k.open[name] = kk
		k.mu.Unlock()
	}
	return kk, nil
}

// keyError sorts the errors of using a key: refusals as they are, what the law's
// change has ended to be begun again, the rest as not available.
func (x *execution) keyError(quit context.Context, name string, err error) error {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return err
	case errors.Is(err, errPreempted) || quit.Err() != nil:
		return errPreempted
	case x.ctx.Err() != nil:
		return x.ctx.Err()
	}
	x.mu.Lock()
	delete(x.open, name) // opened again next time
	x.mu.Unlock()
	return fmt.Errorf("%w: key %s: %w", ErrUnavailable, name, err)
}

// signatureSize bounds the signatures of a kind of key, in bytes.
func signatureSize(k sigalg.Key) int64 {
	switch k {
	case sigalg.RSA3072:
		return 384
	case sigalg.RSA4096:
		return 512
	case sigalg.MLDSA65:
		return 3309
	case sigalg.MLDSA87:
		return 4627
	}
	return 104 // two integers of P-384 in ASN.1
}
