package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/statement"
)

// decoded is one entry, as far as it can be judged alone.
type decoded struct {
	index   int64
	at      time.Time
	kind    audit.Kind
	request statement.ID
	body    []byte
	problem *Problem // then nothing below is set

	id        statement.ID // of the envelope in the body
	requester string       // of a request
	receipt   *statement.Receipt
}

func (d *decoded) bad(c ProblemCode, format string, args ...any) {
	d.problem = &Problem{Index: d.index, Code: c, Detail: fmt.Sprintf(format, args...), Request: d.request}
}

// decode reads an entry. It is called by many goroutines.
func (r *logRun) decode(ctx context.Context, x audit.IndexedEntry) decoded {
	d := decoded{index: x.Index}
	e, err := x.Entry()
	if err != nil {
		d.bad(ProblemEntry, "%v", err)
		return d
	}
	d.at, d.kind, d.request = e.Time, e.Kind, e.Request
	if _, size, detached := e.Detached(); detached && size > maxBody {
		d.bad(ProblemBody, "body of %d bytes: at most %d", size, maxBody)
		return d
	}
	d.body, err = e.Body(func(sum [32]byte, size int64) ([]byte, error) {
		if r.src.Body == nil {
			return nil, errors.New("the source has no bodies")
		}
		return r.src.Body(ctx, sum, size)
	})
	if err != nil {
		d.bad(ProblemBody, "%v", err)
		return d
	}
	r.contents(&d)
	return d
}

// contents reads what is in the body.
func (r *logRun) contents(d *decoded) {
	switch d.kind {
	case audit.KindRequest, audit.KindCharter:
		r.contentsOfRequest(d)
	case audit.KindEndorsement:
		e, env, err := single[statement.Endorsement](d.body)
		switch {
		case err != nil:
			d.bad(ProblemEntry, "endorsement: %v", err)
		case e.Request != d.request || e.Deployment != r.first.Deployment:
			d.bad(ProblemEntry, "endorsement for request %s of %s", e.Request, e.Deployment)
		default:
			d.id = env.ID()
		}
	case audit.KindReceipt:
		r.contentsOfReceipt(d)
	case audit.KindRejection:
		if env, err := statement.DecodeEnvelope(d.body); err == nil {
			d.id = env.ID()
		}
	}
}

func (r *logRun) contentsOfRequest(d *decoded) {
	if d.kind == audit.KindCharter {
		if env, err := statement.DecodeEnvelope(d.body); err == nil && env.ID() == r.report.Root {
			d.id = env.ID() // the founding, which some logs begin with
			return
		}
	}
	q, env, err := single[statement.Request](d.body)
	switch {
	case err != nil:
		d.bad(ProblemEntry, "%s: %v", d.kind, err)
	case env.ID() != d.request || q.Deployment != r.first.Deployment:
		d.bad(ProblemEntry, "%s: holds request %s of %s", d.kind, env.ID(), q.Deployment)
	case d.kind == audit.KindCharter && q.Command.Name != statement.CharterReplace:
		d.bad(ProblemEntry, "charter: holds a request to %s", q.Command.Name)
	default:
		d.id, d.requester = env.ID(), q.Requester
	}
}

func (r *logRun) contentsOfReceipt(d *decoded) {
	var rc *statement.Receipt
	var id statement.ID
	var err error
	if d.index >= r.o.From {
		rc, id, err = r.keeper.Verify(d.body)
	} else {
		var env *statement.Envelope
		var claim statement.Receipt
		claim, env, err = single[statement.Receipt](d.body)
		if err == nil {
			rc, id = &claim, env.ID()
		}
	}
	switch {
	case err != nil:
		d.bad(ProblemReceiptSignature, "%v", err)
	case rc.Request != d.request || rc.Deployment != r.first.Deployment:
		d.bad(ProblemEntry, "receipt for request %s of %s", rc.Request, rc.Deployment)
	default:
		d.id, d.receipt = id, rc
	}
	d.body = nil
}

// take enters one entry into the book, in order.
func (r *logRun) take(d *decoded) {
	if d.kind != "" {
		r.report.Kinds[d.kind]++
	}
	if d.problem != nil {
		r.problem(*d.problem)
		return
	}
	switch d.kind {
	case audit.KindRequest:
		if _, ok := r.book.requests[d.id]; ok {
			r.say(d, ProblemRequestTwice, "entered before")
			return
		}
		l := &logged{ref: ref{d.index, d.body}, requester: r.book.name(d.requester)}
		r.book.requests[d.id] = l
		r.book.open++
		r.book.hold(&l.ref)
	case audit.KindReceipt:
		r.arrive(d)
	case audit.KindCharter:
		if !r.charters.entered(d) {
			r.problem(Problem{Index: d.index, Code: ProblemCharterEntry, Detail: "entered before", Request: d.id})
		}
	default:
		r.about(d)
	}
}

func (r *logRun) say(d *decoded, c ProblemCode, format string, args ...any) {
	p := Problem{Index: d.index, Code: c, Detail: fmt.Sprintf(format, args...), Request: d.request}
	if d.receipt != nil {
		p.Receipt = d.receipt.Number
	}
	r.problem(p)
}

// about takes the entries that are about a request which stands in the log.
func (r *logRun) about(d *decoded) {
	l, ok := r.book.requests[d.request]
	if !ok {
		if d.kind == audit.KindRejection && d.id == d.request && !d.id.IsZero() {
			return // a request that was refused, which is about itself
		}
		r.say(d, ProblemRequestUnknown, "%s of a request that is not in the log before", d.kind)
		return
	}
	switch d.kind {
	case audit.KindEndorsement:
		if l.standing != isOpen {
			r.say(d, ProblemClosed, "endorsement of a request that has ended")
			return
		}
		if index, ok := l.endorsed(d.id); ok {
			r.say(d, ProblemEndorsementTwice, "entered before, as entry %d", index)
			return
		}
		v := vote{&ref{d.index, d.body}, d.id}
		l.endorse(v)
		r.book.hold(v.ref)
	case audit.KindCancel, audit.KindExpire:
		if l.standing != isOpen {
			r.say(d, ProblemClosed, "%s of a request that has ended", d.kind)
			return
		}
		if d.kind == audit.KindCancel && string(d.body) != l.requester {
			r.say(d, ProblemEntry, "cancelled by %.80q: the requester is %s", d.body, l.requester)
		}
		l.standing, l.withdrawn = isWithdrawn, d.at
		r.book.open--
	}
}
