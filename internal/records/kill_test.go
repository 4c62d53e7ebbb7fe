package records_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/postgres"
	"github.com/greatseal-io/greatseal/internal/platform/sqlite"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
	"github.com/greatseal-io/greatseal/record"
)

// victim is the environment variable that makes this program a worker to be killed:
// the address of the application's database and the file of the server's.
const victim = "GREATSEAL_TEST_VICTIM"

// victimRecords is the number of records of TestKill9.
const victimRecords = 3000

func TestMain(m *testing.M) {
	if os.Getenv(victim) != "" {
		beVictim()
	}
	os.Exit(m.Run())
}

// victimPlatform is the application's database: SQLite where the address is a file.
func victimPlatform(ctx context.Context, dsn string) (platform.Platform, error) {
	if filepath.IsAbs(dsn) {
		return sqlite.Open(ctx, dsn, platform.Options{})
	}
	return postgres.Open(ctx, dsn, platform.Options{})
}

// victimDatabases make databases with the application's table, full.
func victimDatabases(t *testing.T) map[string]func() string {
	return map[string]func() string{
		"postgres": func() string {
			pg, err := pgtemp.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pg.Close() })
			dsn, err := pg.Database()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pg.SQL(dsn, schema+fmt.Sprintf("; INSERT INTO sys_data_source SELECT md5(i::text), 'source ' || i, 'JDBC', 'db.example.com', 'SELECT ' || i, '2026' FROM generate_series(1, %d) i", victimRecords)); err != nil {
				t.Fatal(err)
			}
			return dsn
		},
		"sqlite": func() string {
			path := filepath.Join(t.TempDir(), "app.db")
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(schema + fmt.Sprintf(`; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
				INSERT INTO sys_data_source SELECT printf('%%032x', i), 'source ' || i, 'JDBC', 'db.example.com', 'SELECT ' || i, '2026' FROM n`, victimRecords)); err != nil {
				t.Fatal(err)
			}
			return path
		},
	}
}

// readable counts the records that have a signature to whoever reads.
func readable(t *testing.T, p platform.Platform) (n int) {
	t.Helper()
	for again := 0; ; again++ {
		n = 0
		err := p.Scan(t.Context(), platform.Query{Table: table, Signatures: true}, func(r *platform.Row) error {
			if len(r.Signatures) > 0 {
				n++
			}
			return nil
		})
		if err == nil {
			return n
		}
		// Connections that were open when the server fell are found out one by one.
		if again == 20 {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// victimJobs are jobs over a database, with a signer that nobody answers.
func victimJobs(ctx context.Context, dsn, file string, signer records.Signer, hook func(string)) (*records.Jobs, platform.Platform, *store.SQL, error) {
	p, err := victimPlatform(ctx, dsn)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := p.Prepare(ctx); err != nil {
		return nil, nil, nil, err
	}
	s, err := store.Open(ctx, "sqlite:"+file)
	if err != nil {
		return nil, nil, nil, err
	}
	j, err := records.NewJobs(records.Config{
		Instance: &records.Instance{Name: "dev", Role: records.Trusted}, Store: s, Platforms: map[string]platform.Platform{"erp": p},
		Configurations: configurations, Signer: signer, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Batch: 100, Hook: hook,
	})
	return j, p, s, err
}

// beVictim works on whatever is due, and says where it is, until it is killed.
func beVictim() {
	dsn, file, _ := strings.Cut(os.Getenv(victim), "|")
	ctx := context.Background()
	j, _, _, err := victimJobs(ctx, dsn, file, newDesk(nil, time.Now), func(p string) {
		fmt.Println(p)
		if p == "committed" {
			time.Sleep(20 * time.Millisecond) // so that it is killed before it is done
		}
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for {
		if _, err := j.Work(ctx); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
}

// kill -9 in the middle, several times: the job ends with the root that a job without
// any accident has (invariant 3).
func TestKill9(t *testing.T) {
	for name, open := range victimDatabases(t) {
		t.Run(name, func(t *testing.T) { killed(t, open) })
	}
}

func killed(t *testing.T, open func() string) {
	roots := make([]string, 2)
	ids := ""
	for round, kills := range []int{0, 3} {
		dsn := open()
		file := filepath.Join(t.TempDir(), "greatseal.db")
		d := newDesk(t, time.Now)
		d.auto = true
		jobs, p, s, err := victimJobs(t.Context(), dsn, file, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		defer s.Close()
		v, err := jobs.Create(t.Context(), &records.Spec{Kind: records.SignRecords, Name: "all", Platform: "erp", Policy: "release", Configurations: []string{"sources"}}, "alice")
		if err != nil {
			t.Fatal(err)
		}
		ids += v.ID
		before := int64(0)
		for n := range kills {
			killAfter(t, dsn, file, 5+3*n)
			got, err := p.Progress(t.Context(), v.ID)
			if err != nil || got.Count <= before || got.Count >= victimRecords {
				t.Fatalf("killed for the %d. time with %d records, %d before: %v", n+1, got.Count, before, err)
			}
			before = got.Count
			if n := readable(t, p); n != 0 {
				t.Fatalf("%d records have a signature before the root is there", n)
			}
			if err := s.WakeSecurityJob(t.Context(), v.ID, time.Now()); err != nil { // as when its lease has run out
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(2 * time.Minute); !v.State.Final(); {
			if _, err := jobs.Work(t.Context()); err != nil {
				t.Log(err) // a connection of the dead may hold a row for a moment
			}
			if v, err = jobs.Get(t.Context(), v.ID); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(end) {
				t.Fatalf("it does not come to an end: %+v", v)
			}
		}
		if v.State != records.Done || v.Summary.Signed["sources"] != victimRecords {
			t.Fatalf("%+v", v)
		}
		roots[round] = v.Summary.Root
		trust := &record.Trust{Instance: "prod", Issuers: []string{"dev"}, Configurations: configurations(), Now: time.Now(), Anchors: anchors(d)}
		ver, err := record.NewVerifier(trust, nil)
		if err != nil {
			t.Fatal(err)
		}
		valid := 0
		err = p.Scan(t.Context(), platform.Query{Table: table, Signatures: true}, func(r *platform.Row) error {
			_, err := ver.Verify(t.Context(), &r.Record, record.Queue, r.Signatures, still{})
			valid++
			return err
		})
		if err != nil || valid != victimRecords {
			t.Fatalf("%d records verify: %v", valid, err)
		}
	}
	if roots[0] != roots[1] || roots[0] == "" {
		t.Errorf("jobs %s: root %s without accidents, %s with", ids, roots[0], roots[1])
	}
}

// The database's server falls over in the middle of a job, at each of its steps, and
// comes back: the job goes on where it was, and nothing is readable before its root.
func TestDatabaseFallsOver(t *testing.T) {
	pg, err := pgtemp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close() })
	dsn, err := pg.Database()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pg.SQL(dsn, schema+fmt.Sprintf("; INSERT INTO sys_data_source SELECT md5(i::text), 'source ' || i, 'JDBC', 'db.example.com', 'SELECT ' || i, '2026' FROM generate_series(1, %d) i", victimRecords)); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, time.Now)
	d.auto = true
	seen, falls := map[string]int{}, 0
	jobs, p, s, err := victimJobs(t.Context(), dsn, filepath.Join(t.TempDir(), "greatseal.db"), d, func(point string) {
		at := map[string]int{"put": 150, "committed": 5, "prepared": 1, "signed": 1, "put root": 1}[point]
		if seen[point]++; seen[point] != at {
			return
		}
		falls++
		if err := errors.Join(pg.Down(), pg.Up()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer s.Close()
	v, err := jobs.Create(t.Context(), &records.Spec{Kind: records.SignRecords, Name: "all", Platform: "erp", Policy: "release", Configurations: []string{"sources"}}, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); !v.State.Final(); {
		_, werr := jobs.Work(t.Context())
		if v, err = jobs.Get(t.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
		if werr != nil {
			t.Log(werr)
			if err := s.WakeSecurityJob(t.Context(), v.ID, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if n := readable(t, p); n != 0 && n != victimRecords || n != 0 && seen["put root"] == 0 && !v.State.Final() {
			t.Fatalf("%d records have a signature, and the job is %s", n, v.State)
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to an end: %+v", v)
		}
	}
	if v.State != records.Done || v.Summary.Signed["sources"] != victimRecords || falls < 3 {
		t.Fatalf("after %d falls (%v): %+v", falls, seen, v)
	}
	if n := readable(t, p); n != victimRecords {
		t.Fatalf("%d records can be read", n)
	}
}

// killAfter runs a worker until it has committed n batches, and kills it.
func killAfter(t *testing.T, dsn, file string, n int) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), victim+"="+dsn+"|"+file)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); n > 0 && lines.Scan(); {
		switch s := lines.Text(); {
		case s == "committed":
			n--
		case strings.HasPrefix(s, "error"):
			t.Errorf("the worker: %s", s)
			n = 0
		}
	}
	c.Process.Kill() // SIGKILL
	c.Wait()
	if n > 0 {
		t.Fatalf("the worker ended by itself: %s", &said)
	}
}

// still remembers nothing.
type still struct{}

func (still) Highest(context.Context, record.Ref) (uint64, error) { return 0, nil }
func (still) Raise(context.Context, record.Ref, uint64) error     { return nil }

func anchors(d *desk) []record.Anchor {
	return []record.Anchor{{Name: "test", Certificate: d.signer.Root.Root.Raw, Purposes: []string{record.Queue}}}
}
