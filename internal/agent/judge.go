package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// judged is a job that may run. Only judge makes one.
type judged struct {
	work     *exec.Work
	executor exec.Executor
	grant    *firewall.Grant
	key      [sha256.Size]byte // of the order
	expires  time.Time
	release  func() // of the key's claim

	// What it was judged by.
	at     time.Time
	circle [sha256.Size]byte
	rules  *firewall.Firewall
}

// judgedFor is how long a judgement holds by itself: what it was judged by may have ended
// then.
const judgedFor = time.Second

// about is what is known of a job that is judged, for its refusal.
type about struct {
	order  string
	topic  string
	table  string
	circle string
}

// judge goes through everything that stands between a leased job and its executor. A
// refusal is a *rejection.Error; any other error says nothing of the job. held is the
// judgement of the same job whose claim still holds, nil where it is the first.
func (a *Agent) judge(ctx context.Context, j *Job, w *about, held *judged) (_ *judged, err error) {
	now := a.now()
	if err := a.seen.clock(now); err != nil {
		return nil, err
	}
	believed, err := a.belief.At(a.cfg.Instance, now)
	if err != nil {
		return nil, err
	}
	w.circle = hex.EncodeToString(believed.Digest[:])

	// The order: signed by the instance, for this agent, now.
	signed, err := order.DecodeSigned(j.Order)
	if err != nil {
		return nil, err
	}
	ov := order.Verifier{Instance: a.cfg.Instance, Keys: believed.RuntimeKeys, Agent: a.cfg.Name, Clusters: a.memberships()}
	v, err := ov.Verify(signed, now)
	if err != nil {
		return nil, err
	}
	o := v.Order()
	sum := v.Digest()
	w.order, w.topic, w.table = hex.EncodeToString(sum[:]), o.Topic, o.Records[0].Ref.Table
	d := &order.Delivery{Order: j.Order}
	for i := range j.Records {
		d.Records = append(d.Records, order.ItemOf(&j.Records[i].Record, j.Records[i].Signatures))
	}
	if _, err := d.Encode(); err != nil { // the limits of a delivery, whoever carried it
		if rejection.Of(err) != nil {
			return nil, err
		}
		return nil, rejection.New(rejection.PayloadMalformed, "delivery", "has no encoding")
	}
	named, others, err := v.Open(d)
	if err != nil {
		return nil, err
	}
	executor, ok := a.executors[o.Topic]
	if !ok {
		return nil, rejection.New(rejection.WrongAgent, "topic", "this agent has no executor for it")
	}

	// The operator, as far as the order alone tells.
	fw := a.rules.Load()
	for _, r := range o.Records {
		if err := fw.Possible(firewall.Job{Instance: o.Instance, Topic: o.Topic, Purpose: r.Purpose, Table: r.Ref.Table}); err != nil {
			return nil, err
		}
	}

	// Once.
	g := &judged{executor: executor, key: v.Key(), expires: v.Expires(), at: now, circle: believed.Digest, rules: fw}
	if held != nil {
		g.release = held.release
	} else {
		if g.release, err = a.seen.claim(g.key); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				g.release()
			}
		}()
	}

	// The authors.
	verifier, err := a.verifier(believed, now)
	if err != nil {
		return nil, err
	}
	work := &exec.Work{Topic: o.Topic, Instance: o.Instance, Limits: a.cfg.limits()}
	for i := range named {
		w.table = named[i].Ref.Table
		t, err := verifier.Verify(ctx, named[i].Record(), o.Records[i].Purpose, named[i].Signatures, a.marks)
		if err != nil {
			return nil, err
		}
		work.Records = append(work.Records, t)
	}
	for i := range others {
		w.table = others[i].Ref.Table
		t, err := verifier.Verify(ctx, others[i].Record(), o.Records[0].Purpose, others[i].Signatures, a.marks)
		if r := rejection.Of(err); r != nil {
			return nil, rejection.New(rejection.DependencyUnsigned, others[i].Ref.Table, r.Error())
		}
		if err != nil {
			return nil, err
		}
		work.Includes = append(work.Includes, t)
	}
	w.table = work.Main().Ref().Table
	work.Attachment = a.attachments(j, w, g)

	// Its parameters: of names that the author's configuration lists, none of them one
	// of a signed field.
	cfg := work.Main().Configuration()
	if err := v.CheckParams(cfg.Parameters); err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(o.Params)) {
		if cfg.Covers(p) {
			return nil, rejection.New(rejection.ParamNotAllowed, p, "it has the name of a signed field")
		}
	}
	work.Params = o.Params

	// The operator, about what the record reaches.
	needs, err := executor.Needs(work)
	if err != nil {
		return nil, err
	}
	for _, t := range work.Records {
		grant, err := fw.Judge(firewall.Job{Instance: o.Instance, Topic: o.Topic, Purpose: t.Purpose(), Table: t.Ref().Table, Targets: needs.Targets, Credentials: needs.Credentials})
		if err != nil {
			return nil, err
		}
		if g.grant == nil {
			g.grant = grant
		}
	}
	g.work = work
	return g, nil
}

// still is the judgement of a job after the instance has taken its time to answer: the
// same where nothing that it was judged by has changed, else a new one. Whoever controls
// the instance would otherwise have what is revoked run, by answering late.
func (a *Agent) still(ctx context.Context, j *Job, w *about, g *judged) (*judged, error) {
	now := a.now()
	b, err := a.belief.At(a.cfg.Instance, now)
	if err == nil && b.Digest == g.circle && a.rules.Load() == g.rules && !now.Before(g.at) && now.Before(g.at.Add(judgedFor)) {
		return g, nil
	}
	return a.judge(ctx, j, w, g)
}

// verifier is the verifier of what is believed; it is kept until that changes.
func (a *Agent) verifier(b *Believed, now time.Time) (*record.Verifier, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.judgeBy == nil || a.judgeOf != b.Digest {
		v, err := record.NewVerifier(b.Records, a.roots)
		if err != nil {
			return nil, err
		}
		a.judgeBy, a.judgeOf = v, b.Digest
	}
	return a.judgeBy.At(now), nil
}

// maxAttachment is the largest attachment that is held in memory.
const maxAttachment = 64 << 20

// attachments fetches a verified record's attachments, and gives only bytes whose
// digest is the signed one, of a job that may still run: that buffer is what runs.
func (a *Agent) attachments(j *Job, w *about, g *judged) func(context.Context, *record.Trusted, record.Attachment) ([]byte, error) {
	return func(ctx context.Context, t *record.Trusted, att record.Attachment) ([]byte, error) {
		if !slices.Contains(t.Attachments(), att) {
			return nil, rejection.New(rejection.AttachmentMissing, att.Name, "the record was not verified with it")
		}
		if att.Size > maxAttachment {
			return nil, rejection.New(rejection.PayloadTooLarge, att.Name, fmt.Sprintf("more than %d bytes", maxAttachment))
		}
		r, err := a.up.Attachment(ctx, j.Lease, t.Ref(), att)
		if err != nil {
			return nil, exec.Failed("the attachment could not be fetched")
		}
		defer r.Close()
		b, err := io.ReadAll(io.LimitReader(r, att.Size+1))
		if err != nil {
			return nil, exec.Failed("the attachment could not be fetched")
		}
		if int64(len(b)) != att.Size || sha256.Sum256(b) != att.SHA256 {
			return nil, rejection.New(rejection.AttachmentChanged, att.Name, "its bytes are not those that were signed")
		}
		if _, err := a.still(ctx, j, w, g); err != nil {
			return nil, err
		}
		return b, nil
	}
}

// refused turns what judge returned into a refusal; nil: it is none.
func refused(err error) *rejection.Error {
	if r := rejection.Of(err); r != nil {
		return r
	}
	return nil
}

var errDraining = errors.New("agent: draining")
