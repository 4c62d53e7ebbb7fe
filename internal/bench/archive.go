package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

const (
	archiveName   = "bench"
	archiveOrigin = "log.example.com/bench"
	archiveFlush  = 4096 // entries that wait before the log takes them
)

// archive is a deployment in memory whose log is made to be verified: people,
// keeper and signing key have keys of their own, made at random, and all
// signatures are real. It is package verifytest's in small, and does not use it:
// this is part of the program, which is to hold neither package testing nor keys
// that everybody can make.
type archive struct {
	ctx      context.Context
	chain    *quorum.Chain
	root     statement.ID
	founding []byte
	now      time.Time
	people   map[string]credential.Signer
	receipts ed25519.PrivateKey
	log      ed25519.PrivateKey
	app      *ecdsa.PrivateKey
	cert     *x509.Certificate

	tiles   tiles
	tree    audit.Tree
	waiting [][]byte
	entries int64
	number  uint64
	last    statement.ID
}

// record is a request that the archive's keeper has executed.
type record struct {
	request      []byte
	endorsements [][]byte
	item         []byte
	signatures   [][]byte
	receipt      []byte
	entry        int64 // of the receipt
}

// tiles keep the widest form of each tile; level -1 are the entries.
type tiles map[[2]int64]tileData

type tileData struct {
	w    int
	data []byte
}

// ReadTiles implements audit.TileReader.
func (t tiles) ReadTiles(_ context.Context, list []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, x := range list {
		have, ok := t[[2]int64{int64(x.L), x.N}]
		if !ok || have.w < x.W {
			return nil, fmt.Errorf("bench: %s: %w", audit.TilePath(x), fs.ErrNotExist)
		}
		var err error
		if out[i], err = audit.Narrow(x, have.data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func newArchive(ctx context.Context) (*archive, error) {
	a := &archive{ctx: ctx, now: statement.Seconds(time.Now()), people: map[string]credential.Signer{}, tiles: tiles{}, tree: audit.EmptyTree()}
	var err error
	for _, n := range []string{"officer", "alice", "bob", "scanner", "dave", "ci"} {
		if a.people[n], err = newSSH(n == "bob"); err != nil {
			return nil, err
		}
	}
	if _, a.receipts, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if _, a.log, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if a.app, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench"}, NotBefore: a.now.Add(-time.Hour),
		NotAfter: a.now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, a.app.Public(), a.app)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	payload, err := charter.Encode(a.charter())
	if err != nil {
		return nil, err
	}
	a.root = charter.ID(payload)
	if a.founding, err = a.envelope(payload, "officer"); err != nil {
		return nil, err
	}
	a.chain, err = quorum.NewChain(&a.root, a.founding)
	return a, err
}

// charter has the policies "apps", with three endorsements of people and a machine,
// and "nightly", which waits for nobody.
func (a *archive) charter() *charter.Charter {
	creds := func(name string) []charter.Credential {
		return []charter.Credential{charter.CredentialOf(a.people[name].Credential())}
	}
	public := func(k ed25519.PrivateKey) string {
		return base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
	}
	c := &charter.Charter{
		Deployment: archiveName, Version: 1, Created: a.now,
		Keeper:   charter.Keeper{Receipts: public(a.receipts), Log: archiveOrigin, LogKey: public(a.log)},
		People:   map[string]charter.Person{},
		Machines: map[string]charter.Machine{"scanner": {Credentials: creds("scanner")}, "ci": {Owner: "dave", Credentials: creds("ci")}},
		Groups: map[string]charter.Group{"officers": {Members: []string{"officer"}}, "release": {Members: []string{"alice", "bob"}},
			"gates": {Members: []string{"scanner"}}},
		Keys: map[string]charter.Key{"app": {URI: "soft:app", Algorithm: sigalg.P256}},
		Policies: map[string]charter.Policy{
			"apps": {Key: "app", Formats: []string{cmsfile.New().Name()}, Rule: charter.Rule{Requesters: []string{"dave"}, Veto: []string{"release"},
				Quorum: &charter.Node{Need: 2, Of: []charter.Node{{Need: 2, Group: "release"}, {Need: 1, Group: "gates"}}}}},
			"nightly": {Key: "app", Formats: []string{cmsfile.New().Name()}, Rule: charter.Rule{Requesters: []string{"ci"}, Unattended: true}},
		},
		Commands: map[statement.CommandName]charter.Rule{
			statement.CharterReplace: {Requesters: []string{"dave"}, Quorum: &charter.Node{Need: 1, Group: "officers"}}},
	}
	for _, n := range []string{"officer", "alice", "bob", "dave"} {
		c.People[n] = charter.Person{Credentials: creds(n)}
	}
	return c
}

func (a *archive) tick() time.Time { a.now = a.now.Add(time.Second); return a.now }

// envelope is a payload signed by one.
func (a *archive) envelope(payload []byte, who string) ([]byte, error) {
	s := a.people[who]
	sig, err := s.Sign(a.ctx, credential.Statement, statement.PAE(payload))
	if err != nil {
		return nil, err
	}
	e := &statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(s.Credential().ID()), Sig: sig}}}
	return e.Encode()
}

// execute makes a request for one file and its endorsements, judges and executes
// it, and enters all of it.
func (a *archive) execute(policy, requester, name string, endorsers ...string) (*record, error) {
	f, r := cmsfile.New(), &record{}
	plan, err := f.Plan(a.ctx, format.BytesArtifact(name, []byte(name)), nil)
	if err != nil {
		return nil, err
	}
	b, err := plan.Encode()
	if err != nil {
		return nil, err
	}
	if r.item, err = (&format.Item{Plan: b, Name: name}).Encode(); err != nil {
		return nil, err
	}
	items, err := format.ItemsRoot([][]byte{r.item})
	if err != nil {
		return nil, err
	}
	_, ref := a.chain.Head()
	nonce := make([]byte, 16)
	rand.Read(nonce)
	payload, err := statement.Encode(statement.Request{Deployment: archiveName, Charter: ref, Requester: requester,
		Command: statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: policy, Key: "app", Formats: []string{f.Name()}, Count: 1, Items: items.String()}},
		Created: a.tick(), Expires: a.now.Add(100 * time.Hour), Nonce: hex.EncodeToString(nonce), Reason: "to be measured"})
	if err != nil {
		return nil, err
	}
	id := statement.IDOf(payload)
	if r.request, err = a.envelope(payload, requester); err != nil {
		return nil, err
	}
	if _, err := a.enter(audit.KindRequest, id, r.request); err != nil {
		return nil, err
	}
	for _, n := range endorsers {
		payload, err := statement.Encode(statement.Endorsement{Deployment: archiveName, Request: id, Endorser: n, Verdict: statement.Endorse,
			Created: a.tick(), Expires: a.now.Add(90 * time.Hour), Comment: "seen by " + n})
		if err != nil {
			return nil, err
		}
		e, err := a.envelope(payload, n)
		if err != nil {
			return nil, err
		}
		r.endorsements = append(r.endorsements, e)
		if _, err := a.enter(audit.KindEndorsement, id, e); err != nil {
			return nil, err
		}
	}
	return r, a.sign(r, id, plan, policy, items)
}

// sign is what the keeper does.
func (a *archive) sign(r *record, id statement.ID, plan *format.Plan, policy string, items merkle.Hash) error {
	at := a.tick()
	d, g := a.chain.Judge(quorum.Evidence{Request: r.request, Endorsements: r.endorsements}, at, quorum.Options{})
	if g == nil {
		return fmt.Errorf("bench: log: not granted: %s", d.Reason)
	}
	if err := g.Covers([][]byte{r.item}); err != nil {
		return err
	}
	scheme := sigalg.P256.Default()
	who := format.Identity{Scheme: scheme, Public: a.app.Public(), Chain: []*x509.Certificate{a.cert}}
	tbs, err := cmsfile.New().Assemble(plan, who, at, nil)
	if err != nil {
		return err
	}
	for _, t := range tbs {
		sum := sha256.Sum256(t.Message)
		sig, err := ecdsa.SignASN1(rand.Reader, a.app, sum[:])
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		if err := sigalg.Verify(a.app.Public(), t.Scheme, t.Message, sig); err != nil {
			return err
		}
		r.signatures = append(r.signatures, sig)
	}
	sigs, err := format.SignaturesRoot([]merkle.Hash{format.Leaf(r.item)}, [][][]byte{r.signatures})
	if err != nil {
		return err
	}
	_, ref := a.chain.Head()
	a.number++
	spki, chain := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo), sha256.Sum256(a.cert.Raw)
	payload, err := statement.Encode(statement.Receipt{Number: a.number, Previous: a.last, Deployment: archiveName, Request: id, Charter: ref,
		Command: statement.Sign, Outcome: statement.Executed, Time: at, Endorsements: g.Endorsements(),
		Signed: &statement.SignedResult{Policy: policy, Key: "app", PublicKey: hex.EncodeToString(spki[:]), Chain: hex.EncodeToString(chain[:]),
			Scheme: scheme, Count: 1, Items: items.String(), Signatures: sigs.String()}})
	if err != nil {
		return err
	}
	a.last = statement.IDOf(payload)
	r.receipt, err = receipt.Sign(a.receipts.Public().(ed25519.PublicKey), payload, func(m []byte) ([]byte, error) { return ed25519.Sign(a.receipts, m), nil })
	if err != nil {
		return err
	}
	r.entry, err = a.enter(audit.KindReceipt, id, r.receipt)
	return err
}

// enter appends an entry to the log and returns its index.
func (a *archive) enter(kind audit.Kind, id statement.ID, body []byte) (int64, error) {
	e := audit.NewEntry(kind, a.now, id, body)
	b, err := e.Encode()
	if err != nil {
		return 0, err
	}
	if a.waiting = append(a.waiting, b); len(a.waiting) >= archiveFlush {
		if err := a.flush(); err != nil {
			return 0, err
		}
	}
	a.entries++
	return a.entries - 1, nil
}

func (a *archive) flush() error {
	if len(a.waiting) == 0 {
		return nil
	}
	b, err := audit.Integrate(a.ctx, a.tiles, a.tree, a.waiting)
	if err != nil {
		return err
	}
	for _, t := range b.Tiles {
		a.tiles[[2]int64{int64(t.Tile.L), t.Tile.N}] = tileData{t.Tile.W, t.Data}
	}
	for _, e := range b.Bundles {
		a.tiles[[2]int64{-1, e.Index}] = tileData{e.W, e.Data}
	}
	a.tree, a.waiting = b.Tree, nil
	return nil
}

// source is the log as a verifier reads it, with its checkpoint.
func (a *archive) source() (verify.LogSource, []byte, error) {
	if err := a.flush(); err != nil {
		return verify.LogSource{}, nil, err
	}
	s, err := audit.NewSigner(archiveOrigin, a.log)
	if err != nil {
		return verify.LogSource{}, nil, err
	}
	note, err := audit.SignCheckpoint(archiveOrigin, a.tree, s)
	return verify.LogSource{
		Founding: a.founding,
		Fetch: func(ctx context.Context, path string) ([]byte, error) {
			if path == audit.CheckpointPath {
				return note, ctx.Err()
			}
			t, err := audit.ParseTilePath(path)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
			}
			out, err := a.tiles.ReadTiles(ctx, []tlog.Tile{t})
			if err != nil {
				return nil, err
			}
			return out[0], nil
		},
		Body: func(_ context.Context, sum [32]byte, _ int64) ([]byte, error) {
			return nil, fmt.Errorf("bench: body %x: %w", sum, fs.ErrNotExist) // none is large
		},
	}, note, err
}

// evidence is the document of the one file of r.
func (a *archive) evidence(r *record, src verify.LogSource, note []byte) (*verify.Evidence, error) {
	chain, err := a.chain.Encode()
	if err != nil {
		return nil, err
	}
	e := &verify.Evidence{Version: verify.EvidenceVersion, Chain: chain, Request: r.request, Receipt: r.receipt,
		File: verify.EvidenceFile{Item: r.item, Signatures: r.signatures, Certificates: [][]byte{a.cert.Raw}}}
	for _, x := range r.endorsements {
		e.Endorsements = append(e.Endorsements, x)
	}
	leaf := format.Leaf(r.item)
	if e.File.ItemProof, err = proveFirst(merkle.Items, leaf); err != nil {
		return nil, err
	}
	if e.File.SignatureProof, err = proveFirst(merkle.Signatures, format.SignatureLeaf(leaf, r.signatures)); err != nil {
		return nil, err
	}
	p, err := audit.ProveInclusion(a.ctx, a.tiles, a.entries, r.entry)
	if err != nil {
		return nil, err
	}
	n := r.entry / audit.TileWidth
	w := int(min(a.entries-n*audit.TileWidth, audit.TileWidth))
	data, err := src.Fetch(a.ctx, audit.BundlePath(n, w))
	if err != nil {
		return nil, err
	}
	entries, err := audit.ParseBundle(data, w)
	if err != nil {
		return nil, err
	}
	e.Log = verify.EvidenceLog{Checkpoint: string(note), Entry: entries[r.entry%audit.TileWidth], Inclusion: p}
	return e, nil
}

func proveFirst(domain merkle.Domain, leaf merkle.Hash) (merkle.Proof, error) {
	t, err := merkle.New(domain, []merkle.Hash{leaf})
	if err != nil {
		return merkle.Proof{}, err
	}
	return t.Prove(0)
}
