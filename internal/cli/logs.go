package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

func (a *App) logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "log",
		GroupID: "rule",
		Short:   "search, prove, verify and export the audit log",
		Long: `Every request, endorsement, receipt, charter and rejection is an entry of a Merkle
tree whose head the keeper signs. This program keeps the last head that it saw, and
tells when the log is no longer an extension of it.`,
	}
	c.AddCommand(a.logSearch(), a.logProve(), a.logVerify(), a.logExport(), a.logCheckpoint())
	return c
}

// log is the audit log with its key from the charter chain.
func (l *link) log(ctx context.Context) (*audit.Client, error) {
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	first, _, err := chain.Version(1)
	if err != nil {
		return nil, err
	}
	pub, err := receipt.ParseKey(first.Keeper.LogKey)
	if err != nil {
		return nil, err
	}
	v, err := audit.NewVerifier(first.Keeper.Log, pub)
	if err != nil {
		return nil, err
	}
	return l.Client.Log(first.Keeper.Log, v), nil
}

// logFault is the error of reading a log: a log that lies is a failed check, a
// server that is away is not.
func logFault(err error) error {
	var away *client.AwayError
	var p *client.Problem
	if errors.As(err, &away) || errors.As(err, &p) || errors.Is(err, context.Canceled) {
		return err
	}
	return fail(exitUnverified, "keep the head in the state folder: it is evidence; ask the keeper's operators", "%v", err)
}

func (a *App) logSearch() *cobra.Command {
	var s client.Search
	var path, digest, since, until string
	most := 0
	c := &cobra.Command{
		Use:   "search",
		Short: "find signed files",
		Long: `Finds files of executed requests, the latest signed first. A digest is any that the
file's plan has, in full or its first 8 digits or more; in names * stands for
anything, and a letter for its capital. Product and publisher are as the files state
them.`,
		Example: `  greatseal log search --file app.exe
  greatseal log search --person alice --since 720h
  greatseal log search --name '*-setup.msi' --endorser bob --limit 0`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var err error
			if s.Since, err = a.moment("since", since, true); err != nil {
				return err
			}
			if s.Until, err = a.moment("until", until, true); err != nil {
				return err
			}
			digests := [][]byte{nil}
			switch {
			case digest != "" && path != "":
				return fail(exitUsage, "leave one of them out", "--digest and --file say the same")
			case digest != "":
				if _, err := hex.DecodeString(digest + strings.Repeat("0", len(digest)%2)); err != nil || len(digest) < store.MinDigest {
					return fail(exitUsage, "give it in hexadecimal digits", "--digest: want %d digits or more", store.MinDigest)
				}
				s.Prefix = strings.ToLower(digest)
			case path != "":
				if digests, err = contents(ctx, path); err != nil {
					return err
				}
			}
			if s.Name+s.Person+s.Key+s.Policy+s.Product+s.Publisher+s.Requester+s.Endorser+s.Format+s.Prefix+since+until == "" && digests[0] == nil {
				return fail(exitUsage, "greatseal log search --since 720h, --name 'app*', --file app.exe, …", "say what to search for")
			}
			l, err := a.enter(ctx)
			if err != nil {
				return err
			}
			defer l.Close()
			out := wire.FoundPage{Files: []wire.Found{}}
			for _, d := range digests {
				s.Digest, s.After = d, ""
				for {
					s.Limit = 0
					if most > 0 {
						s.Limit = min(most-len(out.Files)+1, 1000)
					}
					page, err := l.Search(ctx, s)
					if err != nil {
						return err
					}
					out.Files = append(out.Files, page.Files...)
					if s.After = page.Next; s.After == "" || most > 0 && len(out.Files) > most {
						break
					}
				}
			}
			if most > 0 && len(out.Files) > most {
				out.Files, out.Truncated = out.Files[:most], true
			}
			return a.print(out, func(w io.Writer) { printFound(w, &out) })
		},
	}
	f := c.Flags()
	f.StringVar(&path, "file", "", "file, by its content")
	f.StringVar(&digest, "digest", "", "digest of the signed content, hexadecimal, or its first digits")
	f.StringVar(&s.Name, "name", "", "name of the file; * matches anything")
	f.StringVar(&s.Person, "person", "", "requester or endorser")
	f.StringVar(&s.Requester, "requester", "", "requester")
	f.StringVar(&s.Endorser, "endorser", "", "who endorsed it")
	f.StringVar(&s.Key, "key", "", "key")
	f.StringVar(&s.Policy, "policy", "", "signing policy")
	f.StringVar(&s.Format, "format", "", "format: pe, deb, …")
	f.StringVar(&s.Product, "product", "", "product, as the file states it")
	f.StringVar(&s.Publisher, "publisher", "", "publisher, as the file states it")
	f.IntVar(&most, "limit", 1000, "files to list; 0: all")
	f.StringVar(&since, "since", "", "signed since: 2026-01-31, or 72h")
	f.StringVar(&until, "until", "", "signed until")
	return c
}

func printFound(w io.Writer, p *wire.FoundPage) {
	if len(p.Files) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	t := &table{head: []string{"SIGNED", "FILE", "FORMAT", "POLICY", "KEY", "REQUESTER", "RECEIPT", "REQUEST", "CONTENT"}}
	for _, f := range p.Files {
		t.row(when(f.Executed), f.File.Name, f.File.Format, f.Policy, f.Key, f.Requester, f.Receipt, short(f.Request), f.File.Digest+" "+short(f.File.Content))
	}
	t.write(w)
	if p.Truncated {
		fmt.Fprintln(w, "there is more: narrow the search, or --limit")
	}
}

func (a *App) logProve() *cobra.Command {
	var index int64
	c := &cobra.Command{
		Use:   "prove ID|FILE",
		Short: "prove that the log holds a signature, and extends what you saw before",
		Long: `Fetches the log's head, checks that it extends the one that this machine saw last,
and proves that the receipt of the request, or of the signed file, is under it.
--index proves any entry.`,
		Args: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == c.Flags().Changed("index") || len(args) > 1 {
				return fail(exitUsage, c.CommandPath()+" --help", "want ID or FILE, or --index")
			}
			return nil
		},
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			var entry []byte
			var err error
			if len(args) == 1 {
				if entry, index, err = l.entryOf(ctx, args[0]); err != nil {
					return err
				}
			}
			c, h, _, err := l.head(ctx)
			if err != nil {
				return err
			}
			if index < 0 || index >= h.Size() {
				return fail(exitUnverified, "", "the log's head has %d entries: it does not hold entry %d", h.Size(), index)
			}
			p, err := c.Inclusion(ctx, h, index)
			if err != nil {
				return logFault(err)
			}
			if entry == nil {
				for e, err := range c.Entries(ctx, h, index, index+1) {
					if err != nil {
						return logFault(err)
					}
					entry = e.Data
				}
			}
			if err := h.CheckInclusion(p, entry); err != nil {
				return unverified("tell the server's administrator", err)
			}
			type result struct {
				Entry      []byte          `json:"entry"`
				Inclusion  audit.Inclusion `json:"inclusion"`
				Checkpoint string          `json:"checkpoint"`
			}
			return a.print(result{entry, p, string(h.Note())}, func(w io.Writer) {
				fmt.Fprintf(w, "entry %d is under the head of %d entries\n", index, h.Size())
				_, _ = w.Write(h.Note())
			})
		}),
	}
	c.Flags().Int64Var(&index, "index", 0, "number of an entry")
	return c
}

// entryOf is the log entry of a signature's receipt, from judged evidence.
func (l *link) entryOf(ctx context.Context, what string) ([]byte, int64, error) {
	id, index := what, 0
	if _, err := os.Stat(what); err == nil {
		found, err := l.findFile(ctx, what)
		if err != nil {
			return nil, 0, err
		}
		if len(found) == 0 {
			return nil, 0, fail(exitFailed, "greatseal log search", "no signature over %s was made here", what)
		}
		id, index = found[0].Request, found[0].File.Index
	} else if id, err = idOf(what); err != nil {
		return nil, 0, err
	}
	e, err := l.Evidence(ctx, id, index)
	if err != nil {
		return nil, 0, err
	}
	ap, _, err := l.judge(ctx, e)
	if err != nil {
		return nil, 0, err
	}
	return e.Log.Entry, ap.LogIndex(), nil
}

func (a *App) logCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "fetch the log's signed head, and hold it against the last one seen",
		Args:  exactly(),
		RunE: a.outside(func(cmd *cobra.Command, l *link, _ []string) error {
			_, h, old, err := l.head(cmd.Context())
			if err != nil {
				return err
			}
			root := h.Root()
			type result struct {
				Origin     string `json:"origin"`
				Size       int64  `json:"size"`
				Root       string `json:"root"`
				Checkpoint string `json:"checkpoint"`
				OldSize    int64  `json:"oldSize,omitzero"` // of the head seen last, which this one extends
			}
			r := result{h.Origin(), h.Size(), base64.StdEncoding.EncodeToString(root[:]), string(h.Note()), 0}
			if old != nil {
				r.OldSize = old.Size()
			}
			return a.print(r, func(w io.Writer) {
				_, _ = w.Write(h.Note())
				if old != nil {
					a.note("it extends the head of %d entries that was seen last", old.Size())
				}
			})
		}),
	}
}

func (a *App) logVerify() *cobra.Command {
	var full bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "judge the whole log again: every signature, every quorum, every receipt",
		Long: `Reads the log as a stranger would who trusts nothing but the pinned charter: the
tree, the numbers and the chain of the receipts, and for every command that was
executed, whether the requests and endorsements in the log grant it. What was judged
under the head that is kept on this machine is not judged again, unless --full.`,
		Args: exactly(),
		RunE: a.outside(func(cmd *cobra.Command, l *link, _ []string) error {
			return l.verifyLog(cmd.Context(), full)
		}),
	}
	c.Flags().BoolVar(&full, "full", false, "judge everything, also what was judged before")
	return c
}

// judgedPath is where the head is kept under which everything was judged.
func (l *link) judgedPath() (string, error) {
	p, err := l.headPath()
	return p + ".judged", err
}

func (l *link) verifyLog(ctx context.Context, full bool) error {
	chain, err := l.charters(ctx)
	if err != nil {
		return err
	}
	c, err := l.log(ctx)
	if err != nil {
		return err
	}
	kept, err := l.keptHead()
	if err != nil {
		return err
	}
	at, err := l.judgedPath()
	if err != nil {
		return err
	}
	o := verify.LogOptions{OldHead: kept}
	judged, err := readSmall(at)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && !full {
		h, err := audit.ParseCheckpoint(judged, c.Origin, c.Verifier)
		if err != nil {
			return fail(exitUnverified, "--full judges everything", "%s: %v", at, err)
		}
		o.OldHead, o.From = judged, h.Size()
	}
	m := l.app.meter("judging the log", -1, false)
	defer m.end()
	o.Progress = func(done, total int64) {
		if m.bar != nil {
			m.bar.ChangeMax64(max(total, 1))
		}
		m.set(done)
	}
	src := verify.LogSource{Fetch: c.Fetch, Founding: chain.Founding(), Body: func(ctx context.Context, sum [32]byte, _ int64) ([]byte, error) {
		return l.LogBody(ctx, sum)
	}}
	r, err := verify.Log(ctx, src, l.cfg.Root, o)
	m.end()
	if err != nil {
		return err
	}
	if r.OK() {
		h, err := audit.ParseCheckpoint([]byte(r.Checkpoint), c.Origin, c.Verifier)
		if err != nil {
			return err
		}
		// What has been judged may extend an older head than the one that was seen last.
		if err := l.keepHead(ctx, c, h, nil); err != nil {
			return err
		}
		if err := keep(at, h.Note()); err != nil {
			return err
		}
	}
	b, err := r.JSON()
	if err != nil {
		return err
	}
	if err := l.app.print(jsontext.Value(b), func(w io.Writer) { printLog(w, r) }); err != nil || r.OK() {
		return err
	}
	return fail(exitUnverified, "keep this report and the head in the state folder; ask the keeper's operators", "the log does not hold: %s", count(len(r.Problems), "problem"))
}

func printLog(w io.Writer, r *verify.LogReport) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "problem   %s\n", printable(p.String()))
	}
	fmt.Fprintf(w, "%s, %d entries\n", printable(r.Origin), r.Size)
	for _, k := range audit.Kinds() {
		if n := r.Kinds[k]; n > 0 {
			field(w, string(k), strconv.FormatInt(n, 10))
		}
	}
	c := r.Receipts
	field(w, "receipts", fmt.Sprintf("%d to %d; %d executed, %d refused, %d files signed", c.First, c.Last, c.Executed, c.Refused, c.Signed))
	field(w, "judged", fmt.Sprintf("%d, beginning with entry %d", c.Judged, r.From))
	field(w, "charter", fmt.Sprint(r.Charter.Version))
	if r.OldSize > 0 {
		field(w, "extends", fmt.Sprintf("the head of %d entries that was seen last", r.OldSize))
	}
	if r.OK() {
		fmt.Fprintln(w, "everything that was executed was authorised")
	}
}

// logLine is one entry of log export.
type logLine struct {
	Index    int64          `json:"index"`
	Kind     audit.Kind     `json:"kind"`
	Time     time.Time      `json:"time"`
	Request  string         `json:"request,omitzero"`
	Envelope jsontext.Value `json:"envelope,omitzero"` // of what was signed
	Payload  jsontext.Value `json:"payload,omitzero"`  // the statement in it
	Body     string         `json:"body,omitzero"`     // of other entries
}

func (a *App) logExport() *cobra.Command {
	var from, to int64
	var kind string
	c := &cobra.Command{
		Use:   "export",
		Short: "write the log as JSON, one entry a line, each checked against the head",
		Args:  exactly(),
		RunE: a.outside(func(cmd *cobra.Command, l *link, _ []string) error {
			ctx := cmd.Context()
			c, h, _, err := l.head(ctx)
			if err != nil {
				return err
			}
			if to <= 0 || to > h.Size() {
				to = h.Size()
			}
			if from < 0 || from > to {
				return fail(exitUsage, fmt.Sprintf("--from 0 to %d", h.Size()), "the log has no entry %d", from)
			}
			m := a.meter("exporting", to-from, false)
			defer m.end()
			for e, err := range c.Entries(ctx, h, from, to) {
				if err != nil {
					return logFault(err)
				}
				m.add(1)
				if err := l.export(ctx, e, kind); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	f := c.Flags()
	f.Int64Var(&from, "from", 0, "first entry")
	f.Int64Var(&to, "to", 0, "entry after the last (default: all)")
	f.StringVar(&kind, "kind", "", "entries of one kind: request, endorsement, receipt, charter, rejection, cancel, expire")
	return c
}

func (l *link) export(ctx context.Context, x audit.IndexedEntry, kind string) error {
	e, err := x.Entry()
	if err != nil {
		return logFault(err)
	}
	if kind != "" && string(e.Kind) != kind {
		return nil
	}
	body, err := e.Body(func(sum [32]byte, _ int64) ([]byte, error) { return l.LogBody(ctx, sum) })
	if err != nil {
		return logFault(err)
	}
	line := logLine{Index: x.Index, Kind: e.Kind, Time: e.Time}
	if e.Request != [32]byte{} {
		line.Request = hex.EncodeToString(e.Request[:])
	}
	if env, err := statement.DecodeEnvelope(body); err == nil && jsontext.Value(env.Payload).IsValid() {
		line.Envelope, line.Payload = body, env.Payload
	} else {
		line.Body = string(bytes.ToValidUTF8(body, []byte("\uFFFD")))
	}
	return l.app.printLine(line)
}
