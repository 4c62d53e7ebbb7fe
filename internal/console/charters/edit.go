package charters

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	fieldYAML   = "yaml"
	fieldReason = "reason"
	maxReason   = 2000 // bytes
)

// proposal is what the form that proposes a charter shows.
type proposal struct {
	YAML    string // of the charter that is proposed
	Version uint64
	Passkey bool
	Reason  string
	CLI     string // the same on the command line
}

type editData struct {
	YAML     string
	Version  uint64 // in force
	Judged   bool
	Problems []charter.Problem
	Error    string
	Moved    bool
	Warnings []charter.Warning
	difference
	Nothing  bool
	Replay   *outcome
	Proposal *proposal
}

// edit shows the charter in force, to be edited.
func (a *area) edit(v *web.Visit) error {
	if err := a.mayPropose(v); err != nil {
		return err
	}
	head, ref := a.server.Chain().Head()
	b, err := head.YAML()
	if err != nil {
		return err
	}
	return v.Page("edit.html", "Edit the charter", &editData{YAML: string(b), Version: ref.Version})
}

// text is a text of a form, with line ends of one kind.
func text(f url.Values, name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(f.Get(name), "\r\n", "\n"), "\r", "\n")
}

// judge says what is wrong with a charter that somebody has edited, or what it changes
// and would have decided otherwise.
func (a *area) judge(v *web.Visit) error {
	if err := a.mayPropose(v); err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	head, ref := a.server.Chain().Head()
	d := &editData{YAML: text(f, fieldYAML), Version: ref.Version, Judged: true}
	next, err := a.parse(v, d.YAML)
	var bad *charter.CheckError
	switch {
	case errors.As(err, &bad):
		d.Problems = bad.Problems
	case errors.Is(err, template.ErrMoved):
		d.Moved = true
	case err != nil:
		d.Error = strings.TrimPrefix(err.Error(), "charter: ")
	default:
		d.difference, d.Warnings = compare(head, next), newWarnings(head, next)
		if d.Nothing = len(d.Changes) == 0; !d.Nothing {
			if d.Replay, err = a.replay(v.Request.Context(), next, v.Now, replayLook); err != nil {
				return err
			}
			if d.Proposal, err = a.proposal(v, next, strings.TrimSpace(text(f, fieldReason)), "greatseal charter propose charter.yaml"); err != nil {
				return err
			}
		}
	}
	if d.Problems != nil || d.Error != "" || d.Moved {
		return v.PageStatus(422, "edit.html", "Edit the charter", d)
	}
	return v.Page("edit.html", "Edit the charter", d)
}

// parse reads a charter of a form and has it follow the one in force.
func (a *area) parse(v *web.Visit, text string) (*charter.Charter, error) {
	doc, err := charter.ParseYAML([]byte(text))
	if err != nil {
		return nil, err
	}
	head, ref := a.server.Chain().Head()
	return template.Follow(doc, head, ref, v.Now)
}

func (a *area) proposal(v *web.Visit, next *charter.Charter, reason, cli string) (*proposal, error) {
	b, err := next.YAML()
	if err != nil {
		return nil, err
	}
	return &proposal{YAML: string(b), Version: next.Version, Passkey: len(v.Passkeys()) > 0, Reason: reason, CLI: cli}, nil
}

// proposed is the charter that a form proposes: exactly the successor of the one in
// force.
func (a *area) proposed(f url.Values) (*charter.Charter, []byte, error) {
	doc, err := charter.ParseYAML([]byte(text(f, fieldYAML)))
	if err != nil {
		var bad *charter.CheckError
		if errors.As(err, &bad) {
			return nil, nil, web.Problemf(422, "charter-invalid", "go back and mend it", "%s", bad.Problems[0])
		}
		return nil, nil, web.Problemf(422, "charter-invalid", "go back and mend it", "%.300v", err)
	}
	_, ref := a.server.Chain().Head()
	if doc.Version != ref.Version+1 || doc.Previous != ref.ID {
		return nil, nil, web.Problemf(409, "charter-moved", "go back and load the page again: the template is applied, or the change made, on the one in force", "another charter has come into force meanwhile: version %d", ref.Version)
	}
	payload, err := charter.Encode(doc)
	return doc, payload, err
}

func reasonOf(f url.Values) (string, error) {
	r := strings.TrimSpace(text(f, fieldReason))
	if len(r) > maxReason {
		return "", web.Problemf(400, "too-long", "", "the reason has more than %d bytes", maxReason)
	}
	return r, nil
}

// draft drafts the request for the reader's passkey.
func (a *area) draft(v *web.Visit) error {
	if err := a.mayPropose(v); err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	_, payload, err := a.proposed(f)
	if err != nil {
		return err
	}
	reason, err := reasonOf(f)
	if err != nil {
		return err
	}
	head, ref := a.server.Chain().Head()
	cmd := statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}
	req, err := author.RequestPayload(v.Who.Name, v.Now, rand.Reader, head, ref, cmd, author.RequestOptions{Reason: reason})
	if err != nil {
		return web.Problemf(400, "malformed", "", "%v", err)
	}
	return v.Draft(req, map[string]string{"deployment": head.Deployment, "requester": v.Who.Name, "command.name": string(statement.CharterReplace), "reason": reason, "charter.id": ref.ID.String()})
}

// propose takes a signed request to the server, if it carries the charter that the form
// shows.
func (a *area) propose(v *web.Visit) error {
	if err := a.mayPropose(v); err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	_, want, err := a.proposed(f)
	if err != nil {
		return err
	}
	reason, err := reasonOf(f)
	if err != nil {
		return err
	}
	env, payload, err := v.Signed(f)
	if err != nil {
		return err
	}
	req, err := statement.Decode[statement.Request](payload)
	if err != nil || req.Command.Charter == nil || req.Requester != v.Who.Name || req.Reason != reason || !bytes.Equal(req.Command.Charter.Statement, want) {
		return web.Problemf(409, "statement-differs", "load the page again", "what was signed is not what the form says")
	}
	r, _, err := a.server.Submit(v.Request.Context(), env, nil)
	if err != nil {
		return err
	}
	return v.Redirect(web.Home + "requests/" + r.ID.String())
}

// download hands out the charter of the form, for the command line.
func (a *area) download(v *web.Visit) error {
	if err := a.mayPropose(v); err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	doc, _, err := a.proposed(f)
	if err != nil {
		return err
	}
	b, err := doc.YAML()
	if err != nil {
		return err
	}
	return v.Download("charter.yaml", "application/yaml", b)
}
