package store

import (
	"slices"

	"github.com/greatseal-io/greatseal/statement"
)

// After is r as [Store.Apply] has left it, once it has applied c, a step of r at
// r's revision. It saves whoever applied c from reading r again.
func (r *Request) After(c *Change) *Request {
	out := *r
	out.Revision++
	if c.State != "" {
		out.State = c.State
	}
	out.Code, out.Detail, out.Updated, out.Sent = c.Code, text(c.Detail), at(ms(c.At)), c.Sent
	if c.Receipt != nil && c.Receipt.Outcome == statement.Executed {
		out.Receipt = c.Receipt.Number
	}
	if e := c.Endorsement; e != nil {
		x := *e
		x.Arrived = at(ms(e.Arrived))
		out.Endorsements = append(slices.Clip(slices.Clone(r.Endorsements)), x)
	}
	return &out
}
