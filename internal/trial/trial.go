// Package trial founds deployments for trying out: people with SSH keys in files,
// a charter with two groups and a machine, keys with certificates of an authority
// of its own. "greatseal dev" and "greatseal demo" stand on it, and so do tests.
//
// What it makes works like any deployment: every step is requested, endorsed and
// executed by the keeper. Only that one program plays all people is for trying.
package trial

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// The people and machines of a trial. Alice and Bob release, Carol and Dave are
// security; Alice, Carol and Dave are officers. Scanner is the gate.
var names = []string{"alice", "bob", "carol", "dave", "scanner", "inspector"}

// KeySpec is one key of a trial.
type KeySpec struct {
	Name      string
	URI       key.URI
	Algorithm sigalg.Key
}

// Options of a trial.
type Options struct {
	Deployment string    // default "trial"
	Keys       []KeySpec // default: release, soft, RSA-3072
	Timestamps bool      // an authority of its own, key "stamp"
	Records    *Records  // records that execute are signed, and a circle of trust
	Now        func() time.Time
}

// Trial is the people of a deployment, and its charter.
type Trial struct {
	Dir     string
	Charter *charter.Charter
	Root    statement.ID
	Found   []byte // founding envelope
	People  map[string]*author.Author
	now     func() time.Time
}

// KeyFile is the private key of a person or machine.
func (t *Trial) KeyFile(name string) string { return filepath.Join(t.Dir, "people", name) }

// New makes people and a founding charter for the keeper with status st. It
// writes the people's keys into dir/people.
func New(ctx context.Context, dir string, st *keeper.Status, o Options) (*Trial, error) {
	if o.Deployment == "" {
		o.Deployment = "trial"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Keys) == 0 {
		o.Keys = []KeySpec{{"release", "soft:release", sigalg.RSA3072}}
	}
	t := &Trial{Dir: dir, People: map[string]*author.Author{}, now: o.Now}
	if err := os.MkdirAll(filepath.Join(dir, "people"), 0o700); err != nil {
		return nil, err
	}
	everybody := names
	if o.Records != nil {
		everybody = append(slices.Clone(names), Clerk)
	}
	for _, n := range everybody {
		if err := t.newKey(n); err != nil {
			return nil, fmt.Errorf("trial: %w", err)
		}
	}
	t.Charter = t.draft(o, st)
	payload, err := charter.Encode(t.Charter)
	if err != nil {
		return nil, err
	}
	t.Root = charter.ID(payload)
	env := &statement.Envelope{Payload: payload}
	for _, n := range []string{"alice", "carol", "dave"} {
		s := t.People[n].Signer
		sig, err := s.Sign(ctx, credential.Statement, statement.PAE(payload))
		if err != nil {
			return nil, err
		}
		env.Signatures = append(env.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	t.Found, err = env.Encode()
	return t, err
}

// newKey makes an Ed25519 key as ssh-keygen would, and its author.
func (t *Trial) newKey(name string) error {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(priv, name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.KeyFile(name), pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	sp, err := ssh.NewPublicKey(pub)
	if err != nil {
		return err
	}
	line := append(ssh.MarshalAuthorizedKey(sp)[:len(ssh.MarshalAuthorizedKey(sp))-1], []byte(" "+name+"\n")...)
	if err := os.WriteFile(t.KeyFile(name)+".pub", line, 0o644); err != nil {
		return err
	}
	s, err := sshagent.File(t.KeyFile(name), nil)
	if err != nil {
		return err
	}
	t.People[name] = &author.Author{Name: name, Signer: s, Now: t.now, Rand: rand.Reader}
	return nil
}

func (t *Trial) credentials(name string) []charter.Credential {
	return []charter.Credential{charter.CredentialOf(t.People[name].Signer.Credential())}
}

func (t *Trial) draft(o Options, st *keeper.Status) *charter.Charter {
	two := &charter.Node{Group: "officers", Need: 2}
	officers := func(q *charter.Node) charter.Rule {
		return charter.Rule{Requesters: []string{"officers"}, Quorum: q, Unattended: q == nil}
	}
	c := &charter.Charter{
		Deployment: o.Deployment, Version: 1, Created: statement.Seconds(t.now()),
		Keeper: charter.Keeper{Receipts: base64.StdEncoding.EncodeToString(st.ReceiptKey), LogKey: base64.StdEncoding.EncodeToString(st.LogKey), Log: o.Deployment + "/log"},
		People: map[string]charter.Person{}, Machines: map[string]charter.Machine{},
		Groups: map[string]charter.Group{
			"officers": {Members: []string{"alice", "carol", "dave"}}, "release": {Members: []string{"alice", "bob"}},
			"security": {Members: []string{"carol", "dave"}}, "gates": {Members: []string{"scanner"}}, "inspectors": {Members: []string{"inspector"}},
		},
		Keys: map[string]charter.Key{}, Policies: map[string]charter.Policy{},
		Commands: map[statement.CommandName]charter.Rule{
			statement.CharterReplace: officers(two), statement.KeyGenerate: officers(&charter.Node{Group: "officers"}),
			statement.KeyImportCert: officers(&charter.Node{Group: "officers"}), statement.KeySuspend: officers(nil),
			statement.KeyResume: officers(two), statement.KeyDestroy: officers(two),
		},
	}
	for i, n := range names {
		if i < 4 {
			c.People[n] = charter.Person{Credentials: t.credentials(n)}
		} else {
			c.Machines[n] = charter.Machine{Credentials: t.credentials(n), Inspector: n == "inspector"}
		}
	}
	var formats []string
	for _, f := range all.Formats() {
		if n := f.Name(); o.Records == nil || n != "records" && n != "circle" { // those have policies of their own
			formats = append(formats, n)
		}
	}
	slices.Sort(formats)
	quorum := func(extra ...charter.Node) *charter.Node {
		return &charter.Node{Need: 3 + len(extra), Of: append([]charter.Node{{Group: "release"}, {Group: "security"}, {Group: "gates"}}, extra...)}
	}
	for i, k := range o.Keys {
		c.Keys[k.Name] = charter.Key{URI: k.URI, Algorithm: k.Algorithm}
		suffix := ""
		if i > 0 {
			suffix = "-" + k.Name
		}
		requesters := []string{"release"}
		endorsed := charter.Policy{Key: k.Name, Formats: formats, Rule: charter.Rule{Requesters: requesters, Quorum: quorum(), Veto: []string{"security"}}}
		if o.Timestamps {
			endorsed.Timestamp = []string{"self"}
		}
		c.Policies["release"+suffix] = endorsed
		uploaded := endorsed
		uploaded.Upload, uploaded.Rule.Quorum = true, quorum(charter.Node{Group: "inspectors"})
		c.Policies["inspected"+suffix] = uploaded
		c.Policies["nightly"+suffix] = charter.Policy{Key: k.Name, Formats: formats, Names: []string{"nightly-*"},
			Rule: charter.Rule{Requesters: requesters, Unattended: true}}
	}
	if o.Records != nil {
		t.records(c, o)
	}
	if o.Timestamps {
		c.Keys["stamp"] = charter.Key{URI: "soft:stamp", Algorithm: sigalg.P256}
		c.Timestamping = &charter.Timestamping{Key: "stamp", Policy: "1.3.6.1.4.1.13762.3"}
	}
	return c
}

// Office is what a trial needs of a server.
type Office interface {
	Submit(ctx context.Context, envelope []byte, items [][]byte) (*store.Request, bool, error)
	Endorse(ctx context.Context, envelope []byte) (*store.Request, error)
	Await(ctx context.Context, id statement.ID, revision int64) (*store.Request, error)
	Key(ctx context.Context, name string) (*keeper.KeyStatus, error)
}

// Do requests a command and has people endorse it, until it is executed.
func (t *Trial) Do(ctx context.Context, o Office, ref statement.CharterRef, requester string, cmd statement.Command, items [][]byte, endorsers ...string) (*store.Request, error) {
	env, id, err := t.People[requester].Request(ctx, t.Charter, ref, cmd, author.RequestOptions{})
	if err != nil {
		return nil, err
	}
	r, _, err := o.Submit(ctx, env, items)
	if err != nil {
		return nil, err
	}
	if r.ID != id {
		return r, fmt.Errorf("trial: %s attached to the open request %s", id, r.ID)
	}
	_, req, err := statement.DecodeEnveloped[statement.Request](env)
	if err != nil {
		return nil, err
	}
	for _, n := range endorsers {
		b, err := t.People[n].Endorsement(ctx, &req, id, statement.Endorse, "", 0, nil)
		if err != nil {
			return nil, err
		}
		if r, err = o.Endorse(ctx, b); err != nil {
			return nil, fmt.Errorf("trial: %s: %w", n, err)
		}
	}
	for r.State == store.Endorsed {
		if r, err = o.Await(ctx, id, r.Revision); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if r.State != store.Executed {
		return r, fmt.Errorf("trial: %s is %s: %s", cmd.Name, r.State, r.Detail)
	}
	return r, nil
}

// Ref is the reference of the founding charter.
func (t *Trial) Ref() statement.CharterRef { return statement.CharterRef{Version: 1, ID: t.Root} }

// MakeKeys generates every key of the charter and imports a certificate of the
// trial's own authority for it.
func (t *Trial) MakeKeys(ctx context.Context, o Office) error {
	ca, err := NewAuthority(t.now())
	if err != nil {
		return err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw})
	if err := os.WriteFile(t.RootFile(), root, 0o644); err != nil {
		return err
	}
	var keys []string
	for n := range t.Charter.Keys {
		keys = append(keys, n)
	}
	slices.Sort(keys)
	for _, n := range keys {
		gen := statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: n, Subject: "CN=Trial " + n + ",O=Trial"}}
		if _, err := t.Do(ctx, o, t.Ref(), "alice", gen, nil, "carol"); err != nil {
			return err
		}
		st, err := o.Key(ctx, n)
		if err != nil {
			return err
		}
		stamping := t.Charter.Timestamping != nil && t.Charter.Timestamping.Key == n
		pub, err := x509.ParsePKIXPublicKey(st.PublicKey)
		if err != nil {
			return err
		}
		subject, err := asn1.Marshal(pkix.Name{CommonName: "Trial " + n, Organization: []string{"Trial"}}.ToRDNSequence())
		if err != nil {
			return err
		}
		leaf, err := ca.Issue(pub, subject, stamping, t.now())
		if err != nil {
			return err
		}
		chain := [][]byte{leaf, ca.Certificate.Raw}
		imp := statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: n, Chain: chain}}
		if _, err := t.Do(ctx, o, t.Ref(), "alice", imp, nil, "carol"); err != nil {
			return err
		}
	}
	return nil
}

// RootFile is the certificate of the trial's authority, in PEM.
func (t *Trial) RootFile() string { return filepath.Join(t.Dir, "trial-ca.crt") }
