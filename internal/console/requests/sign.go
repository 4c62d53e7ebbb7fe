package requests

import (
	"net/url"
	"strings"

	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

const maxComment = 2000 // bytes of what is typed in a browser

// word is what a form says of a request.
type word struct {
	verdict statement.Verdict
	comment string
}

// wordOf reads the form, as static/sign.js does: without spaces around, with line ends
// of one kind.
func wordOf(f url.Values) (word, error) {
	w := word{verdict: statement.Verdict(f.Get("verdict")), comment: strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(f.Get("comment"), "\r\n", "\n"), "\r", "\n"))}
	switch {
	case w.verdict != statement.Endorse && w.verdict != statement.Disapprove:
		return w, web.Problemf(400, "malformed", "", "want endorse or disapprove")
	case w.verdict == statement.Disapprove && w.comment == "":
		return w, web.Problemf(400, "reason-missing", "whoever asked reads it, and so does everybody else", "say why you disapprove")
	case len(w.comment) > maxComment:
		return w, web.Problemf(400, "too-long", "", "the comment has more than %d bytes", maxComment)
	}
	return w, nil
}

// draft drafts an endorsement for the reader's passkey.
func (a *area) draft(v *web.Visit) error {
	r, req, err := a.get(v)
	if err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	w, err := wordOf(f)
	if err != nil {
		return err
	}
	if !v.Who.InCharter {
		return web.NoPasskey(v.Who.Name)
	}
	if !r.State.Open() {
		return web.Problemf(409, "request-closed", "", "the request is %s: it takes no more endorsements", r.State)
	}
	payload, err := author.EndorsementPayload(v.Who.Name, v.Now, req, r.ID, w.verdict, w.comment, 0, nil)
	if err != nil {
		return web.Problemf(400, "malformed", "", "%v", err)
	}
	return v.Draft(payload, map[string]string{
		"deployment": req.Deployment, "request": r.ID.String(), "endorser": v.Who.Name, "verdict": string(w.verdict), "comment": w.comment, "findings": "",
	})
}

// endorse takes a signed endorsement to the server, if it says what the form does.
func (a *area) endorse(v *web.Visit) error {
	r, req, err := a.get(v)
	if err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	w, err := wordOf(f)
	if err != nil {
		return err
	}
	env, payload, err := v.Signed(f)
	if err != nil {
		return err
	}
	e, err := statement.Decode[statement.Endorsement](payload)
	if err != nil {
		return web.Problemf(400, "malformed", "load the page again", "what was signed is no endorsement")
	}
	if e.Request != r.ID || e.Endorser != v.Who.Name || e.Verdict != w.verdict || e.Comment != w.comment || e.Deployment != req.Deployment || len(e.Findings) > 0 {
		return web.Problemf(409, "statement-differs", "load the page again", "what was signed is not what the form says")
	}
	if _, err := a.server.Endorse(v.Request.Context(), env); err != nil {
		return err
	}
	return v.Redirect(requestsPath + "/" + r.ID.String())
}

// cancel withdraws the reader's own request. What his passkey signs is the withdrawal,
// which static/cancel.js makes from the ID by itself.
func (a *area) cancel(v *web.Visit) error {
	r, _, err := a.get(v)
	if err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	sig, err := v.SignedLogin(f, server.CancelMessage(r.ID))
	if err != nil {
		return err
	}
	if _, err := a.server.Cancel(v.Request.Context(), r.ID, v.Who.Name, *sig); err != nil {
		return err
	}
	return v.Redirect(requestsPath + "/" + r.ID.String())
}
