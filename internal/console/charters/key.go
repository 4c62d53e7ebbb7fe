package charters

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/statement"
)

// selfMadeDays is how long a certificate lasts that a key makes itself.
const selfMadeDays = 365

// maxChain is the number of certificates of one chain.
const maxChain = 16

type appData struct {
	*template.Status
	Policy  bool
	Key     string // of the policy
	Step    string // that the reader may take here: "generate", "certificate", ""
	Passkey bool
	CSR     bool
}

// steps says which step the reader may ask for on the page.
func (a *area) steps(v *web.Visit, d *appData, f *template.Facts) {
	p, ok := f.Charter.Policies[d.Name]
	if !ok {
		return
	}
	d.Policy, d.Key, d.Passkey = true, p.Key, len(v.Passkeys()) > 0
	n := d.Next()
	for _, k := range f.Keys {
		d.CSR = d.CSR || k.Name == p.Key && k.Generated
	}
	if n == nil || n.State != template.Next {
		return
	}
	may := func(c statement.CommandName) bool {
		rule, ok := f.Charter.Commands[c]
		return ok && v.Who.InCharter && slices.Contains(f.Charter.Requesters(rule), v.Who.Name)
	}
	switch {
	case n.Name == "key" && !d.CSR && may(statement.KeyGenerate):
		d.Step = "generate"
	case n.Name == "certificate" && may(statement.KeyImportCert):
		d.Step = "certificate"
	}
}

// keyCommand is the command that a form of the progress page asks for.
func (a *area) keyCommand(v *web.Visit) (statement.Command, error) {
	var none statement.Command
	f, err := v.Form()
	if err != nil {
		return none, err
	}
	head := a.server.Charter()
	p, ok := head.Policies[v.Path("name")]
	if !ok {
		return none, web.Problemf(404, "not-found", "", "the charter has no such policy")
	}
	switch f.Get("do") {
	case "generate":
		subject := strings.TrimSpace(f.Get("subject"))
		if subject == "" {
			return none, web.Problemf(400, "malformed", "like CN=Example Ltd,O=Example Ltd,C=CH", "say the subject of the certificate")
		}
		g := &statement.GenerateArgs{Key: p.Key, Subject: subject}
		if template.Needs(p.Formats) == template.OwnCertificate {
			g.SelfSignedDays = selfMadeDays
		}
		return statement.Command{Name: statement.KeyGenerate, Generate: g}, nil
	case "certificate":
		chain, err := readChain(f.Get("chain"))
		if err != nil {
			return none, err
		}
		return statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: p.Key, Chain: chain}}, nil
	}
	return none, web.Problemf(400, "malformed", "", "want generate or certificate")
}

func readChain(text string) (out [][]byte, err error) {
	rest := []byte(text)
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" || len(out) == maxChain {
			return nil, web.Problemf(400, "malformed", "paste the certificate and those of its issuers, nothing else", "want at most %d certificates in PEM", maxChain)
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return nil, web.Problemf(400, "malformed", "", "a certificate cannot be read")
		}
		out = append(out, b.Bytes)
	}
	if len(out) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, web.Problemf(400, "malformed", "paste the certificate and those of its issuers", "want certificates in PEM")
	}
	return out, nil
}

// keyDraft drafts the request of a step for the reader's passkey.
func (a *area) keyDraft(v *web.Visit) error {
	cmd, err := a.keyCommand(v)
	if err != nil {
		return err
	}
	if !v.Who.InCharter {
		return web.NoPasskey(v.Who.Name)
	}
	head, ref := a.server.Chain().Head()
	payload, err := author.RequestPayload(v.Who.Name, v.Now, rand.Reader, head, ref, cmd, author.RequestOptions{})
	if err != nil {
		return web.Problemf(400, "malformed", "", "%v", err)
	}
	expect := map[string]string{"deployment": head.Deployment, "requester": v.Who.Name, "command.name": string(cmd.Name)}
	if cmd.Generate != nil {
		expect["command.generate.key"], expect["command.generate.subject"] = cmd.Generate.Key, cmd.Generate.Subject
	} else {
		expect["command.certificate.key"] = cmd.Certificate.Key
	}
	return v.Draft(payload, expect)
}

// keyAsk takes a signed request of a step to the server, if it asks for what the form
// says.
func (a *area) keyAsk(v *web.Visit) error {
	cmd, err := a.keyCommand(v)
	if err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	env, payload, err := v.Signed(f)
	if err != nil {
		return err
	}
	req, err := statement.Decode[statement.Request](payload)
	if err != nil || req.Requester != v.Who.Name || req.Command.Digest() != cmd.Digest() {
		return web.Problemf(409, "statement-differs", "load the page again", "what was signed is not what the form says")
	}
	r, _, err := a.server.Submit(v.Request.Context(), env, nil)
	if err != nil {
		return err
	}
	return v.Redirect(web.Home + "requests/" + r.ID.String())
}

// csr hands out the certificate request of the policy's key, from the keeper's receipt.
func (a *area) csr(v *web.Visit) error {
	head := a.server.Charter()
	p, ok := head.Policies[v.Path("name")]
	if !ok {
		return web.Problemf(404, "not-found", "", "the charter has no such policy")
	}
	list, err := a.server.List(v.Request.Context(), store.Filter{Command: statement.KeyGenerate, Key: p.Key, States: []store.State{store.Executed}, Limit: 1})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return web.Problemf(404, "not-found", "", "the key has not been generated by a request that is kept here")
	}
	_, rc, err := a.server.Outcome(v.Request.Context(), list[0].ID)
	if err != nil {
		return err
	}
	if rc.Key == nil || len(rc.Key.Request) == 0 {
		return web.Problemf(404, "not-found", "", "the receipt carries no certificate request")
	}
	return v.Download(p.Key+".csr", "application/pkcs10", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: rc.Key.Request}))
}
