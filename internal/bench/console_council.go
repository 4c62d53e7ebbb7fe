package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// Where the town's console is, for passkeys.
const (
	townHost      = "localhost"
	townConsole   = "http://localhost"
	townVersions  = 4                  // of the charter
	townCouncil   = 7 * 24 * time.Hour // how long what officers ask for waits
	townSessions  = 200
	townPasskeys  = 3 // registrations that wait
	coseES256     = "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"
	flagsAttested = 0x01 | 0x04 | 0x40 // a person is present and verified; a key is there (WebAuthn section 6.1)
)

// authenticator is a passkey that is only registered.
type authenticator struct{ id, cose []byte }

func newAuthenticator() (*authenticator, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	a := &authenticator{id: make([]byte, 32)}
	crand.Read(a.id)
	a.cose = append([]byte(coseES256), point[1:33]...)
	a.cose = append(append(a.cose, 0x22, 0x58, 0x20), point[33:]...)
	return a, nil
}

func (a *authenticator) credential() (*credential.Passkey, error) {
	return credential.NewPasskey(a.id, a.cose, townHost, []string{townConsole}, false)
}

// answer is what a browser says of a new passkey, with no attestation (WebAuthn section
// 8.7).
func (a *authenticator) answer(b *registration.Begun) (registration.Answer, error) {
	client, err := json.Marshal(map[string]any{"type": "webauthn.create", "challenge": b.Options.Challenge, "origin": townConsole, "crossOrigin": false}, json.Deterministic(true))
	if err != nil {
		return registration.Answer{}, fmt.Errorf("bench: %w", err)
	}
	rp := sha256.Sum256([]byte(townHost))
	auth := append(rp[:], flagsAttested, 0, 0, 0, 0)
	auth = append(auth, make([]byte, 16)...) // of no known model
	auth = binary.BigEndian.AppendUint16(auth, uint16(len(a.id)))
	auth = append(append(auth, a.id...), a.cose...)
	// {"fmt": "none", "attStmt": {}, "authData": auth}
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59"), 0, 0)
	binary.BigEndian.PutUint16(object[len(object)-2:], uint16(len(auth)))
	return registration.Answer{Ticket: b.Ticket, Object: append(object, auth...), ClientData: client, Label: "the blue key", Transports: []string{"usb"}}, nil
}

// givePasskeys has the officers sign in with one, beside the keys that they have.
func givePasskeys(c *charter.Charter) error {
	for _, n := range c.Groups["officers"].Members {
		a, err := newAuthenticator()
		if err != nil {
			return err
		}
		k, err := a.credential()
		if err != nil {
			return err
		}
		p := c.People[n]
		p.Credentials = append(p.Credentials, charter.CredentialOf(k))
		c.People[n] = p
	}
	return nil
}

// successor is a charter that follows another, with changes.
func successor(c *charter.Charter, ref statement.CharterRef, at time.Time, change func(*charter.Charter)) (payload []byte, err error) {
	next, err := charter.Next(c, ref, at)
	if err != nil {
		return nil, err
	}
	change(next)
	return charter.Encode(next)
}

// petition is a request of officers with its endorsements.
type petition struct {
	req         statement.Request
	id          statement.ID
	env         []byte
	endorsers   []string
	endorsement [][]byte
	ids         []statement.ID
}

func (f *founder) petition(ctx context.Context, under statement.CharterRef, cmd statement.Command, at time.Time, reason string, endorsers ...string) (*petition, error) {
	nonce := make([]byte, 16)
	crand.Read(nonce)
	p := &petition{endorsers: endorsers, req: statement.Request{Deployment: townName, Charter: under, Requester: townPeople[0], Command: cmd, Created: at, Expires: at.Add(townCouncil), Nonce: fmt.Sprintf("%x", nonce), Reason: reason}}
	payload, err := statement.Encode(p.req)
	if err != nil {
		return nil, err
	}
	if p.env, err = f.seal(ctx, payload, townPeople[0]); err != nil {
		return nil, err
	}
	p.id = statement.IDOf(payload)
	for i, who := range endorsers {
		payload, err := statement.Encode(statement.Endorsement{Deployment: townName, Request: p.id, Endorser: who, Verdict: statement.Endorse, Comment: "agreed at the meeting",
			Created: at.Add(time.Duration(i+1) * time.Hour), Expires: p.req.Expires.Add(time.Hour)})
		if err != nil {
			return nil, err
		}
		env, err := f.seal(ctx, payload, who)
		if err != nil {
			return nil, err
		}
		p.endorsement, p.ids = append(p.endorsement, env), append(p.ids, statement.IDOf(payload))
	}
	return p, nil
}

// amend brings the later versions of the charter into force, before the first request.
func (f *founder) amend(ctx context.Context, chain *quorum.Chain) error {
	for n := 2; n <= townVersions; n++ {
		head, ref := chain.Head()
		at := head.Created.Add(4 * time.Hour)
		payload, err := successor(head, ref, at, func(c *charter.Charter) {
			for i, p := range townProducts {
				for _, k := range townKinds {
					name := p + "-" + k.policy
					x := c.Policies[name]
					x.Description = fmt.Sprintf("%s for %s, rule %d", p, k.policy, n)
					if i%townVersions == n-1 {
						x.MaxItems = 100 * n
					}
					c.Policies[name] = x
				}
			}
		})
		if err != nil {
			return err
		}
		cmd := statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}
		p, err := f.petition(ctx, ref, cmd, at, fmt.Sprintf("version %d", n), townPeople[1], townPeople[2])
		if err != nil {
			return err
		}
		if err := chain.Extend(quorum.Evidence{Request: p.env, Endorsements: p.endorsement}, at.Add(3*time.Hour)); err != nil {
			return err
		}
	}
	f.charter, f.ref = chain.Head()
	return nil
}

// reform is a change that somebody has to read: several policies, people and groups.
func (f *founder) reform() ([]byte, error) {
	return successor(f.charter, f.ref, f.now, func(c *charter.Charter) {
		for i, p := range townProducts[:5] {
			name := p + "-" + townKinds[0].policy
			x := c.Policies[name]
			switch i {
			case 0: // weaker
				x.Rule.Quorum = &charter.Node{Need: 2, Of: []charter.Node{{Group: "release"}, {Group: "gates"}}}
			case 1: // stronger
				x.Rule.Quorum = &charter.Node{Need: 4, Of: []charter.Node{{Group: "release"}, {Group: "security"}, {Group: "gates"}, {Group: "officers"}}}
			case 2:
				x.Names = []string{p + "-*.exe"}
			case 3:
				x.Rule.Veto = nil
			default:
				x.Rule.Requesters = []string{"builds"}
			}
			c.Policies[name] = x
		}
		g := c.Groups["security"]
		g.Members = append(g.Members, townPeople[14], townPeople[15])
		c.Groups["security"] = g
	})
}

// enter puts a petition into the database, with a receipt if there is a number for one.
func (f *founder) enter(ctx context.Context, st *store.SQL, p *petition, key string, number uint64) (entries int64, err error) {
	first := &store.Change{New: &store.Request{ID: p.id, Envelope: p.env, Command: p.req.Command.Name, Digest: p.req.Command.Digest(), Key: key, Requester: p.req.Requester,
		State: store.Pending, Created: p.req.Created, Expires: p.req.Expires}, At: p.req.Created}
	if err := enterTown(first, audit.KindRequest, p.id, p.env, first.At); err != nil {
		return 0, err
	}
	steps := []*store.Change{first}
	for i, env := range p.endorsement {
		at := p.req.Created.Add(time.Duration(i+1) * time.Hour)
		c := &store.Change{Request: p.id, Revision: int64(len(steps)), State: store.Pending, At: at,
			Endorsement: &store.Endorsement{ID: p.ids[i], Envelope: env, Endorser: p.endorsers[i], Verdict: statement.Endorse, Arrived: at}}
		if err := enterTown(c, audit.KindEndorsement, p.id, env, at); err != nil {
			return 0, err
		}
		steps = append(steps, c)
	}
	if number > 0 {
		last := steps[len(steps)-1]
		last.State = store.Executed
		last.At = last.At.Add(time.Second)
		if err := f.generated(last, p, key, number); err != nil {
			return 0, err
		}
	}
	for _, c := range steps {
		if err := st.Apply(ctx, c); err != nil {
			return 0, fmt.Errorf("bench: %s: %w", p.req.Command.Name, err)
		}
		entries += int64(len(c.Entries))
	}
	return entries, nil
}

// generated is the receipt of key.generate, with its certificate request.
func (f *founder) generated(c *store.Change, p *petition, key string, number uint64) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	spki, err1 := x509.MarshalPKIXPublicKey(k.Public())
	csr, err2 := x509.CreateCertificateRequest(crand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Example Ltd"}}, k)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	rc := statement.Receipt{Number: number, Deployment: townName, Request: p.id, Charter: f.ref, Command: statement.KeyGenerate, Outcome: statement.Executed, Time: c.At, Endorsements: p.ids,
		Key: &statement.KeyResult{Key: key, State: "active", PublicKey: spki, Request: csr}}
	if number > 1 {
		rc.Previous = sha256.Sum256(fmt.Append(nil, "receipt", number-1))
	}
	payload, err := statement.Encode(rc)
	if err != nil {
		return err
	}
	env, err := receipt.Sign(f.receipts.Public().(ed25519.PublicKey), payload, func(m []byte) ([]byte, error) { return ed25519.Sign(f.receipts, m), nil })
	if err != nil {
		return err
	}
	c.Receipt = &store.Receipt{Number: number, Request: p.id, Outcome: rc.Outcome, Time: c.At, Envelope: env}
	if c.Result, err = format.Encode(&keeper.Outcome{Receipt: env}); err != nil {
		return err
	}
	return enterTown(c, audit.KindReceipt, p.id, env, c.At)
}

// council has the officers at work: a change of the charter and a key wait, and a key was
// generated, under the receipt of that number.
func (f *founder) council(ctx context.Context, st *store.SQL, number uint64) (entries int64, err error) {
	next, err := f.reform()
	if err != nil {
		return 0, err
	}
	generate := func(key string) statement.Command {
		return statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: key, Subject: "CN=Example Ltd,O=Example Ltd,C=CH"}}
	}
	done, waits := townProducts[0], townProducts[1]
	for _, x := range []struct {
		cmd       statement.Command
		key       string
		number    uint64
		ago       time.Duration
		endorsers []string
		id        *string
	}{
		{generate(done), done, number, 200 * 24 * time.Hour, []string{townPeople[1], townPeople[2]}, nil},
		{generate(waits), waits, 0, 48 * time.Hour, []string{townPeople[1]}, &f.Samples.Generate},
		{statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: next}}, "", 0, 24 * time.Hour, []string{townPeople[3]}, &f.Samples.Change},
	} {
		p, err := f.petition(ctx, f.ref, x.cmd, f.now.Add(-x.ago), "as agreed", x.endorsers...)
		if err != nil {
			return 0, err
		}
		n, err := f.enter(ctx, st, p, x.key, x.number)
		if err != nil {
			return 0, err
		}
		if entries += n; x.id != nil {
			*x.id = p.id.String()
		}
	}
	f.Samples.Generated = done + "-" + townKinds[0].policy
	return entries, nil
}

// visitors are what is of today, however old the town is: who is signed in, and passkeys
// that wait. It returns the ID of one of those.
func visitors(ctx context.Context, st *store.SQL, reg *registration.Service, now time.Time) (string, error) {
	list, err := st.ListSessions(ctx, store.SessionFilter{})
	if err != nil {
		return "", err
	}
	for i := len(list); i < townSessions; i++ {
		s := store.Session{Person: townPeople[i%len(townPeople)], Member: true, Via: "passkey", Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
			Created: now.Add(-time.Hour), Seen: now.Add(-time.Duration(i) * time.Second), Expires: now.Add(24 * time.Hour)}
		crand.Read(s.Hash[:])
		crand.Read(s.Binding[:])
		s.Handle = base64.RawURLEncoding.EncodeToString(s.Hash[:12])
		if err := st.PutSession(ctx, s, now); err != nil {
			return "", err
		}
	}
	waits := store.RegistrationFilter{States: []store.RegistrationState{store.RegistrationOpen}, Limit: 1}
	for i := range townPasskeys {
		who := registration.Who{Person: townPeople[10+i], Session: "bench", Via: "oidc", Issuer: "https://sso.example.com", Subject: townPeople[10+i]}
		have, err := st.Registrations(ctx, store.RegistrationFilter{Person: who.Person, States: waits.States, Limit: 1})
		if err != nil {
			return "", err
		}
		if len(have) > 0 {
			continue
		}
		if err := register(ctx, reg, who); err != nil {
			return "", err
		}
	}
	open, err := st.Registrations(ctx, waits)
	if err != nil {
		return "", err
	}
	if len(open) == 0 {
		return "", errors.New("no registration of a passkey waits")
	}
	return open[0].ID, nil
}

func register(ctx context.Context, reg *registration.Service, who registration.Who) error {
	here := registration.Site{RelyingParty: townHost, Origins: []string{townConsole}}
	b, err := reg.Begin(ctx, who, here)
	if err != nil {
		return err
	}
	a, err := newAuthenticator()
	if err != nil {
		return err
	}
	answer, err := a.answer(b)
	if err != nil {
		return err
	}
	_, err = reg.Finish(ctx, who, here, answer)
	return err
}
