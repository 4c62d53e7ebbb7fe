package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// maxTokenClaim is how much of a claim is shown.
const maxTokenClaim = 1024

// TokenView is what the ID token says by which a workload signed a request: the word of
// the issuer, where Problem is empty, and nobody's otherwise. What the requester says of
// himself is in View.Origin.
type TokenView struct {
	Issuer  string       `json:"issuer"`           // URL
	Name    string       `json:"name,omitzero"`    // of the issuer in the charter
	Problem string       `json:"problem,omitzero"` // why the token does not verify under the charter; then all of this is a claim
	Unbound bool         `json:"unbound,omitzero"` // the token names no request: whoever saw it could sign this one
	Claims  []TokenClaim `json:"claims"`           // those that the charter asks for, then those that say where the job comes from
	Issued  time.Time    `json:"issued"`
	Expires time.Time    `json:"expires"`
}

// TokenClaim is one claim of a token.
type TokenClaim struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Wanted is what the charter asks of it: its value, or a pattern. Empty: nothing; the
	// issuer says it, and nobody's authority comes of it.
	Wanted string `json:"wanted,omitzero"`
}

// telling are claims of GitHub, GitLab and others that say which job it was, in the order
// in which they are shown.
var telling = []string{"sub", "repository", "repository_id", "project_path", "project_id", "ref", "ref_type", "ref_protected", "environment", "workflow", "workflow_ref", "job_workflow_ref",
	"ci_config_ref_uri", "sha", "ci_config_sha", "event_name", "pipeline_source", "actor", "user_login", "run_id", "run_attempt", "pipeline_id", "job_id"}

// TokenOf is what the token says that signs a request, judged under a charter; nil where
// a request is signed otherwise.
func TokenOf(c *charter.Charter, env *statement.Envelope) *TokenView {
	if len(env.Signatures) != 1 || credential.ID(env.Signatures[0].KeyID).Kind() != credential.KindOIDC {
		return nil
	}
	req, err := statement.Decode[statement.Request](env.Payload)
	if err != nil {
		return nil
	}
	t, err := credential.ParseIDToken(env.Signatures[0].Sig)
	if err != nil {
		return &TokenView{Problem: err.Error(), Claims: []TokenClaim{}}
	}
	v := &TokenView{Issuer: format.Visible(t.Issuer, maxTokenClaim), Claims: []TokenClaim{}, Issued: time.Unix(t.Issued, 0).UTC(), Expires: time.Unix(t.Expires, 0).UTC()}
	v.Problem = "the charter has no such workload of " + req.Requester
	var w credential.Workload
	for _, x := range c.Machines[req.Requester].Credentials {
		if x.OIDC == nil {
			continue
		}
		cred, err := c.Credential(x)
		if err != nil || cred.ID() != credential.ID(env.Signatures[0].KeyID) {
			continue
		}
		v.Problem = ""
		if err := cred.Verify(credential.Statement, statement.PAE(env.Payload), env.Signatures[0].Sig); err != nil {
			v.Problem = err.Error()
		}
		w, v.Name = cred.(*credential.OIDC).Workload(), x.OIDC.Issuer
		v.Unbound = w.Unbound
		break
	}
	add := func(name, wanted string) {
		if s, ok := t.Claim(name); ok && s != "" {
			v.Claims = append(v.Claims, TokenClaim{name, format.Visible(s, maxTokenClaim), wanted})
		}
	}
	asked := maps.Clone(w.Patterns)
	if asked == nil {
		asked = map[string]string{}
	}
	maps.Copy(asked, w.Claims)
	for _, n := range slices.Sorted(maps.Keys(asked)) {
		add(n, asked[n])
	}
	for _, n := range telling {
		if _, ok := asked[n]; !ok {
			add(n, "")
		}
	}
	return v
}

// tokenOf is TokenOf under the charter that judged the request, or judges it now.
func (s *Server) tokenOf(ctx context.Context, r *store.Request, env *statement.Envelope) *TokenView {
	if len(env.Signatures) != 1 || credential.ID(env.Signatures[0].KeyID).Kind() != credential.KindOIDC {
		return nil
	}
	c := s.Charter()
	if r.State == store.Executed {
		_, rc, err := s.Outcome(ctx, r.ID)
		if err != nil {
			return nil
		}
		if c, _, err = s.Chain().Version(rc.Charter.Version); err != nil {
			return nil
		}
	}
	return TokenOf(c, env)
}
