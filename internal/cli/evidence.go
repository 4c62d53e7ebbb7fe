package cli

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/verify"
)

// written is one evidence document on disk.
type written struct {
	File     string `json:"file"`
	Evidence string `json:"evidence"`
	Request  string `json:"request"`
	Index    int    `json:"index"`
}

func (a *App) evidenceCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:     "evidence ID|FILE",
		GroupID: "sign",
		Short:   "fetch the proof of who approved a signature",
		Long: `For a signed file, finds the request by the file's content and writes
FILE.evidence.json; for a request, writes the evidence of all of its files. The
documents are judged before they are written.`,
		Args: exactly("ID|FILE"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			var done []written
			var err error
			if _, serr := os.Stat(args[0]); serr == nil {
				done, err = l.evidenceOfFile(cmd.Context(), args[0], out)
			} else if _, ierr := idOf(args[0]); ierr != nil {
				return fail(exitFailed, "name a signed file, or the ID of a request", "%s is neither a file nor an ID", args[0])
			} else {
				done, err = l.evidenceOfRequest(cmd.Context(), args[0], out)
			}
			if err != nil {
				return err
			}
			return a.print(done, func(w io.Writer) {
				for _, d := range done {
					fmt.Fprintf(w, "%s  request %s\n", printable(d.Evidence), short(d.Request))
				}
			})
		}),
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file, or folder for a request's (default: beside the file; here)")
	return c
}

func (l *link) judge(ctx context.Context, e *verify.Evidence) (*verify.Approval, []byte, error) {
	if _, err := l.charters(ctx); err != nil {
		return nil, nil, err
	}
	ap, err := verify.Judge(e, l.cfg.Root, all.Formats())
	if err != nil {
		return nil, nil, unverified("tell the server's administrator", err)
	}
	b, err := e.Encode()
	return ap, b, err
}

func (l *link) evidenceOfFile(ctx context.Context, path, out string) ([]written, error) {
	found, err := l.findFile(ctx, path)
	if err != nil {
		return nil, err
	}
	if out == "" {
		out = path + evidenceSuffix
	}
	var last error
	for _, x := range found { // newest first: the one whose signature is in the file
		e, err := l.Evidence(ctx, x.Request, x.File.Index)
		if err != nil {
			return nil, err
		}
		_, b, err := l.judge(ctx, e)
		if err != nil {
			return nil, err
		}
		if last = carries(ctx, path, e, l); last != nil {
			continue
		}
		return []written{{path, out, x.Request, x.File.Index}}, file.WriteFile(out, b, 0o644)
	}
	if last != nil {
		return nil, fail(exitUnverified, "greatseal collect ID "+path+" attaches a signature that was made", "%s was signed here, and does not carry that signature: %v", path, last)
	}
	return nil, fail(exitFailed, "greatseal log search --file "+path+"; a file is known by its signed content", "no signature over %s was made here", path)
}

// carries checks that a file carries the signature of a document.
func carries(ctx context.Context, path string, e *verify.Evidence, l *link) error {
	f, err := file.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	detached, _, err := beside(path, "", planFormat(e))
	if err != nil {
		return err
	}
	_, err = verify.File(ctx, f, detached, e, l.cfg.Root, format.Trust{}, all.Formats(), verify.Options{KeyFromEvidence: true})
	return err
}

// findFile finds the executed signatures over a file, newest first.
func (l *link) findFile(ctx context.Context, path string) ([]wire.Found, error) {
	digests, err := contents(ctx, path)
	if err != nil {
		return nil, err
	}
	var out []wire.Found
	for _, d := range digests {
		page, err := l.Search(ctx, client.Search{Digest: d})
		if err != nil {
			return nil, err
		}
		out = append(out, page.Files...)
	}
	slices.SortStableFunc(out, func(x, y wire.Found) int { return y.Executed.Compare(x.Executed) })
	return out, nil
}

// contents are the digests by which the content of a file may be known: what
// signatures in it or beside it state, what its format would sign, the whole file.
func contents(ctx context.Context, path string) ([][]byte, error) {
	f, err := file.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out [][]byte
	add := func(d []byte) {
		if len(d) > 0 && !slices.ContainsFunc(out, func(x []byte) bool { return string(x) == string(d) }) {
			out = append(out, d)
		}
	}
	if ft, ok := all.Detect(f); ok {
		if r, err := ft.Inspect(ctx, f); err == nil {
			for _, s := range r.Signatures {
				add(s.Content)
			}
		}
		for _, o := range ft.Options() {
			if o.Name != "digest" {
				continue
			}
			for _, v := range o.Values {
				if p, err := ft.Plan(ctx, f, format.Params{"digest": v}); err == nil {
					add(p.Content)
				}
			}
		}
	}
	sums, err := format.Sum(ctx, f, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	if err != nil {
		return nil, err
	}
	for _, s := range sums {
		add(s)
	}
	return out, nil
}

func (l *link) evidenceOfRequest(ctx context.Context, given, out string) ([]written, error) {
	id, err := idOf(given)
	if err != nil {
		return nil, err
	}
	v, items, err := l.request(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := closed(v); err != nil {
		return nil, err
	}
	o := output{out: out, dir: out != ""}
	if st, err := os.Stat(out); len(items) == 1 && out != "" && !strings.HasSuffix(out, "/") && (err != nil || !st.IsDir()) {
		o.dir = false
	}
	m := l.app.meter("evidence", int64(len(items)), false)
	defer m.end()
	var done []written
	i := 0
	for e, err := range l.EvidenceOf(ctx, v.ID, 0, len(items)) {
		if err != nil {
			return nil, err
		}
		ap, b, err := l.judge(ctx, e)
		if err != nil {
			return nil, err
		}
		if i >= len(items) || string(e.File.Item) != string(items[i]) || ap.RequestID().String() != v.ID {
			return nil, fail(exitUnverified, "tell the server's administrator", "the server gives the evidence of another file for file %d", i)
		}
		at, err := o.place(ap.Item().Name)
		if err != nil {
			return nil, err
		}
		if err := file.WriteFile(at, b, 0o644); err != nil {
			return nil, err
		}
		done = append(done, written{ap.Item().Name, at, v.ID, i})
		i++
		m.add(1)
	}
	if i != len(items) {
		return nil, fail(exitUnavailable, "try again", "the server gave the evidence of %d files of %d", i, len(items))
	}
	return done, nil
}

// place is where the evidence of a file that is not here goes.
func (o *output) place(name string) (string, error) {
	if o.out != "" && !o.dir {
		return o.out, nil
	}
	at := filepath.Join(o.out, inside(name)) + evidenceSuffix
	return at, os.MkdirAll(filepath.Dir(at), 0o755)
}
