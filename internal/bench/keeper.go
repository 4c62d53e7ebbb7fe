package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

type keyURI = key.URI

var noRoot statement.ID

// The words of rows.
const (
	Soft     = "soft"
	PKCS11   = "pkcs11"
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// KeeperRow compares one key with and without governance. Rates are signatures a
// second; the latencies are from the last endorsement to the signature, at half of
// the governed rate.
type KeeperRow struct {
	Key       string     `json:"key"` // "soft" or "pkcs11"
	Algorithm sigalg.Key `json:"algorithm"`
	Store     string     `json:"store"` // "sqlite" or "postgres"
	Files     int        `json:"files_per_request"`
	Raw       float64    `json:"raw_per_s"`
	Governed  float64    `json:"governed_per_s"`
	Ratio     float64    `json:"ratio"`
	P50       float64    `json:"p50_ms"`
	P99       float64    `json:"p99_ms"`
	Sessions  int        `json:"sessions,omitzero"` // of the token: those with the best raw rate
}

// Machine says where a measurement was made.
type Machine struct {
	CPUs int    `json:"cpus"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
}

func machine() Machine {
	return Machine{runtime.GOMAXPROCS(0), runtime.GOOS + "/" + runtime.GOARCH, runtime.Version()}
}

// KeeperReport is the result of Keeper.
type KeeperReport struct {
	Rows    []KeeperRow `json:"rows"`
	Machine Machine     `json:"machine"`
	Date    time.Time   `json:"date"`
}

// KeeperOptions choose rows and how long each takes.
type KeeperOptions struct {
	Quick        bool
	Only         []string // words that a row must have all of: "soft", "rsa-3072", "sqlite", "single", "batch"
	SkipPKCS11   bool
	SkipPostgres bool
	KeeperBinary string // greatseal-keeper; only for PKCS #11
	Files        int    // of a batch; default 1000
	Temp         string // folder for everything; default the system's
	Progress     Progress

	slice  time.Duration // of each side; 0: as Quick says
	slices int
}

// Algorithms are those of rows.
func Algorithms() []sigalg.Key { return []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096, sigalg.P256} }

// Words are those that Only takes.
func Words() []string {
	out := []string{Soft, PKCS11, SQLite, Postgres, "single", "batch"}
	for _, a := range Algorithms() {
		out = append(out, string(a))
	}
	return out
}

// wants reports whether Only leaves something with these words; a word of another
// kind is not held against it. Words of one kind are alternatives.
func (o *KeeperOptions) wants(word string) bool {
	kinds := [][]string{{Soft, PKCS11}, {SQLite, Postgres}, {"single", "batch"}, {string(sigalg.RSA3072), string(sigalg.RSA4096), string(sigalg.P256)}}
	for _, k := range kinds {
		if !slices.Contains(k, word) {
			continue
		}
		named := slices.ContainsFunc(o.Only, func(w string) bool { return slices.Contains(k, w) })
		return !named || slices.Contains(o.Only, word)
	}
	return false
}

func (o *KeeperOptions) check() error {
	for _, w := range o.Only {
		if !slices.Contains(Words(), w) {
			return fmt.Errorf("bench: %q: want some of %s", w, strings.Join(Words(), ", "))
		}
	}
	if o.Files == 0 {
		o.Files = 1000
	}
	if o.Files < 0 || o.Files > statement.MaxItems {
		return fmt.Errorf("bench: %d files: want 1 to %d", o.Files, statement.MaxItems)
	}
	if o.slice == 0 {
		o.slice, o.slices = 8*time.Second, 3 // so that filling and draining 64 requests weigh little
		if o.Quick {
			o.slice, o.slices = 800*time.Millisecond, 2
		}
	}
	return nil
}

// Keeper measures every row that o asks for.
func Keeper(ctx context.Context, o KeeperOptions) (rep *KeeperReport, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Temp, "gsbench")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	rep = &KeeperReport{Rows: []KeeperRow{}, Machine: machine(), Date: statement.Seconds(time.Now())}
	var pg *pgtemp.Server
	if o.wants(Postgres) && !o.SkipPostgres {
		o.Progress.say("starting a temporary PostgreSQL")
		if pg, err = pgtemp.Start(); err != nil {
			return nil, &MissingError{What: "PostgreSQL", Hint: "apt-get install postgresql, or leave its rows out with --skip-postgres", Err: err}
		}
		defer func() { err = errors.Join(err, pg.Close()) }()
	}
	for _, kind := range []string{Soft, PKCS11} {
		if !o.wants(kind) || kind == PKCS11 && o.SkipPKCS11 {
			continue
		}
		for _, st := range []string{SQLite, Postgres} {
			if !o.wants(st) || st == Postgres && o.SkipPostgres {
				continue
			}
			sub := filepath.Join(dir, kind+"-"+st)
			if err := os.Mkdir(sub, 0o700); err != nil {
				return nil, fmt.Errorf("bench: %w", err)
			}
			dsn := "sqlite:" + filepath.Join(sub, "greatseal.db")
			if st == Postgres {
				if dsn, err = pg.Database(); err != nil {
					return nil, err
				}
			}
			if err := o.deployment(ctx, kind, st, sub, dsn, rep); err != nil {
				return nil, err
			}
		}
	}
	if len(rep.Rows) == 0 {
		return nil, errors.New("bench: no row is left")
	}
	return rep, nil
}

// MissingError says what a machine lacks for a row, and what to do.
type MissingError struct {
	What, Hint string
	Err        error
}

func (e *MissingError) Error() string { return fmt.Sprintf("bench: no %s: %v", e.What, e.Err) }
func (e *MissingError) Unwrap() error { return e.Err }

// deployment measures the rows of one kind of key on one database.
func (o *KeeperOptions) deployment(ctx context.Context, kind, st, dir, dsn string, rep *KeeperReport) (err error) {
	var algorithms []sigalg.Key
	for _, a := range Algorithms() {
		if o.wants(string(a)) {
			algorithms = append(algorithms, a)
		}
	}
	o.Progress.say("%s keys on %s: founding a deployment", kind, st)
	var d *deployment
	var raw map[sigalg.Key]rawKey
	sessions := 0
	if kind == Soft {
		var end func() error
		if raw, end, err = softRaw(ctx, dir, algorithms); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
		d, err = softDeployment(ctx, dir, dsn, algorithms)
	} else {
		var t *token
		if t, err = newToken(dir, o.KeeperBinary); err != nil {
			return err
		}
		var end func() error
		if raw, sessions, end, err = t.raw(ctx, algorithms, o); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
		d, err = t.deployment(ctx, dir, dsn, algorithms, sessions)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for i, a := range algorithms {
		for _, files := range []int{1, o.Files} {
			if word := map[bool]string{true: "single", false: "batch"}[files == 1]; !o.wants(word) {
				continue
			}
			row := KeeperRow{Key: kind, Algorithm: a, Store: st, Files: files, Sessions: sessions}
			if err := o.row(ctx, d, raw[a], policyOf(i, a), &row); err != nil {
				return err
			}
			rep.Rows = append(rep.Rows, row)
		}
	}
	return nil
}

// row measures one row: a first small slice to learn the rate, then raw and
// governed slices in turn, then latencies.
func (o *KeeperOptions) row(ctx context.Context, d *deployment, raw rawKey, policy string, row *KeeperRow) error {
	inflight := 64
	if row.Files > 1 {
		inflight = 4
	}
	n, took, err := raw.run(ctx, o.slice/4)
	if err != nil {
		return err
	}
	// Learn the rate from a slice that is long enough to show it.
	warm := max(1, int(perSecond(n, took)*o.slice.Seconds()/8)/row.Files)
	warm = min(warm, 256)
	list, err := d.prepare(ctx, policy, warm, row.Files)
	if err != nil {
		return err
	}
	if took, err = d.govern(ctx, list, inflight); err != nil {
		return err
	}
	rate := perSecond(int64(warm), took)
	var rawN, governedN int64
	var rawTime, governedTime time.Duration
	for i := range o.slices {
		count := max(inflight/2, int(rate*o.slice.Seconds()), 2)
		if list, err = d.prepare(ctx, policy, count, row.Files); err != nil {
			return err
		}
		if n, took, err = raw.run(ctx, o.slice); err != nil {
			return err
		}
		rawN, rawTime = rawN+n, rawTime+took
		if took, err = d.govern(ctx, list, inflight); err != nil {
			return err
		}
		governedN, governedTime = governedN+int64(count*row.Files), governedTime+took
		rate = perSecond(governedN/int64(row.Files), governedTime)
		o.Progress.say("  %s %s %s, %d file(s) a request: slice %d of %d: raw %.0f/s, governed %.0f/s",
			row.Key, row.Algorithm, row.Store, row.Files, i+1, o.slices, perSecond(rawN, rawTime), perSecond(governedN, governedTime))
	}
	half := time.Duration(2 * float64(time.Second) / rate)
	count := min(max(1, int(o.slice/half)), 2000)
	if list, err = d.prepare(ctx, policy, count, row.Files); err != nil {
		return err
	}
	ls, err := d.latencies(ctx, list, half)
	if err != nil {
		return err
	}
	row.Raw, row.Governed = round(perSecond(rawN, rawTime), 1), round(perSecond(governedN, governedTime), 1)
	row.Ratio = round(perSecond(governedN, governedTime)/perSecond(rawN, rawTime), 3)
	row.P50, row.P99 = round(percentile(ls, 50), 1), round(percentile(ls, 99), 1)
	return nil
}
