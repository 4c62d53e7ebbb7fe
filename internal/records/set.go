package records

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
)

// SetOptions are what a set is signed with.
type SetOptions struct {
	Job            string // 32 hexadecimal digits
	Issuer         string
	Audience       []string                        // sorted
	Configurations map[string]record.Configuration // in force
	Only           []string                        // IDs of those to sign under; none: all
	Named          []string                        // IDs of those that must find a record; none: no such demand
	Tables         []string                        // that must have a signed record
	NotBefore      int64                           // Unix seconds; 0: none
	Expires        int64                           // Unix seconds; 0: never
	// Revision returns the highest revision of a record that was signed before.
	Revision func(ctx context.Context, ref record.Ref) (uint64, error)
}

// SetPlan is what is to be signed of a set: every operation that a configuration
// asks for.
type SetPlan struct {
	Job        *record.Job // nil: there is nothing to sign
	Statements [][]byte
	Counts     map[string]int64 // by configuration
	tiles      merkle.MemoryTiles
}

// complete are the states of sets that may be signed. An export says "loaded".
var complete = []string{"complete", "loaded", "previewed", "committed"}

// PlanSet plans the signing of a set, a file or a folder. Every operation of every
// payload is understood or the set is refused: what reaches a protected table without
// naming a record has nothing that could be signed.
func PlanSet(ctx context.Context, set *updateset.Set, o SetOptions) (*SetPlan, error) {
	if st := set.Info().State; st != "" && !slices.Contains(complete, st) {
		return nil, specError("the update set is %.40q: only a complete one is signed", st)
	}
	rules, err := updateset.NewRules(o.Configurations, nil)
	if err != nil {
		return nil, err
	}
	all := with(o.Configurations)
	prepared := map[string]*record.Prepared{}
	for id, c := range all {
		if prepared[id], err = c.Prepare(id); err != nil {
			return nil, err
		}
	}
	var sts []*record.Statement
	err = set.Records(ctx, rules, func(it *updateset.Item) error {
		ref := it.Record.Ref
		before, err := set.Signatures(ref)
		if err != nil {
			return err
		}
		revision, err := highest(before)
		if err != nil {
			return err
		}
		if o.Revision != nil {
			r, err := o.Revision(ctx, ref)
			if err != nil {
				return err
			}
			revision = max(revision, r)
		}
		so := record.StatementOptions{Issuer: o.Issuer, Audience: o.Audience, Revision: revision + 1, Deleted: it.Deleted, NotBefore: o.NotBefore, Expires: o.Expires}
		for _, id := range it.Configurations {
			if len(o.Only) > 0 && !slices.Contains(o.Only, id) {
				continue
			}
			st, err := prepared[id].Statement(it.Record, so)
			if err != nil {
				return err
			}
			if again(st, revision, before) {
				st.Revision = revision
			}
			sts = append(sts, st)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p := &SetPlan{Counts: map[string]int64{}, tiles: merkle.MemoryTiles{}}
	b, err := record.NewBuilder(record.ListHead{Job: o.Job, Issuer: o.Issuer, Audience: o.Audience}, p.tiles)
	if err != nil {
		return nil, err
	}
	tables := map[string]bool{}
	for _, st := range sts {
		enc, _, err := b.Add(st)
		if err != nil {
			return nil, err
		}
		p.Statements = append(p.Statements, enc)
		p.Counts[st.Configuration.ID]++
		tables[st.Ref.Table] = true
	}
	for _, t := range o.Tables {
		if !tables[t] {
			return nil, fmt.Errorf("%w: no record of table %.80q is signed, which the build names", ErrCoverage, t)
		}
	}
	for _, id := range o.Named {
		if p.Counts[id] == 0 {
			return nil, fmt.Errorf("%w: configuration %.80q finds no record", ErrCoverage, id)
		}
	}
	if len(p.Statements) == 0 {
		return p, nil
	}
	p.Job, err = b.Finish()
	return p, err
}

// with adds the predefined configurations.
func with(configurations map[string]record.Configuration) map[string]record.Configuration {
	all := record.Predefined()
	maps.Copy(all, configurations)
	return all
}

// ErrCoverage means that a build would leave something unsigned that was asked for.
var ErrCoverage = errors.New("records: coverage")

// highest is the highest revision among signatures.
func highest(sigs []record.Signature) (uint64, error) {
	h := uint64(0)
	for i := range sigs {
		st, err := record.DecodeStatement(sigs[i].Statement)
		if err != nil {
			return 0, err
		}
		h = max(h, st.Revision)
	}
	return h, nil
}

// restore makes a plan of its statements.
func restore(head record.ListHead, statements [][]byte) (*SetPlan, error) {
	p := &SetPlan{Statements: statements, Counts: map[string]int64{}, tiles: merkle.MemoryTiles{}}
	b, err := record.NewBuilder(head, p.tiles)
	if err != nil {
		return nil, err
	}
	for _, s := range statements {
		if _, err := b.AddEncoded(s); err != nil {
			return nil, err
		}
	}
	p.Job, err = b.Finish()
	return p, err
}

// Signatures are those of a plan whose root (record.SignedRoot, encoded) was signed.
func (p *SetPlan) Signatures(root []byte) iter.Seq2[*record.Signature, error] {
	return func(yield func(*record.Signature, error) bool) {
		paths := merkle.NewPaths(int64(len(p.Statements)), p.tiles)
		for i, s := range p.Statements {
			path, err := paths.Path(int64(i))
			if !yield(&record.Signature{Statement: s, Index: int64(i), Path: path, Root: root}, err) || err != nil {
				return
			}
		}
	}
}

// Assert looks once more, in the sealed set: every record that a configuration asks
// for has the signature that was planned. ErrCoverage names what has none.
func (p *SetPlan) Assert(sealed *updateset.Set) error {
	for _, b := range p.Statements {
		st, err := record.DecodeStatement(b)
		if err != nil {
			return err
		}
		sigs, err := sealed.Signatures(st.Ref)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(sigs, func(s record.Signature) bool { return bytes.Equal(s.Statement, b) && len(s.Root) > 0 }) {
			return fmt.Errorf("%w: %s has no signature under %s", ErrCoverage, st.Ref, st.Configuration.ID)
		}
	}
	return nil
}

// openSet reads the set of a job.
func openSet(ctx context.Context, b []byte) (*updateset.Set, error) {
	return updateset.Open(ctx, bytes.NewReader(b), int64(len(b)), updateset.Limits{})
}

// checkSet refuses at once what would fail when it is prepared.
func (s *Jobs) checkSet(sp *Spec) error {
	set, err := openSet(context.Background(), sp.Set)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	_, err = PlanSet(context.Background(), set, s.setOptions("00000000000000000000000000000000", sp))
	return err
}

func (s *Jobs) setOptions(job string, sp *Spec) SetOptions {
	o := sp.options(s.c.Instance.Name, 1)
	out := SetOptions{Job: job, Issuer: o.Issuer, Audience: o.Audience, Configurations: s.c.Configurations(), NotBefore: o.NotBefore, Expires: o.Expires}
	if sp.Kind == SignPackage { // covers all; those that are named must find something
		out.Named, out.Tables = sp.Configurations, sp.Tables
	} else {
		out.Only = sp.Configurations
	}
	return out
}

// revision is the highest revision that this instance gave a record.
func (s *Jobs) revision(ctx context.Context, tables map[string][]platform.Platform, ref record.Ref) (uint64, error) {
	h, err := s.c.Store.Mark(ctx, []byte(ref.ID()))
	if err != nil {
		return 0, err
	}
	for _, db := range tables[ref.Table] {
		row, err := db.Get(ctx, ref, []string{})
		if errors.Is(err, platform.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, err
		}
		h = max(h, row.Revision)
	}
	return h, nil
}

// holders are the platforms that have each table.
func (s *Jobs) holders(ctx context.Context) (map[string][]platform.Platform, error) {
	out := map[string][]platform.Platform{}
	for _, n := range slices.Sorted(maps.Keys(s.c.Platforms)) {
		ts, err := s.c.Platforms[n].Tables(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range ts {
			out[t.Name] = append(out[t.Name], s.c.Platforms[n])
		}
	}
	return out, nil
}

// maxChunk is the size from which statements of a set go into the next chunk.
const maxChunk = 4 << 20

// prepareSet plans a set, keeps the statements and hands the plan in.
func (w *work) prepareSet(ctx context.Context) (time.Time, error) {
	if err := w.sp.Check(w.configurations()); err != nil {
		return time.Time{}, err
	}
	set, err := openSet(ctx, w.sp.Set)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	tables, err := w.holders(ctx)
	if err != nil {
		return time.Time{}, err
	}
	began := time.Now()
	o := w.setOptions(w.j.ID, w.sp)
	o.Revision = func(ctx context.Context, ref record.Ref) (uint64, error) { return w.revision(ctx, tables, ref) }
	plan, err := PlanSet(ctx, set, o)
	if err != nil {
		if errors.Is(err, ErrCoverage) {
			err = fmt.Errorf("%w: %w", ErrSpec, err)
		}
		return time.Time{}, err
	}
	var chunks []store.SecurityChunk
	for i := 0; i < len(plan.Statements); {
		var b bytes.Buffer
		l, err := record.NewListWriter(&b, record.ListHead{Job: o.Job, Issuer: o.Issuer, Audience: o.Audience})
		if err != nil {
			return time.Time{}, err
		}
		first := i
		for ; i < len(plan.Statements) && b.Len() < maxChunk; i++ {
			if err := l.Write(plan.Statements[i]); err != nil {
				return time.Time{}, err
			}
		}
		chunks = append(chunks, store.SecurityChunk{First: int64(first), Count: int64(i - first), Data: b.Bytes()})
	}
	w.j.Count, w.j.Total, w.j.Busy = int64(len(plan.Statements)), int64(len(plan.Statements)), time.Since(began)
	if err := w.step(ctx, w.j, w.p, 0, chunks...); err != nil {
		return time.Time{}, err
	}
	w.c.Hook("prepared")
	return w.submitJob(ctx, plan.Job, plan.Counts, 0)
}

// setPlan reads the statements of a set's job back.
func (s *Jobs) setPlan(ctx context.Context, j *store.SecurityJob) (*SetPlan, error) {
	var all [][]byte
	var head record.ListHead
	err := s.setStatements(ctx, j, 0, func(_ record.Ref, b []byte, _ int64) error {
		all = append(all, bytes.Clone(b))
		return nil
	}, &head)
	if err != nil || len(all) == 0 {
		return nil, errors.Join(err, fmt.Errorf("%w: it has signed nothing", ErrState))
	}
	return restore(head, all)
}

// setStatements calls f with the statements of a set's job from an index on.
func (s *Jobs) setStatements(ctx context.Context, j *store.SecurityJob, from int64, f func(record.Ref, []byte, int64) error, head ...*record.ListHead) error {
	chunks, err := s.c.Store.SecurityChunks(ctx, j.ID, from, 1<<20)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		l, err := record.NewListReader(bytes.NewReader(c.Data))
		if err != nil {
			return fmt.Errorf("records: job %s was altered in the database: %w", j.ID, err)
		}
		for _, h := range head {
			*h = l.Head
		}
		for i := c.First; ; i++ {
			b, err := l.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("records: job %s was altered in the database: %w", j.ID, err)
			}
			if i < from {
				continue
			}
			if err := f(record.Ref{}, b, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishSet notes the revisions that were given, where the records are kept.
func (w *work) finishSet(ctx context.Context) error {
	plan, err := w.setPlan(ctx, w.j)
	if err != nil {
		return err
	}
	if err := w.fits(plan); err != nil {
		return err
	}
	tables, err := w.holders(ctx)
	if err != nil {
		return err
	}
	var refs [][]byte
	var revisions []uint64
	changes := map[platform.Platform][]platform.Change{}
	for sig, err := range plan.Signatures(w.p.Root) {
		if err != nil {
			return err
		}
		st, err := record.DecodeStatement(sig.Statement)
		if err != nil {
			return err
		}
		refs, revisions = append(refs, []byte(st.Ref.ID())), append(revisions, st.Revision)
		for _, db := range tables[st.Ref.Table] {
			changes[db] = append(changes[db], platform.Change{Op: platform.Sign, Ref: st.Ref, Signatures: []record.Signature{*sig}})
		}
	}
	for db, cs := range changes {
		for part := range slices.Chunk(cs, 500) {
			if err := db.Apply(ctx, part); err != nil {
				return err
			}
		}
	}
	return w.c.Store.Raise(ctx, refs, revisions)
}

// fits refuses a plan that is not the one that was signed.
func (w *work) fits(plan *SetPlan) error {
	root, err := record.DecodeSignedRoot(w.p.Root)
	if err != nil {
		return err
	}
	job, err := record.DecodeJob(root.Job)
	if err != nil {
		return err
	}
	if !bytes.Equal(job.Root, plan.Job.Root) {
		return specError("its statements are not those that were signed: somebody altered them (root %s)", hex.EncodeToString(plan.Job.Root))
	}
	return nil
}

// SignedSet writes the set of a job that is done, with its signatures in it. What is
// written is complete only when the error is nil.
func (s *Jobs) SignedSet(ctx context.Context, id string, to io.Writer) error {
	j, err := s.c.Store.SecurityJob(ctx, id)
	if err != nil {
		return err
	}
	sp, err := decodeSpec(j.Spec)
	if err != nil {
		return err
	}
	var p place
	if err := read(j.Place, &p); err != nil {
		return fmt.Errorf("records: job %s was altered in the database: %w", id, err)
	}
	if State(j.State) != Done || sp.onPlatform() {
		return fmt.Errorf("%w: it is %s", ErrState, j.State)
	}
	set, err := openSet(ctx, sp.Set)
	if err != nil {
		return err
	}
	if len(p.Root) == 0 { // no configuration asked for anything
		_, err := to.Write(sp.Set)
		return err
	}
	plan, err := s.setPlan(ctx, j)
	if err != nil {
		return err
	}
	w := &work{Jobs: s, j: j, p: &p, sp: sp}
	if err := w.fits(plan); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := set.Seal(ctx, &b, plan.Signatures(p.Root)); err != nil {
		return err
	}
	sealed, err := openSet(ctx, b.Bytes())
	if err != nil {
		return err
	}
	if err := plan.Assert(sealed); err != nil {
		return err
	}
	_, err = to.Write(b.Bytes())
	return err
}
