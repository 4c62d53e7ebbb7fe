package bench

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/sigalg"
)

const child = "bench-plan-child"

// The test binary is the child that only plans, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == child {
		if err := PlanChild(context.Background(), os.Args[2], os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// document is v as whoever reads the JSON sees it.
func document(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func positive(t *testing.T, m map[string]any, names ...string) {
	t.Helper()
	for _, n := range names {
		v, ok := m[n].(float64)
		if !ok || !(v > 0) || math.IsInf(v, 0) {
			t.Errorf("%s is %v: want a number above 0 in %v", n, m[n], m)
		}
	}
}

func tiny(only ...string) KeeperOptions {
	return KeeperOptions{Only: only, Files: 3, slice: 40 * time.Millisecond, slices: 1}
}

func TestKeeperRows(t *testing.T) {
	for _, store := range []string{SQLite, Postgres} {
		t.Run(store, func(t *testing.T) {
			var progress bytes.Buffer
			o := tiny(Soft, store, string(sigalg.P256))
			o.Temp, o.Progress = t.TempDir(), Progress{&progress}
			rep, err := Keeper(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			rows := document(t, rep)["rows"].([]any)
			if len(rows) != 2 {
				t.Fatalf("%d rows: want one for single requests and one for batches", len(rows))
			}
			for i, r := range rows {
				m := r.(map[string]any)
				positive(t, m, "files_per_request", "raw_per_s", "governed_per_s", "ratio", "p50_ms", "p99_ms")
				if m["key"] != Soft || m["algorithm"] != string(sigalg.P256) || m["store"] != store || m["files_per_request"] != []float64{1, 3}[i] {
					t.Errorf("row %d: %v", i, m)
				}
				if m["p99_ms"].(float64) < m["p50_ms"].(float64) {
					t.Errorf("p99 is below p50: %v", m)
				}
			}
			if !strings.Contains(progress.String(), "governed") {
				t.Errorf("progress says %q", &progress)
			}
			if left, _ := os.ReadDir(o.Temp); len(left) > 0 {
				t.Errorf("%s was left behind", left[0].Name())
			}
		})
	}
}

func TestKeeperRefuses(t *testing.T) {
	if _, err := Keeper(t.Context(), tiny("rsa-1024")); err == nil {
		t.Error("an unknown word was taken")
	}
	o := tiny(PKCS11)
	o.SkipPKCS11 = true
	if _, err := Keeper(t.Context(), o); err == nil {
		t.Error("no row is left, and that is no error")
	}
	o = tiny(PKCS11, SQLite)
	o.KeeperBinary = filepath.Join(t.TempDir(), "greatseal-keeper")
	_, err := Keeper(t.Context(), o)
	var m *MissingError
	if !errors.As(err, &m) || !strings.Contains(m.Hint, "--skip-pkcs11") {
		t.Errorf("a keeper that is not there: %v", err)
	}
}

func TestPlan(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// Large enough that getrusage's grain does not show.
	rep, err := Plan(t.Context(), PlanOptions{Size: 16 << 20, Runs: 2, Child: []string{self, child}, Temp: dir})
	if err != nil {
		t.Fatal(err)
	}
	m := document(t, rep)
	positive(t, m, "bytes", "plan_cpu_s", "sha256_cpu_s", "ratio", "peak_rss_bytes")
	if m["format"] != "pe" || rep.Bytes != 16<<20 {
		t.Errorf("%v", m)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s was left behind", left[0].Name())
	}
	if _, err := Plan(t.Context(), PlanOptions{File: filepath.Join(dir, "none"), Child: []string{self, child}}); err == nil {
		t.Error("a file that is not there was planned")
	}
}

func TestLog(t *testing.T) {
	for _, n := range []int64{10, 11, 12, 13, 14, 500} {
		rep, err := Log(t.Context(), LogOptions{Entries: n})
		if err != nil {
			t.Fatalf("%d entries: %v", n, err)
		}
		m := document(t, rep)
		positive(t, m, "entries", "verify_evidence_s", "evidence_bytes", "log_verify_s", "log_verify_us_per_entry", "inclusion_proof_bytes")
		if rep.Entries != n {
			t.Errorf("%d entries: want %d", rep.Entries, n)
		}
	}
	if _, err := Log(t.Context(), LogOptions{Entries: 9}); err == nil {
		t.Error("a log of 9 entries was made")
	}
}

// The programs that are made up are programs, and no two of them are alike.
func TestImages(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(3) {
		p, err := pe.New().Plan(t.Context(), format.BytesArtifact("x.exe", smallImage(seed)), nil)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(p.Content)] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d of 3 programs differ", len(seen))
	}
	if err := writeImage(filepath.Join(t.TempDir(), "x"), imageMinimum+1); err == nil {
		t.Error("a size that no program has was taken")
	}
}

func TestPercentile(t *testing.T) {
	var ds []time.Duration
	for i := 100; i > 0; i-- {
		ds = append(ds, time.Duration(i)*time.Millisecond)
	}
	for _, c := range []struct{ p, want float64 }{{50, 50}, {99, 99}, {100, 100}, {0, 1}} {
		if got := percentile(ds, c.p); got != c.want {
			t.Errorf("p%v is %v: want %v", c.p, got, c.want)
		}
	}
	if percentile(nil, 50) != 0 {
		t.Error("the percentile of nothing is something")
	}
}

// SoftHSM, through a real greatseal-keeper over its socket.
func TestKeeperSoftHSM(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "greatseal-keeper")
	c := exec.Command("go", "build", "-o", bin, "github.com/greatseal-io/greatseal/cmd/greatseal-keeper")
	c.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("greatseal-keeper: %v: %s (it needs a C compiler: apt-get install gcc)", err, out)
	}
	o := tiny(PKCS11, SQLite, string(sigalg.P256))
	o.KeeperBinary, o.Temp = bin, t.TempDir()
	rep, err := Keeper(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Rows) != 2 {
		t.Fatalf("%d rows", len(rep.Rows))
	}
	for _, r := range rep.Rows {
		positive(t, document(t, r), "raw_per_s", "governed_per_s", "ratio", "p50_ms", "p99_ms", "sessions")
	}
	if left, _ := os.ReadDir(o.Temp); len(left) > 0 {
		t.Errorf("%s was left behind", left[0].Name())
	}
}
