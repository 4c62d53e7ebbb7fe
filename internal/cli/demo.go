package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the demo edits its own database by hand

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/stamp"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

func (a *App) demoCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "demo",
		GroupID: "start",
		Short:   "show the whole way of a signature and of a signed record, and six attacks failing",
		Long: `Founds a deployment in a folder, with two groups of people and a machine that
endorses; signs a real Windows program that three different ones have endorsed;
verifies it offline; and tries to get a signature without the quorum, to alter
the file, and to change a request in the database by hand.

Then the second promise, that nothing runs unless it was signed for that: a
trusted and a protected instance with a database each, a circle of trust that a
quorum signs, and an agent that takes its work over TLS. A data source is signed,
moved in an update set, and run. Its SQL is edited in the protected database; an
older version is restored with its signatures; an order is replayed. Each time
the instance refuses, and the agent refuses what a stolen instance delivers.

Nothing is asked and nothing outside the folder is touched. The folder stays, to
look at.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{app: a, dir: dir}
			err := d.run(cmd.Context())
			if cerr := d.close(); err == nil {
				err = cerr
			}
			return err
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder to use (default: a new one below the folder for temporary files)")
	return c
}

// demo is one run, step by step.
type demo struct {
	app   *App
	dir   string
	begun time.Time

	people *trial.Trial
	host   *host.Host
	store  *store.SQL
	server *server.Server
	stop   context.CancelFunc
	done   chan struct{}

	program string  // path of the signed file
	estate  *estate // of the second half; nil before it
	result  demoResult
}

// demoResult is what --json prints.
type demoResult struct {
	Dir       string      `json:"dir"`
	Root      string      `json:"root"`
	Program   string      `json:"program"`
	Evidence  string      `json:"evidence"`
	Request   string      `json:"request"`
	Endorsers []string    `json:"endorsers"`
	Judges    []string    `json:"judges"`  // verifiers that accepted the file
	Refused   []string    `json:"refused"` // attacks that failed, with the reason
	Records   demoRecords `json:"records"`
	Seconds   float64     `json:"seconds"`
}

func (d *demo) say(format string, args ...any) {
	if !d.app.json {
		fmt.Fprintf(d.app.Out, format+"\n", args...)
	}
}

func (d *demo) step(n int, title string) { d.say("\n%d. %s", n, title) }

func (d *demo) run(ctx context.Context) error {
	d.begun = time.Now()
	for i, s := range []struct {
		title string
		f     func(context.Context) error
	}{
		{"A deployment is founded", d.found},
		{"Keys are made: requested by one officer, endorsed by another", d.keys},
		{"A Windows program is signed: three endorse, then the key signs exactly that", d.sign},
		{"Anybody verifies, offline", d.verify},
		{"Attack: one person wants to be the whole quorum", d.attackSamePerson},
		{"Attack: the signed file is altered", d.attackFile},
		{"Attack: a request is changed in the database by hand", d.attackDatabase},
		{"A trusted and a protected instance, an agent and a database", d.circle},
		{"A data source is signed by quorum, moved in an update set, and runs", d.source},
		{"Attack: its SQL is edited in the protected database", d.attackEdit},
		{"Attack: an older signed version is restored", d.attackRestore},
		{"Attack: an order is replayed", d.attackReplay},
	} {
		d.step(i+1, s.title)
		if err := s.f(ctx); err != nil {
			return fmt.Errorf("demo: step %d: %w", i+1, err)
		}
	}
	d.result.Seconds = time.Since(d.begun).Seconds()
	if d.app.json {
		return d.app.print(d.result, nil)
	}
	d.say(`
Done in %.1[1]f s. What is left in %[2]s:
  %-24[3]s  the signed program
  %-24[9]s  who approved it, to verify anywhere
  trial-ca.crt              the authority that the verifier trusts
  people/                   the SSH keys of alice, bob, carol, dave and the machines
  circle.bundle             what the plant and its agent believe, with its evidence
  release-2.xml             the update set with the signatures of its records
  workshop/, plant/, agent/ what each of the three keeps

Try next:
  %[4]s verify %[5]s \
    --evidence %[6]s --root %[7]s \
    --ca %[8]s --tsa-ca %[8]s
  %[4]s agent explain --config %[10]s
  GREATSEAL_ROOT=%[11]s \
    %[4]s records verify-set %[12]s \
    --bundle %[13]s --instance %[14]s     # for 15 minutes: then the circle is stale
  %[4]s dev      the same, left running, to request and endorse by yourself`,
		d.result.Seconds, d.dir, filepath.Base(d.program), program(), d.program, d.result.Evidence,
		filepath.Join(d.dir, "charter-v1.json"), d.people.RootFile(), filepath.Base(d.result.Evidence), d.agentConfig(),
		d.result.Root, d.result.Records.Sets[1], d.path("circle.bundle"), demoPlant)
	return nil
}

// program is how this program was called, for commands to copy.
func program() string {
	if strings.Contains(os.Args[0], "/") {
		return os.Args[0]
	}
	return "greatseal"
}

func (d *demo) close() (err error) {
	if d.estate != nil {
		err = d.estate.close()
	}
	if d.stop != nil {
		d.stop()
		<-d.done
	}
	if d.store != nil {
		d.store.Close()
	}
	if d.host != nil {
		d.host.Close()
	}
	return err
}

// found makes keeper, people, charter, database and server.
func (d *demo) found(ctx context.Context) error {
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "greatseal-demo-")
		if err != nil {
			return err
		}
		d.dir = dir
	} else if entries, err := os.ReadDir(d.dir); err == nil && len(entries) > 0 {
		return fail(exitUsage, "name an empty folder, or none", "%s is not empty", d.dir)
	}
	p, err := d.settle()
	if err != nil {
		return err
	}
	st, err := p.initKeeper(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	d.people, err = trial.New(ctx, d.dir, st, trial.Options{Deployment: "demo", Timestamps: true, Records: &trial.Records{}})
	if err != nil {
		return err
	}
	if err := file.WriteFile(p.path("charter-v1.json"), append(d.people.Found, '\n'), 0o644); err != nil {
		return err
	}
	if _, err := p.found(ctx, d.people.Found, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	d.result.Dir, d.result.Root = d.dir, d.people.Root.String()
	d.say("   folder    %s", d.dir)
	d.say("   charter   %s, signed by alice, carol and dave", d.people.Root)
	d.say("   policy    release: one of {alice, bob}, one of {carol, dave} and the scanner must endorse")
	if d.host, err = host.Open(ctx, p.keeper(), d.people.Root, hostOptions(slog.New(slog.DiscardHandler))); err != nil {
		return err
	}
	if d.store, err = store.Open(ctx, "sqlite:"+p.path("greatseal.db")); err != nil {
		return err
	}
	return d.start(ctx)
}

// settle makes the folder, and its name one without links: signed records name files
// in it, and the agent's firewall compares.
func (d *demo) settle() (place, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return place{}, err
	}
	dir, err := filepath.EvalSymlinks(d.dir)
	if err == nil {
		d.dir, err = filepath.Abs(dir)
	}
	return place{d.dir}, err
}

func (d *demo) start(ctx context.Context) error {
	k := wire.InProcess(d.host)
	s, err := server.New(ctx, server.Config{Store: d.store, Keeper: k, Formats: all.Formats(), Pin: d.people.Root,
		Stamper: &stamp.Stamper{Keeper: k}, Clock: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	d.server = s
	run, stop := context.WithCancel(ctx)
	d.stop, d.done = stop, make(chan struct{})
	go func() {
		s.Run(run)
		close(d.done)
	}()
	return nil
}

func (d *demo) keys(ctx context.Context) error {
	if err := d.people.MakeKeys(ctx, d.server); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(d.people.Charter.Keys)) {
		k, err := d.server.Key(ctx, n)
		if err != nil {
			return err
		}
		d.say("   %-9s %s, in the encrypted keystore, with a certificate of the trial's authority", n, d.people.Charter.Keys[n].Algorithm)
		if k.State != "active" {
			return fmt.Errorf("key %s is %s", n, k.State)
		}
	}
	return nil
}

// plan plans a file and makes the command that signs it.
func (d *demo) plan(ctx context.Context, path, policy string) (*format.Plan, [][]byte, statement.Command, error) {
	art, err := file.Open(path)
	if err != nil {
		return nil, nil, statement.Command{}, err
	}
	defer art.Close()
	f, _ := all.ByName("pe")
	plan, err := f.Plan(ctx, art, format.Params{"description": "Greatseal demonstration", "url": "https://greatseal.io"})
	if err != nil {
		return nil, nil, statement.Command{}, err
	}
	item, err := author.Item(plan, filepath.Base(path), map[string]string{"release": "1.0"})
	if err != nil {
		return nil, nil, statement.Command{}, err
	}
	cmd, err := author.SignCommand(d.people.Charter, policy, "", [][]byte{item})
	return plan, [][]byte{item}, cmd, err
}

func (d *demo) sign(ctx context.Context) error {
	d.program = filepath.Join(d.dir, "hello.exe")
	how, err := trial.BuildProgram(ctx, d.program)
	if err != nil {
		return err
	}
	plan, items, cmd, err := d.plan(ctx, d.program, "release")
	if err != nil {
		return err
	}
	d.say("   program   hello.exe, %s, %d bytes; its plan has %d bytes and is all that travels", how, plan.Size, len(items[0]))
	env, id, err := d.people.People["alice"].Request(ctx, d.people.Charter, d.people.Ref(), cmd, author.RequestOptions{Reason: "demonstration"})
	if err != nil {
		return err
	}
	if _, _, err := d.server.Submit(ctx, env, items); err != nil {
		return err
	}
	d.result.Request = id.String()
	d.say("   request   %s by alice", id.String()[:12])
	for _, who := range []string{"bob", "carol", "scanner"} {
		r, err := d.endorse(ctx, env, who, statement.Endorse)
		if err != nil {
			return err
		}
		v, err := d.server.View(ctx, r, true)
		if err != nil {
			return err
		}
		missing := ""
		if v.Decision != nil && v.Decision.Missing != "" {
			missing = "; still missing: " + v.Decision.Missing
		}
		d.say("   endorsed  by %s with an SSH signature%s", who, missing)
		d.result.Endorsers = append(d.result.Endorsers, who)
	}
	if err := d.await(ctx, id, store.Executed); err != nil {
		return err
	}
	return d.attach(ctx, id, plan)
}

func (d *demo) endorse(ctx context.Context, request []byte, who string, v statement.Verdict) (*store.Request, error) {
	e, req, err := statement.DecodeEnveloped[statement.Request](request)
	if err != nil {
		return nil, err
	}
	b, err := d.people.People[who].Endorsement(ctx, &req, e.ID(), v, "", 0, nil)
	if err != nil {
		return nil, err
	}
	return d.server.Endorse(ctx, b)
}

// await waits until a request is in a state, and for its timestamps.
func (d *demo) await(ctx context.Context, id statement.ID, want store.State) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		r, err := d.server.Get(ctx, id)
		if err != nil {
			return err
		}
		v, err := d.server.View(ctx, r, false)
		if err != nil {
			return err
		}
		if r.State == want && (v.Timestamps == nil || v.Timestamps.Done == v.Timestamps.Wanted) {
			return nil
		}
		if !r.State.Open() && r.State != want {
			return fmt.Errorf("request %s is %s: %s", id.String()[:12], r.State, r.Detail)
		}
		d.server.AwaitNews(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("request %s is %s for too long: %s", id.String()[:12], r.State, r.Detail)
		}
	}
}

func (d *demo) attach(ctx context.Context, id statement.ID, plan *format.Plan) error {
	res, err := d.server.Collect(ctx, id)
	if err != nil {
		return err
	}
	ident := format.Identity{Scheme: sigalg.Scheme(res.Scheme)}
	for _, der := range res.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		ident.Chain = append(ident.Chain, c)
	}
	ident.Public = ident.Chain[0].PublicKey
	art, err := file.Open(d.program)
	if err != nil {
		return err
	}
	defer art.Close()
	f, _ := all.ByName("pe")
	patch, err := f.Attach(ctx, art, plan, ident, res.Time, []format.Signature{{Value: res.Signatures[0][0], Timestamp: res.Timestamps[0]}})
	if err != nil {
		return err
	}
	if err := file.Write(d.program, d.program, patch, file.Options{}); err != nil {
		return err
	}
	ev, err := d.server.Evidence(ctx, id, 0)
	if err != nil {
		return err
	}
	b, err := ev.Encode()
	if err != nil {
		return err
	}
	d.result.Program, d.result.Evidence = d.program, d.program+".evidence.json"
	if err := file.WriteFile(d.result.Evidence, b, 0o644); err != nil {
		return err
	}
	r, err := d.server.Get(ctx, id)
	if err != nil {
		return err
	}
	d.say("   signed    by the keeper: receipt %d, entry %d of the log, with a timestamp; evidence of %d bytes beside the file", r.Receipt, ev.Log.Inclusion.Index, len(b))
	return nil
}

func (d *demo) trust() (format.Trust, error) {
	pem, err := os.ReadFile(d.people.RootFile())
	if err != nil {
		return format.Trust{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return format.Trust{}, errors.New("no certificate of the trial's authority")
	}
	return format.Trust{Roots: pool, TimestampRoots: pool, Now: time.Now()}, nil
}

func (d *demo) check(ctx context.Context, path string) (*verify.Verified, error) {
	b, err := os.ReadFile(d.result.Evidence)
	if err != nil {
		return nil, err
	}
	ev, err := verify.DecodeEvidence(b)
	if err != nil {
		return nil, err
	}
	t, err := d.trust()
	if err != nil {
		return nil, err
	}
	art, err := file.Open(path)
	if err != nil {
		return nil, err
	}
	defer art.Close()
	return verify.File(ctx, art, nil, ev, d.people.Root, t, all.Formats(), verify.Options{})
}

func (d *demo) verify(ctx context.Context) error {
	v, err := d.check(ctx, d.program)
	if err != nil {
		return err
	}
	d.result.Judges = append(d.result.Judges, "greatseal")
	var who []string
	for _, e := range v.Approval().Endorsers() {
		who = append(who, fmt.Sprintf("%s for %s", e.Name, strings.Join(e.For, ", ")))
	}
	d.say("   greatseal    accepts it: asked by %s, endorsed by %s", v.Approval().Requester().Name, strings.Join(who, ", "))
	tool, err := exec.LookPath("osslsigncode")
	if err != nil {
		d.say("   osslsigncode is not installed here; it would be asked too (apt-get install osslsigncode)")
		return nil
	}
	out, err := exec.CommandContext(ctx, tool, "verify", "-CAfile", d.people.RootFile(), "-TSA-CAfile", d.people.RootFile(), "-in", d.program).CombinedOutput()
	if err != nil {
		return fmt.Errorf("osslsigncode refuses the file: %w\n%s", err, out)
	}
	d.result.Judges = append(d.result.Judges, "osslsigncode")
	d.say("   osslsigncode accepts it too, with its timestamp")
	return nil
}

func (d *demo) refused(reason string) {
	d.result.Refused = append(d.result.Refused, reason)
	d.say("   refused   %s", reason)
}

// attackSamePerson has carol endorse again and again, and alice her own request.
func (d *demo) attackSamePerson(ctx context.Context) error {
	path := filepath.Join(d.dir, "other.exe")
	if err := os.WriteFile(path, trial.Program(), 0o755); err != nil {
		return err
	}
	_, items, cmd, err := d.plan(ctx, path, "release")
	if err != nil {
		return err
	}
	env, id, err := d.people.People["alice"].Request(ctx, d.people.Charter, d.people.Ref(), cmd, author.RequestOptions{})
	if err != nil {
		return err
	}
	if _, _, err := d.server.Submit(ctx, env, items); err != nil {
		return err
	}
	if _, err := d.endorse(ctx, env, "alice", statement.Endorse); err == nil {
		return errors.New("alice endorsed her own request")
	} else {
		d.refused(plain(err).Error())
	}
	for range 3 {
		if _, err := d.endorse(ctx, env, "carol", statement.Endorse); err != nil && !strings.Contains(err.Error(), "again") {
			return err
		}
		time.Sleep(1100 * time.Millisecond) // each a new endorsement: they carry the second
	}
	r, err := d.server.Get(ctx, id)
	if err != nil {
		return err
	}
	v, err := d.server.View(ctx, r, true)
	if err != nil {
		return err
	}
	if r.State != store.Pending {
		return fmt.Errorf("three endorsements of one person made the request %s", r.State)
	}
	d.refused("three endorsements by carol count once: it still needs " + v.Decision.Missing)
	return nil
}

// attackFile flips one byte.
func (d *demo) attackFile(ctx context.Context) error {
	b, err := os.ReadFile(d.program)
	if err != nil {
		return err
	}
	b[len(b)/3] ^= 1
	path := filepath.Join(d.dir, "altered.exe")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		return err
	}
	_, err = d.check(ctx, path)
	if err == nil {
		return errors.New("the altered file was accepted")
	}
	d.refused(plain(err).Error())
	return nil
}

// attackDatabase has somebody with the server's database make the open request of
// the step before look endorsed, and exchange its content.
func (d *demo) attackDatabase(ctx context.Context) error {
	open, err := d.server.List(ctx, store.Filter{States: []store.State{store.Pending}})
	if err != nil || len(open) == 0 {
		return fmt.Errorf("no open request: %w", err)
	}
	id := open[0].ID
	d.stop()
	<-d.done
	d.stop = nil
	// The server writes at the same time: whoever edits by hand waits for it.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.dir, "greatseal.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "UPDATE requests SET state = 'endorsed' WHERE id = $1", id[:]); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.server.Execute(ctx, id); err != nil {
		return err
	}
	r, err := d.server.Get(ctx, id)
	if err != nil {
		return err
	}
	if r.State == store.Executed {
		return errors.New("the keeper signed what a row of the database said")
	}
	d.refused("the keeper, of a row set to endorsed: " + r.Detail)
	forged, err := forge(open[0].Envelope)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "UPDATE requests SET state = 'endorsed', envelope = $2, code = '' WHERE id = $1", id[:], forged); err != nil {
		return err
	}
	if err := d.server.Execute(ctx, id); err == nil {
		if r, err = d.server.Get(ctx, id); err == nil && r.State == store.Executed {
			return errors.New("the keeper signed an exchanged request")
		}
	} else {
		d.refused("the keeper, of an exchanged request: " + plain(err).Error())
	}
	return nil
}

// forge lets a request live a year longer, and keeps its signature.
func forge(envelope []byte) ([]byte, error) {
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	var r struct {
		Predicate struct {
			Expires string `json:"expires"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(e.Payload, &r); err != nil {
		return nil, err
	}
	later := strings.Replace(r.Predicate.Expires, "20", "21", 1)
	e.Payload = bytes.Replace(e.Payload, []byte(r.Predicate.Expires), []byte(later), 1)
	return e.Encode()
}
