// Package author makes the statements of people and machines and signs them:
// requests and endorsements.
//
// Invariants:
//
//  1. What is signed is what Encode of package statement made, and is checked
//     with the author's own credential before it leaves.
//  2. Every request has a nonce of its own.
package author

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// Author is somebody of the charter who can sign.
type Author struct {
	Name   string
	Signer credential.Signer
	Now    func() time.Time
	Rand   io.Reader
}

// Sign makes the envelope of a payload.
func (a *Author) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	cred := a.Signer.Credential()
	pae := statement.PAE(payload)
	sig, err := a.Signer.Sign(ctx, credential.Statement, pae)
	if err != nil {
		return nil, fmt.Errorf("author: %w", err)
	}
	if err := cred.Verify(credential.Statement, pae, sig); err != nil {
		return nil, fmt.Errorf("author: the signature just made does not verify: %w", err)
	}
	e := statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(cred.ID()), Sig: sig}}}
	return e.Encode()
}

// RequestOptions are what a request may say besides its command.
type RequestOptions struct {
	Expires   time.Duration // 0: as long as the rule allows
	NotBefore time.Time
	Reason    string
	Origin    map[string]string
}

// Request makes a signed request under charter c.
func (a *Author) Request(ctx context.Context, c *charter.Charter, ref statement.CharterRef, cmd statement.Command, o RequestOptions) ([]byte, statement.ID, error) {
	payload, err := RequestPayload(a.Name, a.Now(), a.Rand, c, ref, cmd, o)
	if err != nil {
		return nil, statement.ID{}, err
	}
	env, err := a.Sign(ctx, payload)
	return env, statement.IDOf(payload), err
}

// RequestPayload makes the statement of a request under charter c, for somebody who
// signs it elsewhere.
func RequestPayload(name string, at time.Time, random io.Reader, c *charter.Charter, ref statement.CharterRef, cmd statement.Command, o RequestOptions) ([]byte, error) {
	rule := c.Commands[cmd.Name]
	if cmd.Sign != nil {
		rule = c.Policies[cmd.Sign.Policy].Rule
	}
	life := rule.Lifetime()
	if o.Expires != 0 {
		life = o.Expires
	}
	nonce := make([]byte, 16)
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, fmt.Errorf("author: %w", err)
	}
	now := statement.Seconds(at)
	r := statement.Request{
		Deployment: c.Deployment, Charter: ref, Requester: name, Command: cmd,
		Created: now, Expires: now.Add(life), Nonce: hex.EncodeToString(nonce), Reason: o.Reason, Origin: claims(o.Origin),
	}
	if !o.NotBefore.IsZero() {
		r.NotBefore = statement.Seconds(o.NotBefore)
	}
	return statement.Encode(r)
}

// Endorsement makes a signed verdict on a request, which lasts as long as the
// request, or for lasts where that is not 0.
func (a *Author) Endorsement(ctx context.Context, r *statement.Request, id statement.ID, v statement.Verdict, comment string, lasts time.Duration, findings map[string]string) ([]byte, error) {
	payload, err := EndorsementPayload(a.Name, a.Now(), r, id, v, comment, lasts, findings)
	if err != nil {
		return nil, err
	}
	return a.Sign(ctx, payload)
}

// EndorsementPayload makes the statement of a verdict, for somebody who signs it
// elsewhere.
func EndorsementPayload(name string, at time.Time, r *statement.Request, id statement.ID, v statement.Verdict, comment string, lasts time.Duration, findings map[string]string) ([]byte, error) {
	now := statement.Seconds(at)
	expires := r.Expires
	if lasts != 0 {
		expires = now.Add(lasts)
	}
	if !expires.After(now) {
		expires = now.Add(time.Second) // the request is over; whoever judges says so
	}
	return statement.Encode(statement.Endorsement{
		Deployment: r.Deployment, Request: id, Endorser: name, Verdict: v, Comment: comment,
		Created: now, Expires: expires, Findings: claims(findings),
	})
}

func claims(m map[string]string) []statement.Claim {
	var out []statement.Claim
	for n, v := range m {
		out = append(out, statement.Claim{Name: n, Value: v})
	}
	slices.SortFunc(out, func(a, b statement.Claim) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Item encodes one file's plan with what the requester says of it.
func Item(p *format.Plan, name string, said map[string]string) ([]byte, error) {
	b, err := p.Encode()
	if err != nil {
		return nil, err
	}
	it := format.Item{Plan: b, Name: name, Claims: []format.Fact{}}
	for n, v := range said {
		it.Claims = append(it.Claims, format.Fact{Name: n, Value: v})
	}
	slices.SortFunc(it.Claims, func(a, b format.Fact) int { return strings.Compare(a.Name, b.Name) })
	return it.Encode()
}

// SignCommand is the command to sign items under a policy of c.
func SignCommand(c *charter.Charter, policy, purpose string, items [][]byte) (statement.Command, error) {
	p, ok := c.Policies[policy]
	if !ok {
		return statement.Command{}, fmt.Errorf("author: the charter has no policy %q", policy)
	}
	root, err := format.ItemsRoot(items)
	if err != nil {
		return statement.Command{}, err
	}
	s := &statement.SignArgs{Policy: policy, Key: p.Key, Purpose: purpose, Formats: []string{}, Count: len(items), Items: root.String()}
	for _, b := range items {
		_, plan, err := format.DecodeItem(b)
		if err != nil {
			return statement.Command{}, err
		}
		if !slices.Contains(s.Formats, plan.Format) {
			s.Formats = append(s.Formats, plan.Format)
		}
	}
	slices.Sort(s.Formats)
	return statement.Command{Name: statement.Sign, Sign: s}, nil
}
