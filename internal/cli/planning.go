package cli

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/statement"
)

// anyFile reports whether a format signs files of every kind: those are named by
// the user or the policy, never found in the content.
func anyFile(f format.Format) bool {
	_, ok := f.(format.Detached)
	return ok
}

// anyFileName is anyFile of the format of that name.
func anyFileName(name string) bool {
	f, ok := all.ByName(name)
	return ok && anyFile(f)
}

// anyFileNames lists the formats for files of every kind.
func anyFileNames() (out []string) {
	for _, f := range all.Formats() {
		if anyFile(f) {
			out = append(out, f.Name())
		}
	}
	return out
}

// planned is a file with its plan.
type planned struct {
	input
	format format.Format
	plan   *format.Plan
	item   []byte
	was    os.FileInfo // when it was read
}

// choice is what the user and the policy say about planning.
type choice struct {
	policy string
	p      charter.Policy
	hash   crypto.Hash // of the key's scheme; 0: the scheme signs the message itself
	format string      // named by the user; "": by the content
	params format.Params
	claims map[string]string
}

// pick finds the format of a file: the one that the user names, the one that the
// content shows, or the only one that the policy knows for any file. A nil format
// without an error says that the policy does not sign this kind.
func (c *choice) pick(a format.Artifact) (format.Format, error) {
	if c.format != "" {
		f, ok := all.ByName(c.format)
		if !ok {
			return nil, fail(exitUsage, orText(suggest(c.format, formatNames()), "greatseal formats"), "there is no format %q", c.format)
		}
		return f, nil
	}
	if f, ok := all.Detect(a); ok && !anyFile(f) {
		if slices.Contains(c.p.Formats, f.Name()) {
			return f, nil
		}
		if !slices.ContainsFunc(c.p.Formats, anyFileName) {
			return nil, nil
		}
	}
	var able []string
	for _, n := range c.p.Formats {
		if anyFileName(n) {
			able = append(able, n)
		}
	}
	if len(able) == 1 {
		f, ok := all.ByName(able[0])
		if !ok {
			return nil, fail(exitFailed, "use a greatseal of the server's version", "format %s is not known here", able[0])
		}
		return f, nil
	}
	return nil, nil
}

// options fills in what the policy demands and what follows from the key.
func (c *choice) options(f format.Format) (format.Params, error) {
	p := maps.Clone(c.params)
	if p == nil {
		p = format.Params{}
	}
	for n, v := range c.p.Params {
		if got, ok := p[n]; ok && got != v {
			return nil, fail(exitRefused, fmt.Sprintf("--param %s=%s, or leave it out", n, v), "policy %s wants the option %s=%s", c.policy, n, v)
		}
		p[n] = v
	}
	for _, o := range f.Options() {
		if o.Name != "digest" {
			continue
		}
		if _, ok := p[o.Name]; ok {
			continue
		}
		h := c.hash
		if h == 0 {
			h = crypto.SHA512
		}
		if n := format.HashName(h); slices.Contains(o.Values, n) {
			p[o.Name] = n
		}
	}
	if _, err := p.Check(f); err != nil {
		return nil, fail(exitUsage, "greatseal formats "+f.Name(), "%v", err)
	}
	return p, nil
}

func formatNames() []string {
	var out []string
	for _, f := range all.Formats() {
		out = append(out, f.Name())
	}
	return out
}

// unfit is the error about a file that the policy does not sign.
func (c *choice) unfit(path string, a format.Artifact, head *charter.Charter) error {
	what := "of no kind that is known"
	hint := "--format names one; greatseal formats lists them"
	if f, ok := all.Detect(a); ok && !anyFile(f) {
		what = "of format " + f.Name()
		var able []string
		for n, p := range head.Policies {
			if slices.Contains(p.Formats, f.Name()) {
				able = append(able, n)
			}
		}
		slices.Sort(able)
		hint = "no policy of the charter signs it"
		if len(able) > 0 {
			hint = "--policy " + strings.Join(able, ", or --policy ")
		}
	}
	return fail(exitRefused, hint, "%s is %s: policy %s signs %s", path, what, c.policy, strings.Join(c.p.Formats, ", "))
}

// plan reads the files, on all cores, and makes their items. Files found below a
// folder that the policy does not sign are left out.
func (a *App) plan(ctx context.Context, in []input, c *choice, head *charter.Charter) ([]planned, error) {
	var total int64
	for _, i := range in {
		if st, err := os.Stat(i.path); err == nil {
			total += st.Size()
		}
	}
	m := a.meter("reading "+count(len(in), "file"), total, true)
	defer m.end()
	out := make([]planned, len(in))
	var left atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range in {
		g.Go(func() error {
			p, err := planOne(ctx, in[i], c, head, m)
			if err != nil {
				return err
			}
			if p == nil {
				left.Add(1)
				return nil
			}
			out[i] = *p
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	m.end()
	out = slices.DeleteFunc(out, func(p planned) bool { return p.plan == nil })
	if n := int(left.Load()); n > 0 {
		a.note("%s left out: policy %s does not sign them", count(n, "file"), c.policy)
	}
	if len(out) == 0 {
		return nil, fail(exitFailed, "--format names one", "policy %s signs none of these files", c.policy)
	}
	if !a.terminal() {
		a.note("planned %s, %s", count(len(out), "file"), size(total))
	}
	return out, nil
}

func planOne(ctx context.Context, in input, c *choice, head *charter.Charter, m *meter) (*planned, error) {
	was, err := os.Stat(in.path)
	if err != nil {
		return nil, err
	}
	f, err := file.Open(in.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ft, err := c.pick(f)
	if err != nil {
		return nil, err
	}
	switch {
	case ft == nil && in.walk:
		return nil, nil
	case ft == nil:
		return nil, c.unfit(in.path, f, head)
	case !slices.Contains(c.p.Formats, ft.Name()):
		return nil, fail(exitRefused, "greatseal charter show "+c.policy, "policy %s does not sign the format %s, it signs %s", c.policy, ft.Name(), strings.Join(c.p.Formats, ", "))
	}
	if names := c.p.Names; len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { ok, err := path.Match(n, in.name); return ok && err == nil }) {
		return nil, fail(exitRefused, "greatseal charter show "+c.policy, "policy %s signs files called %s: not %s", c.policy, strings.Join(names, " or "), in.name)
	}
	params, err := c.options(ft)
	if err != nil {
		return nil, err
	}
	plan, err := ft.Plan(ctx, &metered{Artifact: f, m: m}, params)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.path, err)
	}
	if err := f.Unchanged(); err != nil {
		return nil, fail(exitFailed, "wait until it is written and sign again", "%s: %v", in.path, err)
	}
	item, err := author.Item(plan, in.name, c.claims)
	if err != nil {
		return nil, err
	}
	return &planned{in, ft, plan, item, was}, nil
}

// replan makes the plan of a file as another plan was made: by the same format
// with the same options.
func replan(ctx context.Context, a format.Artifact, like *format.Plan) (*format.Plan, error) {
	f, ok := all.ByName(like.Format)
	if !ok {
		return nil, fail(exitFailed, "use a greatseal of the server's version", "format %s is not known here", like.Format)
	}
	p := format.Params{}
	for _, x := range like.Params {
		p[x.Name] = x.Value
	}
	return f.Plan(ctx, a, p)
}

// matcher finds the items of a request that files are.
type matcher struct {
	items  []decoded
	bySize map[int64][]int
	byBase map[string][]int
}

// decoded is an item of a request.
type decoded struct {
	index int
	item  *format.Item
	plan  *format.Plan
}

func newMatcher(items [][]byte) (*matcher, error) {
	m := &matcher{bySize: map[int64][]int{}, byBase: map[string][]int{}}
	for i, b := range items {
		it, p, err := format.DecodeItem(b)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		m.items = append(m.items, decoded{i, it, p})
		m.bySize[p.Size] = append(m.bySize[p.Size], i)
		m.byBase[path.Base(it.Name)] = append(m.byBase[path.Base(it.Name)], i)
	}
	return m, nil
}

// candidates are the items that a file of that name and size can be, those of its
// name first.
func (m *matcher) candidates(name string, size int64) []int {
	out := slices.Clone(m.byBase[path.Base(name)])
	slices.SortStableFunc(out, func(x, y int) int {
		return closeness(m.items[y].item.Name, name) - closeness(m.items[x].item.Name, name)
	})
	for _, i := range m.bySize[size] {
		if path.Base(m.items[i].item.Name) != path.Base(name) {
			out = append(out, i)
		}
	}
	return out
}

// match returns the item that the file is, none of taken: the one whose plan the
// file gives, byte for byte. Where there is none, near is the item of its name,
// and got the file's own plan under that item's options.
func (m *matcher) match(ctx context.Context, in input, taken map[int]bool, bar *meter) (found, near *decoded, got *format.Plan, err error) {
	f, err := file.Open(in.path)
	if err != nil {
		return nil, nil, nil, err
	}
	defer f.Close()
	plans := map[string][]byte{}
	for _, i := range m.candidates(in.name, f.Size()) {
		it := &m.items[i]
		if taken[i] {
			continue
		}
		how := fmt.Sprintf("%q %q", it.plan.Format, it.plan.Params)
		b, ok := plans[how]
		if !ok {
			p, err := replan(ctx, &metered{Artifact: f, m: bar}, it.plan)
			if err != nil {
				if ctx.Err() != nil || errors.Is(err, file.ErrChanged) {
					return nil, nil, nil, err
				}
				continue // not a file of that format
			}
			if b, err = p.Encode(); err != nil {
				return nil, nil, nil, err
			}
			plans[how] = b
		}
		if bytes.Equal(b, it.item.Plan) {
			return it, nil, nil, f.Unchanged()
		}
		if near == nil && closeness(it.item.Name, in.name) > 0 {
			near = it
			if got, err = format.DecodePlan(b); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	return nil, near, got, nil
}

// closeness is 2 for the same name, 1 for the same base name.
func closeness(item, name string) int {
	switch {
	case item == name:
		return 2
	case path.Base(item) == path.Base(name):
		return 1
	}
	return 0
}

// checkItems makes sure that items are those that a request is about.
func checkItems(r *statement.Request, items [][]byte) error {
	s := r.Command.Sign
	if s == nil {
		return fail(exitFailed, "", "the request signs nothing: it asks for %s", r.Command.Name)
	}
	root, err := format.ItemsRoot(items)
	if err != nil || len(items) != s.Count || root.String() != s.Items {
		return fail(exitUnverified, "tell the server's administrator", "the files that the server shows are not those of the request")
	}
	return nil
}
