package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
)

type collecting struct {
	output
	dir       string
	from      string
	recursive bool
	wait      bool
	timeout   time.Duration
}

// collectCommand is "collect", and "request collect".
func (a *App) collectCommand(group string) *cobra.Command {
	k := &collecting{}
	c := &cobra.Command{
		Use:     "collect ID [FILE…]",
		GroupID: group,
		Short:   "finish the files of a request that was executed",
		Long: `Fetches the signatures of a request, recomputes from every file here what was
signed, and finishes those that are the same: on the machine that asked or on any
other that has the files. Without files it looks for their names in --dir.`,
		Example: `  greatseal collect 4f2a91c03bde app.exe
  greatseal collect 4f2a91c03bde --dir build --wait`,
		Args: some("ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.collect(cmd.Context(), k, args[0], args[1:]) },
	}
	f := c.Flags()
	f.StringVar(&k.dir, "dir", "", "folder with the files, by the names that the request gives them (default: here)")
	f.StringVar(&k.from, "files-from", "", "file with one path a line; - is standard input")
	f.BoolVarP(&k.recursive, "recursive", "r", false, "take the files below folders")
	f.BoolVar(&k.wait, "wait", false, "wait until the request is executed")
	f.DurationVar(&k.timeout, "timeout", 0, "how long to wait (default: as long as the request lives)")
	k.output.flags(c)
	return c
}

func (a *App) collect(ctx context.Context, k *collecting, given string, args []string) error {
	id, err := idOf(given)
	if err != nil {
		return err
	}
	if k.dir != "" && (len(args) > 0 || k.from != "") {
		return fail(exitUsage, "leave one of them out", "files are named, or looked for in --dir")
	}
	l, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	v, items, err := l.request(ctx, id)
	if err != nil {
		return err
	}
	if v.State.Open() && k.wait {
		if v, err = l.await(ctx, v, k.timeout, "greatseal collect "+short(v.ID)+" --wait"); err != nil {
			return err
		}
	}
	if err := closed(v); err != nil {
		return err
	}
	m, err := newMatcher(items)
	if err != nil {
		return err
	}
	in, err := a.collected(k, m, args)
	if err != nil {
		return err
	}
	if err := k.output.check(len(in)); err != nil {
		return err
	}
	pieces, done, err := l.pieces(ctx, in, m, items, v)
	if err != nil {
		return err
	}
	s := v.Command.Sign
	r := signResult{Request: v.ID, State: v.State, Policy: s.Policy, Key: s.Key, Receipt: v.Receipt, Files: []signedFile{}, Count: len(items)}
	if done != nil {
		r.Done = &alreadyFiles{done}
	}
	if len(pieces) == 0 {
		return a.printSigned(r)
	}
	if r.Files, err = l.finish(ctx, v, pieces, &k.output); err != nil {
		return err
	}
	if n := len(items) - len(pieces) - len(done); n > 0 {
		a.note("%d of %d files of the request are finished", len(items)-n, len(items))
	}
	return a.printSigned(r)
}

// request fetches a request to sign and its items, and checks them against the
// requester's own signature.
func (l *link) request(ctx context.Context, id string) (*server.View, [][]byte, error) {
	v, err := l.Request(ctx, id, false)
	if err != nil {
		return nil, nil, err
	}
	if v.Command.Sign == nil {
		return nil, nil, fail(exitFailed, "greatseal request show "+short(v.ID), "request %s signs nothing: it is %s", short(v.ID), v.Command.Name)
	}
	env, err := l.Envelopes(ctx, v.ID)
	if err != nil {
		return nil, nil, err
	}
	r, got, err := l.statementOf(ctx, env.Request)
	if err != nil {
		return nil, nil, err
	}
	if got.String() != v.ID {
		return nil, nil, fail(exitUnverified, "tell the server's administrator", "the server shows request %s for %s", short(got.String()), short(v.ID))
	}
	items, err := l.Items(ctx, v.ID)
	if err != nil {
		return nil, nil, err
	}
	v.Command = r.Command
	return v, items, checkItems(r, items)
}

// collected finds the files on this machine.
func (a *App) collected(k *collecting, m *matcher, args []string) ([]input, error) {
	if len(args) > 0 || k.from != "" {
		return a.inputs(args, k.recursive, k.from)
	}
	dir := k.dir
	if dir == "" {
		dir = "."
	}
	var out []input
	for _, it := range m.items {
		p := filepath.Join(dir, inside(it.item.Name))
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			out = append(out, input{path: p, name: it.item.Name})
		}
	}
	if len(out) == 0 {
		return nil, fail(exitFailed, "name the files, or their folder with --dir", "%s holds none of the %s of the request", dir, count(len(m.items), "file"))
	}
	return out, nil
}

// pieces matches files to items. done are those that carry the signature already,
// with evidence beside them: a job may be run again.
func (l *link) pieces(ctx context.Context, in []input, m *matcher, items [][]byte, v *server.View) (out []piece, done []string, err error) {
	bar := l.app.meter("comparing", totalSize(in), true)
	defer bar.end()
	taken := map[int]bool{}
	for _, i := range in {
		was, err := os.Stat(i.path)
		if err != nil {
			return nil, nil, err
		}
		it, near, got, err := m.match(ctx, i, taken, bar)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", i.path, err)
		}
		if it == nil {
			if have, err := l.app.verifyBeside(ctx, i.path, l.cfg.Root); err == nil && have.Approval().RequestID().String() == v.ID {
				l.app.note("%s is signed already by request %s", i.path, short(v.ID))
				done = append(done, i.path)
				continue
			}
			what := "none of the files of the request"
			if near != nil {
				what = "not the file that was signed: " + differs(near.plan, got)
			}
			return nil, nil, fail(exitFailed, "greatseal request show "+short(v.ID)+" lists them", "%s is %s", i.path, what)
		}
		taken[it.index] = true
		out = append(out, piece{it.index, i.path, it.item.Name, items[it.index], was})
	}
	return out, done, nil
}

func totalSize(in []input) int64 {
	var n int64
	for _, i := range in {
		if st, err := os.Stat(i.path); err == nil {
			n += st.Size()
		}
	}
	return n
}

// differs says in a line what tells two plans apart.
func differs(want, got *format.Plan) string {
	switch {
	case want.Size != got.Size:
		return fmt.Sprintf("%d bytes instead of %d", got.Size, want.Size)
	case fmt.Sprintf("%x", want.Content) != fmt.Sprintf("%x", got.Content):
		return fmt.Sprintf("its %s is %x instead of %x", got.Digest, got.Content, want.Content)
	}
	return "its structure is another one"
}
