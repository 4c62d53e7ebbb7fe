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
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// town is a deployment that has been at work for a year, made to be looked at:
// every envelope is signed by whom it names, and the log is a log. Only its files
// were never there, and its receipts do not lead from one to the next.
type town struct {
	Shape    int // of the town: another one's is not measured
	Requests int
	Entries  int64
	Root     statement.ID
	Chain    []byte // as the keeper gives it
	Status   keeper.Status
	Samples  samples
	Business business

	Authority []byte // key of the agents' certificates, PKCS #8
	Anchor    []byte // certificate of the records' authority
}

// townShape grows with what towns have.
const townShape = 2

// samples are what pages are asked for.
type samples struct {
	Executed, Pending, Disapproved string // IDs
	Receipt                        uint64
	Entry                          int64
	Policy, Key, Person, Requester string
	Digest, Name                   string

	Change, Generate string // petitions of officers that wait
	Generated        string // policy whose key was generated
	Registration     string // of a passkey, that waits

	Agent, Order, Rejection, Job, Set string
	Middle                            int // of the list of orders, as of those of rejections and findings
}

const (
	townName   = "town"
	townOrigin = "log.example.com/town"
	townDays   = 400
	townFiles  = 3
)

var (
	townPeople   = [...]string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "karl", "laura", "mallory", "niaj", "olivia", "peggy", "rupert", "sybil", "trent", "wendy"}
	townProducts = [...]string{"atlas", "beacon", "cobalt", "delta", "ember", "fjord", "garnet", "harbor"}
	townKinds    = [...]struct{ policy, format, suffix string }{
		{"windows", "pe", "-x64.exe"}, {"setup", "msi", "-setup.msi"}, {"linux", "deb", "_amd64.deb"}, {"archive", "cms", ".tar.gz"}, {"nightly", "pe", "-nightly.exe"},
	}
)

// founder has the keys of a town while it is made.
type founder struct {
	town
	people   map[string]credential.Signer
	receipts ed25519.PrivateKey
	log      ed25519.PrivateKey
	ref      statement.CharterRef
	charter  *charter.Charter
	cert     []byte
	plan     *format.Plan
	now      time.Time
}

func found(ctx context.Context, now time.Time) (*founder, error) {
	f := &founder{people: map[string]credential.Signer{}, now: statement.Seconds(now)}
	f.Shape = townShape
	var err error
	for i, n := range append(townPeople[:], "scanner", "ci") {
		if f.people[n], err = newSSH(i%3 == 0); err != nil {
			return nil, err
		}
	}
	pub, priv, err1 := ed25519.GenerateKey(crand.Reader)
	logPub, logPriv, err2 := ed25519.GenerateKey(crand.Reader)
	app, err3 := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	f.receipts, f.log = priv, logPriv
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Town"}, NotBefore: f.now.AddDate(-2, 0, 0), NotAfter: f.now.AddDate(0, 0, 40),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if f.cert, err = x509.CreateCertificate(crand.Reader, t, t, app.Public(), app); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(app.Public())
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	f.charter = f.draft(pub, logPub)
	if err := errors.Join(givePasskeys(f.charter), f.authorities()); err != nil {
		return nil, err
	}
	payload, err := charter.Encode(f.charter)
	if err != nil {
		return nil, err
	}
	f.Root = charter.ID(payload)
	env, err := f.seal(ctx, payload, townPeople[0], townPeople[1])
	if err != nil {
		return nil, err
	}
	chain, err := quorum.NewChain(&f.Root, env)
	if err != nil {
		return nil, err
	}
	if err := f.amend(ctx, chain); err != nil {
		return nil, err
	}
	if f.Chain, err = chain.Encode(); err != nil {
		return nil, err
	}
	f.Status = keeper.Status{ReceiptKey: pub, LogKey: logPub, Charter: f.ref, Version: "bench"}
	for name := range f.charter.Keys {
		f.Status.Keys = append(f.Status.Keys, keeper.KeyStatus{Name: name, State: "active", PublicKey: spki, Chain: [][]byte{f.cert}})
	}
	f.plan, err = pe.New().Plan(ctx, format.BytesArtifact("app.exe", smallImage(1)), nil)
	return f, err
}

// draft has 40 policies: five kinds of eight products. A fifth of them wait for
// nobody, the others for a releaser, somebody of security and the scanner.
func (f *founder) draft(receipts, log ed25519.PublicKey) *charter.Charter {
	creds := func(n string) []charter.Credential {
		return []charter.Credential{charter.CredentialOf(f.people[n].Credential())}
	}
	text := base64.StdEncoding.EncodeToString
	officers := charter.Rule{Requesters: []string{"officers"}, Quorum: &charter.Node{Group: "officers", Need: 2}}
	c := &charter.Charter{
		Deployment: townName, Version: 1, Created: f.now.AddDate(0, 0, -townDays-townVersions),
		Keeper: charter.Keeper{Receipts: text(receipts), Log: townOrigin, LogKey: text(log)},
		People: map[string]charter.Person{}, Machines: map[string]charter.Machine{"scanner": {Credentials: creds("scanner")}, "ci": {Credentials: creds("ci")}},
		Groups: map[string]charter.Group{"officers": {Members: townPeople[:4]}, "release": {Members: townPeople[2:10]}, "security": {Members: townPeople[8:14]},
			"gates": {Members: []string{"scanner"}}, "builds": {Members: []string{"ci"}}, "developers": {Members: townPeople[4:]}},
		Keys: map[string]charter.Key{}, Policies: map[string]charter.Policy{},
		Commands: map[statement.CommandName]charter.Rule{statement.CharterReplace: officers, statement.KeyGenerate: officers, statement.KeyImportCert: officers, statement.KeySuspend: officers},
	}
	c.Records = &charter.Records{Instance: townWorkshop, Configurations: recordsConfiguration()}
	for _, n := range townPeople {
		c.People[n] = charter.Person{Name: n, Email: n + "@example.com", Credentials: creds(n)}
	}
	for _, p := range townProducts {
		c.Keys[p] = charter.Key{URI: keyURI("soft:" + p), Algorithm: sigalg.P256}
		for _, k := range townKinds {
			r := charter.Rule{Requesters: []string{"developers", "builds"}, Veto: []string{"security"},
				Quorum: &charter.Node{Need: 3, Of: []charter.Node{{Group: "release"}, {Group: "security"}, {Group: "gates"}}}}
			if k.policy == "nightly" {
				r = charter.Rule{Requesters: []string{"developers", "builds"}, Unattended: true}
			}
			c.Policies[p+"-"+k.policy] = charter.Policy{Description: p + " for " + k.policy, Key: p, Formats: []string{k.format}, Rule: r}
		}
	}
	return c
}

func (f *founder) seal(ctx context.Context, payload []byte, who ...string) ([]byte, error) {
	env := &statement.Envelope{Payload: payload}
	for _, n := range who {
		s := f.people[n]
		sig, err := s.Sign(ctx, credential.Statement, statement.PAE(payload))
		if err != nil {
			return nil, err
		}
		env.Signatures = append(env.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	return env.Encode()
}

// fate is what becomes of a request, for each of a hundred.
func fate(n int) store.State {
	switch {
	case n < 85:
		return store.Executed
	case n < 90:
		return store.Disapproved
	case n < 94:
		return store.Expired
	case n < 96:
		return store.Cancelled
	case n < 97:
		return store.Failed
	}
	return store.Pending
}

// life is one request from its beginning to its end.
type life struct {
	steps []*store.Change
	state store.State
	extra []store.LogEntry
	file  *store.File
	id    statement.ID
	who   string
	about string
}

// live makes request i of n; number is its receipt's, if it is executed.
func (f *founder) live(ctx context.Context, i, n int, number uint64, state store.State) (*life, error) {
	rnd := rand.New(rand.NewPCG(uint64(i), 7))
	product, kind := townProducts[rnd.IntN(len(townProducts))], townKinds[rnd.IntN(len(townKinds))]
	name := product + "-" + kind.policy
	age := time.Duration(float64(n-i) / float64(n) * townDays * 24 * float64(time.Hour))
	if state == store.Pending {
		age = time.Duration(rnd.IntN(6*24*3600)) * time.Second
	}
	created := statement.Seconds(f.now.Add(-age))
	who := townPeople[4+rnd.IntN(len(townPeople)-4)]
	unattended := kind.policy == "nightly"
	if unattended {
		who = "ci"
		if state == store.Pending || state == store.Disapproved {
			kind = townKinds[0]
			name, unattended = product+"-"+kind.policy, false
		}
	}
	l := &life{state: state, who: who, about: name}
	count := 1 + rnd.IntN(2*townFiles-1)
	var items [][]byte
	var files []store.File
	for j := range count {
		version := fmt.Sprintf("%d.%d.%d", 1+i*9/n, rnd.IntN(20), rnd.IntN(100))
		file := fmt.Sprintf("%s-%s%s", []string{product, product + "-tools", product + "-agent", "lib" + product, product + "-plugin", product + "-updater"}[j%6], version, kind.suffix)
		p := *f.plan
		sum := sha256.Sum256(fmt.Append(nil, file, i, j))
		p.Format, p.Content, p.Size = kind.format, sum[:], int64(10_000+rnd.IntN(50_000_000))
		p.Facts = []format.Fact{{Name: "product-name", Value: "Example " + product}, {Name: "product-version", Value: version}, {Name: "file-version", Value: version}, {Name: "company-name", Value: "Example Ltd"}}
		enc, err := p.Encode()
		if err != nil {
			return nil, err
		}
		it := &format.Item{Plan: enc, Name: file}
		b, err := it.Encode()
		if err != nil {
			return nil, err
		}
		items = append(items, b)
		files = append(files, store.FileOf(statement.ID{}, j, it, &p))
	}
	root, err := format.ItemsRoot(items)
	if err != nil {
		return nil, err
	}
	req := statement.Request{Deployment: townName, Charter: f.ref, Requester: who,
		Command: statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: name, Key: product, Formats: []string{kind.format}, Count: count, Items: root.String()}},
		Created: created, Expires: created.Add(7 * 24 * time.Hour), Nonce: fmt.Sprintf("%032x", i), Reason: "release of " + product}
	payload, err := statement.Encode(req)
	if err != nil {
		return nil, err
	}
	env, err := f.seal(ctx, payload, who)
	if err != nil {
		return nil, err
	}
	l.id, l.file = statement.IDOf(payload), &files[0]
	first := &store.Change{New: &store.Request{ID: l.id, Envelope: env, Command: statement.Sign, Digest: req.Command.Digest(), Policy: name, Key: product, Requester: who,
		Count: count, State: store.Pending, Created: created, Expires: req.Expires}, Items: items, Files: files, At: created}
	if err := enterTown(first, audit.KindRequest, l.id, env, created); err != nil {
		return nil, err
	}
	l.steps = []*store.Change{first}
	at := created
	var counted []statement.ID
	say := func(who string, v statement.Verdict) error {
		at = statement.Seconds(at.Add(time.Duration(60+rnd.ExpFloat64()*4*3600) * time.Second))
		payload, err := statement.Encode(statement.Endorsement{Deployment: townName, Request: l.id, Endorser: who, Verdict: v, Comment: "looked at " + product, Created: at, Expires: req.Expires.Add(time.Hour)})
		if err != nil {
			return err
		}
		env, err := f.seal(ctx, payload, who)
		if err != nil {
			return err
		}
		id := statement.IDOf(payload)
		c := first
		if len(l.steps) > 1 || first.Endorsement != nil {
			c = &store.Change{Request: l.id, Revision: int64(len(l.steps)), State: store.Pending}
			l.steps = append(l.steps, c)
		}
		c.At = at
		c.Endorsement = &store.Endorsement{ID: id, Envelope: env, Endorser: who, Verdict: v, Arrived: at}
		counted = append(counted, id)
		if err := enterTown(c, audit.KindEndorsement, l.id, env, at); err != nil {
			return err
		}
		if len(l.extra) < 16 { // the same once more is refused
			x := &store.Change{}
			if err := enterTown(x, audit.KindRejection, l.id, env, at); err != nil {
				return err
			}
			l.extra = append(l.extra, x.Entries...)
		}
		return nil
	}
	votes := []string{"scanner", townPeople[2+rnd.IntN(6)], townPeople[10+rnd.IntN(4)]}
	for k, v := range votes {
		if v == who {
			votes[k] = townPeople[8+rnd.IntN(2)]
			if votes[k] == who {
				votes[k] = townPeople[8+(rnd.IntN(2)+1)%2]
			}
		}
	}
	if unattended {
		votes = nil
	} else if state == store.Pending || state == store.Expired || state == store.Cancelled {
		votes = votes[:rnd.IntN(3)]
	} else if state == store.Disapproved {
		votes = votes[:1+rnd.IntN(2)]
	}
	for _, v := range votes {
		if err := say(v, statement.Endorse); err != nil {
			return nil, err
		}
	}
	if state == store.Disapproved {
		if err := say(townPeople[8+rnd.IntN(6)], statement.Disapprove); err != nil {
			return nil, err
		}
	}
	if state == store.Pending {
		return l, nil
	}
	last := l.steps[len(l.steps)-1]
	if last == first {
		last = &store.Change{Request: l.id, Revision: 1}
		l.steps = append(l.steps, last)
	}
	at = at.Add(time.Second)
	last.State, last.At = state, at
	switch state {
	case store.Expired:
		err = enterTown(last, audit.KindExpire, l.id, nil, at)
	case store.Cancelled:
		err = enterTown(last, audit.KindCancel, l.id, []byte(who), at)
	case store.Executed, store.Failed:
		err = f.receipt(last, l, number, name, product, count, root.String(), counted, state, at)
	}
	return l, err
}

func (f *founder) receipt(c *store.Change, l *life, number uint64, policy, key string, count int, root string, counted []statement.ID, state store.State, at time.Time) error {
	rc := statement.Receipt{Number: number, Deployment: townName, Request: l.id, Charter: f.ref, Command: statement.Sign, Outcome: statement.Executed, Time: at, Endorsements: counted}
	if counted == nil {
		rc.Endorsements = []statement.ID{}
	}
	if number > 1 {
		rc.Previous = sha256.Sum256(fmt.Append(nil, "receipt", number-1))
	}
	if state == store.Failed {
		rc.Outcome, rc.Code, rc.Detail, rc.Endorsements = statement.Refused, string(keeper.PlanInvalid), "the plan cannot be assembled", []statement.ID{}
		c.Code, c.Detail = rc.Code, rc.Detail
	} else {
		cert, err := x509.ParseCertificate(f.cert)
		if err != nil {
			return err
		}
		spki, chain := sha256.Sum256(cert.RawSubjectPublicKeyInfo), sha256.Sum256(f.cert)
		rc.Signed = &statement.SignedResult{Policy: policy, Key: key, PublicKey: hex.EncodeToString(spki[:]), Chain: hex.EncodeToString(chain[:]), Scheme: sigalg.P256.Default(), Count: count, Items: root, Signatures: root}
	}
	payload, err := statement.Encode(rc)
	if err != nil {
		return err
	}
	env, err := receipt.Sign(f.receipts.Public().(ed25519.PublicKey), payload, func(m []byte) ([]byte, error) { return ed25519.Sign(f.receipts, m), nil })
	if err != nil {
		return err
	}
	c.Receipt = &store.Receipt{Number: number, Request: l.id, Outcome: rc.Outcome, Time: at, Envelope: env}
	if state == store.Executed {
		out := &keeper.Outcome{Receipt: env, Chain: [][]byte{f.cert}}
		for range count {
			out.Signatures = append(out.Signatures, [][]byte{make([]byte, 70)})
		}
		if c.Result, err = format.Encode(out); err != nil {
			return err
		}
	}
	return enterTown(c, audit.KindReceipt, l.id, env, at)
}

func enterTown(c *store.Change, kind audit.Kind, id statement.ID, body []byte, at time.Time) error {
	e := audit.NewEntry(kind, at, id, body)
	data, err := e.Encode()
	if err != nil {
		return err
	}
	le := store.LogEntry{Kind: kind, Request: id, Time: at, Data: data}
	if sum, _, detached := e.Detached(); detached {
		le.Body, le.BodySum = body, sum
	}
	c.Entries = append(c.Entries, le)
	return nil
}

// settle makes a town's requests and log in a database.
func (f *founder) settle(ctx context.Context, st *store.SQL, requests int, entries int64, say Progress) error {
	f.Requests = requests
	var numbers uint64
	states := make([]store.State, requests)
	receipts := make([]uint64, requests)
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range states {
		states[i] = fate(rnd.IntN(100))
		if states[i] == store.Executed || states[i] == store.Failed {
			numbers++
			receipts[i] = numbers
		}
	}
	jobs := make(chan int)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var extra []store.LogEntry
	made, kept := int64(0), 0
	for range 96 {
		wg.Go(func() {
			for i := range jobs {
				l, err := f.live(ctx, i, requests, receipts[i], states[i])
				for k := 0; err == nil && k < len(l.steps); k++ {
					err = st.Apply(ctx, l.steps[k])
				}
				if err != nil {
					cancel(fmt.Errorf("bench: request %d: %w", i, err))
					return
				}
				mu.Lock()
				for _, s := range l.steps {
					made += int64(len(s.Entries))
				}
				if int64(len(extra)) < entries {
					extra = append(extra, l.extra...)
				}
				kept++
				f.sample(l, receipts[i])
				if kept%10_000 == 0 {
					say.say("made %d of %d requests", kept, requests)
				}
				mu.Unlock()
			}
		})
	}
	for i := range requests {
		select {
		case jobs <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(jobs)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.Status.Receipts = numbers + 1
	more, err := f.council(ctx, st, numbers+1)
	if err != nil {
		return err
	}
	made += more
	return f.finish(ctx, st, entries-made, extra, say)
}

// sample remembers what pages are asked for.
func (f *founder) sample(l *life, number uint64) {
	s := &f.Samples
	id := l.id.String()
	switch {
	case l.state == store.Executed && len(l.steps) > 2 && l.who != "ci":
		s.Executed, s.Receipt, s.Policy, s.Key, s.Requester = id, number, l.about, l.steps[0].New.Key, l.who
		s.Digest, s.Name, s.Person = hex.EncodeToString(l.file.Content), l.file.Name, l.steps[1].Endorsement.Endorser
	case l.state == store.Pending:
		s.Pending = id
	case l.state == store.Disapproved:
		s.Disapproved = id
	}
}

// finish fills the log, gives it its tree and a checkpoint, and brings the catalogue
// and the tallies up to date.
func (f *founder) finish(ctx context.Context, st *store.SQL, missing int64, extra []store.LogEntry, say Progress) error {
	say.say("filling the log")
	const group = 64
	for at := int64(0); at < missing && len(extra) > 0; at += group {
		c := &store.Change{At: f.now}
		for k := at; k < min(at+group, missing); k++ {
			c.Entries = append(c.Entries, extra[k%int64(len(extra))])
		}
		if err := st.Apply(ctx, c); err != nil {
			return err
		}
		if at%(group*4096) == 0 {
			if _, err := st.Sequence(ctx, 4096); err != nil {
				return err
			}
		}
	}
	for {
		n, err := st.Sequence(ctx, 4096)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	h, err := st.Head(ctx)
	if err != nil {
		return err
	}
	f.Entries, f.Samples.Entry = h.Tree.Size, h.Tree.Size/2
	s, err := audit.NewSigner(townOrigin, f.log)
	if err != nil {
		return err
	}
	note, err := audit.SignCheckpoint(townOrigin, h.Tree, s)
	if err != nil {
		return err
	}
	f.Status.Checkpoint = note
	if err := st.SetCheckpoint(ctx, h.Tree.Size, note); err != nil {
		return err
	}
	say.say("entering %d requests into the catalogue", f.Requests)
	for {
		n, err := st.Enter(ctx, 100_000)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	say.say("counting %d entries", h.Tree.Size)
	return analysis.New(st).All(ctx)
}
