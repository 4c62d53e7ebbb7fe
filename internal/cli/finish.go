package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// output says where signed files go.
type output struct {
	out      string
	inPlace  bool
	evidence bool
	dir      bool // out is a folder
}

func (o *output) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.out, "out", "o", "", "folder or file for the result (default: the file itself is replaced, a detached signature stands beside it)")
	f.BoolVar(&o.inPlace, "in-place", false, "edit the file itself under a journal instead of writing a copy: for files that fill the disk")
	f.BoolVar(&o.evidence, "evidence", true, "write NAME"+evidenceSuffix+", the proof of who approved it")
	var no bool
	f.BoolVar(&no, "no-evidence", false, "do not write it")
	c.PreRunE = func(*cobra.Command, []string) error {
		o.evidence = o.evidence && !no
		return nil
	}
}

// check settles what --out means for n files.
func (o *output) check(n int) error {
	if o.out == "" {
		return nil
	}
	if o.inPlace {
		return fail(exitUsage, "leave one of them out", "--in-place edits the file itself: --out cannot be")
	}
	st, err := os.Stat(o.out)
	o.dir = err == nil && st.IsDir() || strings.HasSuffix(o.out, string(filepath.Separator)) || strings.HasSuffix(o.out, "/")
	if n > 1 && !o.dir {
		if err == nil {
			return fail(exitUsage, "name a folder", "--out %s is a file: it cannot take %d files", o.out, n)
		}
		o.dir = true
	}
	return nil
}

// paths are where the result of a file goes, and its evidence.
func (o *output) paths(path, name string, p *format.Patch) (out, evidence string, err error) {
	suffix := ""
	if p.Sidecar != nil {
		suffix = p.Sidecar.Suffix
	}
	switch {
	case o.out == "":
		return "", path + evidenceSuffix, nil
	case !o.dir:
		return o.out, o.out + evidenceSuffix, nil
	}
	base := filepath.Join(o.out, inside(name))
	return base + suffix, base + evidenceSuffix, os.MkdirAll(filepath.Dir(base), 0o755)
}

// inside is where a file of that name, which is the requester's word, lies in a
// folder: never elsewhere, and never the folder itself.
func inside(name string) string {
	name = filepath.Clean(filepath.FromSlash(name))
	if !filepath.IsLocal(name) {
		name = filepath.Base(name)
	}
	if name == "." || !filepath.IsLocal(name) {
		return "unnamed"
	}
	return name
}

// piece is one file of an executed request, and its place in it.
type piece struct {
	index int
	path  string
	name  string
	item  []byte
	was   os.FileInfo // when its plan was made
}

// signedFile is what became of a piece.
type signedFile struct {
	File      string `json:"file"` // that was signed
	Index     int    `json:"index"`
	Format    string `json:"format"`
	Digest    string `json:"digest"`
	Content   string `json:"content"`
	Output    string `json:"output"` // signed file, or detached signature
	Evidence  string `json:"evidence,omitzero"`
	Timestamp bool   `json:"timestamp"`
	Verified  bool   `json:"verified"`      // by the format's own verifier, after writing
	Note      string `json:"note,omitzero"` // what the verification leaves open
	LogIndex  int64  `json:"logIndex,omitzero"`
}

// job is the finishing of an executed request's files.
type job struct {
	l    *link
	v    *server.View
	rc   *statement.Receipt
	res  *server.Result
	id   format.Identity
	root statement.ID
	o    *output
}

// finish turns the signatures of an executed request into signed files: attaches
// each, writes it, verifies what was written, and puts the evidence beside it.
func (l *link) finish(ctx context.Context, v *server.View, pieces []piece, o *output) ([]signedFile, error) {
	v, err := l.awaitTimestamps(ctx, v)
	if err != nil {
		return nil, err
	}
	j := &job{l: l, v: v, root: l.cfg.Root, o: o}
	if j.rc, j.res, err = l.receipt(ctx, v); err != nil {
		return nil, err
	}
	if j.rc.Signed == nil {
		return nil, fail(exitFailed, "greatseal request show "+short(v.ID), "request %s signed nothing: %s", short(v.ID), v.Command.Name)
	}
	if err := j.identity(ctx); err != nil {
		return nil, err
	}
	docs := map[int]*verify.Evidence{}
	if o.evidence {
		if docs, err = j.evidence(ctx, pieces); err != nil {
			return nil, err
		}
	}
	m := l.app.meter("writing", int64(len(pieces)), false)
	defer m.end()
	out := make([]signedFile, len(pieces))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range pieces {
		g.Go(func() error {
			s, err := j.write(ctx, p, docs[p.index])
			if _, hint := verdict(err); err != nil && hint == "" {
				return fail(exitFailed, "greatseal collect "+short(v.ID)+" "+p.path+" finishes it: the signature is kept", "%s: %w", p.path, err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.path, err)
			}
			out[i] = *s
			m.add(1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// awaitTimestamps waits until every signature has its timestamp.
func (l *link) awaitTimestamps(ctx context.Context, v *server.View) (*server.View, error) {
	v, err := l.Request(ctx, v.ID, false)
	if err != nil {
		return nil, err
	}
	var m *meter
	for first := true; v.Timestamps != nil && v.Timestamps.Done < v.Timestamps.Wanted; first = false {
		if first {
			l.app.note("%s is signed and waits for its timestamps", short(v.ID))
			m = l.app.meter("timestamps", int64(v.Timestamps.Wanted), false)
			defer m.end()
		}
		m.set(int64(v.Timestamps.Done))
		select {
		case <-ctx.Done():
			return nil, fail(exitWaiting, "greatseal collect "+short(v.ID)+" FILE…", "interrupted; request %s is signed and has %d of %d timestamps", short(v.ID), v.Timestamps.Done, v.Timestamps.Wanted)
		case <-time.After(500 * time.Millisecond):
		}
		if v, err = l.Request(ctx, v.ID, false); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// identity is the keys that signed, as the receipt commits to them.
func (j *job) identity(ctx context.Context) error {
	uses, chains := j.rc.Signed.Keys(), append([][][]byte{j.res.Chain}, j.res.Also...)
	if len(chains) != len(uses) {
		return j.wrong(fmt.Sprintf("certificates of %d keys: the receipt has %d", len(chains), len(uses)))
	}
	for i, use := range uses {
		id, err := j.signer(ctx, use, chains[i])
		if err != nil {
			return err
		}
		if i == 0 {
			j.id = *id
		} else {
			j.id.Also = append(j.id.Also, *id)
		}
	}
	return nil
}

// wrong is a result that is not what the receipt says.
func (j *job) wrong(what string) error {
	return fail(exitUnverified, "tell the server's administrator", "request %s: %s", short(j.v.ID), what)
}

// signer is one of the keys.
func (j *job) signer(ctx context.Context, use statement.KeyUse, chain [][]byte) (*format.Identity, error) {
	if chainHash(chain) != use.Chain {
		return nil, j.wrong("the certificates of key " + use.Key + " are not those of the receipt")
	}
	var spki []byte
	id := &format.Identity{Scheme: use.Scheme}
	for _, d := range chain {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, j.wrong(err.Error())
		}
		id.Chain = append(id.Chain, c)
	}
	var err error
	if len(id.Chain) > 0 {
		spki = id.Chain[0].RawSubjectPublicKeyInfo
		id.Public, err = cms.PublicKey(id.Chain[0])
	} else {
		keys, kerr := j.l.Keys(ctx)
		if kerr != nil {
			return nil, kerr
		}
		for _, k := range keys {
			if k.Name == use.Key {
				spki = k.PublicKey
			}
		}
		id.Public, err = x509.ParsePKIXPublicKey(spki)
	}
	if err != nil {
		return nil, j.wrong(err.Error())
	}
	if h := sha256.Sum256(spki); hex.EncodeToString(h[:]) != use.PublicKey {
		return nil, j.wrong("the public key of " + use.Key + " is not that of the receipt")
	}
	return id, nil
}

// evidence fetches and judges the documents of the pieces.
func (j *job) evidence(ctx context.Context, pieces []piece) (map[int]*verify.Evidence, error) {
	m := j.l.app.meter("evidence", int64(len(pieces)), false)
	defer m.end()
	want := make([]int, len(pieces))
	for i, p := range pieces {
		want[i] = p.index
	}
	slices.Sort(want)
	docs := map[int]*verify.Evidence{}
	for len(want) > 0 {
		run := 1
		for run < len(want) && want[run] == want[run-1]+1 {
			run++
		}
		at := want[0]
		for e, err := range j.l.EvidenceOf(ctx, j.v.ID, at, at+run) {
			if err != nil {
				return nil, err
			}
			docs[at] = e
			at++
			m.add(1)
		}
		if at != want[0]+run {
			return nil, fail(exitUnavailable, "greatseal collect "+short(j.v.ID)+" FILE…", "the server gave the evidence of %d files: %d were wanted", at-want[0], run)
		}
		want = want[run:]
	}
	return docs, nil
}

// signatures are those of an item, with its timestamp on the last round.
func (j *job) signatures(index int) ([]format.Signature, error) {
	if index < 0 || index >= len(j.res.Signatures) || len(j.res.Signatures[index]) == 0 {
		return nil, fail(exitUnverified, "tell the server's administrator", "the server has no signature for file %d", index)
	}
	var out []format.Signature
	for _, v := range j.res.Signatures[index] {
		out = append(out, format.Signature{Value: v})
	}
	out[len(out)-1].Timestamp = j.res.Timestamps[index]
	return out, nil
}

// same makes sure that a file is the one that was planned: people may have been
// waited for since. Only a file that looks touched is read again.
func (j *job) same(ctx context.Context, p piece, a format.Artifact, plan *format.Plan) error {
	now, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	if !now.IsDir() && os.SameFile(p.was, now) && p.was.Size() == now.Size() && p.was.ModTime().Equal(now.ModTime()) {
		return nil
	}
	it, _, err := format.DecodeItem(p.item)
	if err != nil {
		return err
	}
	why := "it is of another kind"
	if got, err := replan(ctx, a, plan); err == nil {
		b, err := got.Encode()
		if err != nil {
			return err
		}
		if bytes.Equal(b, it.Plan) {
			return nil
		}
		why = differs(plan, got)
	} else if ctx.Err() != nil {
		return err
	}
	return fail(exitFailed, "sign it as it is now, or greatseal collect "+short(j.v.ID)+" with the file as it was", "the file has changed since it was planned: %s", why)
}

// write signs one file.
func (j *job) write(ctx context.Context, p piece, e *verify.Evidence) (*signedFile, error) {
	_, plan, err := format.DecodeItem(p.item)
	if err != nil {
		return nil, err
	}
	f, ok := all.ByName(plan.Format)
	if !ok {
		return nil, fail(exitFailed, "use a greatseal of the server's version", "format %s is not known here", plan.Format)
	}
	sigs, err := j.signatures(p.index)
	if err != nil {
		return nil, err
	}
	if e != nil { // before the file is touched
		if _, _, err := j.l.judge(ctx, e); err != nil {
			return nil, err
		}
		if !bytes.Equal(e.File.Item, p.item) || !slices.EqualFunc(e.File.Signatures, j.res.Signatures[p.index], bytes.Equal) {
			return nil, fail(exitUnverified, "tell the server's administrator", "the evidence is of another file")
		}
	}
	a, err := file.Open(p.path)
	if err != nil {
		return nil, err
	}
	if err := j.same(ctx, p, a, plan); err != nil {
		a.Close()
		return nil, err
	}
	patch, err := f.Attach(ctx, a, plan, j.id, j.rc.Time, sigs)
	err = errors.Join(err, a.Close())
	if err != nil {
		return nil, err
	}
	out, evidence, err := j.o.paths(p.path, p.name, patch)
	if err != nil {
		return nil, err
	}
	if err := file.Write(p.path, out, patch, file.Options{InPlace: j.o.inPlace && patch.Sidecar == nil}); err != nil {
		return nil, err
	}
	s := &signedFile{File: p.path, Index: p.index, Format: plan.Format, Digest: plan.Digest, Content: hex.EncodeToString(plan.Content),
		Output: out, Timestamp: j.res.Timestamps[p.index] != nil}
	if out == "" {
		s.Output = p.path
		if patch.Sidecar != nil {
			s.Output += patch.Sidecar.Suffix
		}
	}
	if err := j.check(ctx, s, f, plan, p.path, patch, e); err != nil {
		return nil, err
	}
	if e != nil {
		b, err := e.Encode()
		if err != nil {
			return nil, err
		}
		if err := file.WriteFile(evidence, b, 0o644); err != nil {
			return nil, err
		}
		s.Evidence = evidence
	}
	return s, nil
}

// check verifies what was written, from the disk.
func (j *job) check(ctx context.Context, s *signedFile, f format.Format, plan *format.Plan, source string, patch *format.Patch, e *verify.Evidence) error {
	path, detached := s.Output, []byte(nil)
	if patch.Sidecar != nil {
		path, detached = source, patch.Sidecar.Data
		if b, err := readSmall(s.Output); err != nil || !bytes.Equal(b, detached) {
			return fail(exitUnverified, "sign again", "%s is not what was written: %v", s.Output, err)
		}
	}
	a, err := file.Open(path)
	if err != nil {
		return err
	}
	defer a.Close()
	if e != nil {
		var v *verify.Verified
		if v, err = verify.File(ctx, a, detached, e, j.root, format.Trust{}, all.Formats(), verify.Options{KeyFromEvidence: true}); err == nil {
			s.Verified, s.LogIndex = true, v.Approval().LogIndex()
			return nil
		}
	} else {
		t := format.Trust{Now: j.rc.Time, Detached: detached, Roots: x509.NewCertPool()}
		for _, id := range j.id.Signers() {
			t.Keys = append(t.Keys, id.Public)
			if n := len(id.Chain); n > 0 {
				t.Roots.AddCert(id.Chain[n-1])
				t.Intermediates = append(t.Intermediates, id.Chain[1:]...)
			}
		}
		if _, err = f.Verify(ctx, a, t); err == nil {
			s.Verified = true
			return nil
		}
	}
	if errors.Is(err, verify.ErrEvidence) {
		return fail(exitUnverified, "tell the server's administrator", "%v", err)
	}
	// Others' signatures in the file are not ours to judge; that ours is in it, over
	// the content as it is on the disk, is.
	if detached != nil {
		return fail(exitUnverified, "keep the file and report it", "%s was written and does not verify: %v", s.Output, err)
	}
	params := format.Params{}
	for _, p := range plan.Params {
		params[p.Name] = p.Value
	}
	again, perr := f.Plan(ctx, a, params)
	same := perr == nil && again.Digest == plan.Digest && bytes.Equal(again.Content, plan.Content)
	if r, ierr := f.Inspect(ctx, a); ierr == nil && same && len(r.Signatures) > 1 {
		for _, x := range r.Signatures {
			if bytes.Equal(x.Content, plan.Content) && slices.ContainsFunc(j.res.Signatures[s.Index], func(v []byte) bool { return bytes.Equal(v, x.Value) }) {
				s.Note = fmt.Sprintf("the file holds %d signatures; those of others were not judged: %v", len(r.Signatures), plain(err))
				return nil
			}
		}
	}
	return fail(exitUnverified, "keep the file and report it", "%s was written and does not verify: %v", s.Output, err)
}
