package keeper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// The test binary is its own child: a keeper that does one thing and kills itself
// at a step.
func TestMain(m *testing.M) {
	if dir := os.Getenv("KEEPER_CHILD"); dir != "" {
		childMain(dir)
	}
	os.Exit(m.Run())
}

func childMain(dir string) {
	step, count := os.Getenv("KEEPER_STEP"), 0
	nth, err := strconv.Atoi(os.Getenv("KEEPER_NTH"))
	if err != nil {
		panic(err)
	}
	now, err := time.Parse(time.RFC3339, os.Getenv("KEEPER_NOW"))
	if err != nil {
		panic(err)
	}
	c, _ := configIn(dir, func() time.Time { return now })
	if err := c.Pin.UnmarshalText([]byte(os.Getenv("KEEPER_PIN"))); err != nil {
		panic(err)
	}
	c.Hook = func(s string) {
		if s == step {
			if count++; count == nth {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	ctx := context.Background()
	what := os.Getenv("KEEPER_DO")
	if what == "init" {
		if err := Init(ctx, c); err != nil {
			panic(err)
		}
		fmt.Println("did")
		os.Exit(0)
	}
	k, err := Open(ctx, c)
	if err != nil {
		panic(err)
	}
	input, err := os.ReadFile(filepath.Join(dir, "input"))
	if err != nil {
		panic(err)
	}
	switch what {
	case "execute":
		var o Order
		if err := format.Decode(input, &o); err != nil {
			panic(err)
		}
		out, err := k.Execute(ctx, &o)
		if err != nil {
			panic(err)
		}
		fmt.Println("got", base64.StdEncoding.EncodeToString(out.Receipt))
	case "checkpoint":
		var e Extension
		if err := format.Decode(input, &e); err != nil {
			panic(err)
		}
		note, err := k.Checkpoint(ctx, &e)
		if err != nil {
			panic(err)
		}
		fmt.Println("got", base64.StdEncoding.EncodeToString(note))
	case "timestamp":
		der, err := k.Timestamp(ctx, input)
		if err != nil {
			panic(err)
		}
		fmt.Println("got", base64.StdEncoding.EncodeToString(der))
	case "found":
		if err := k.Found(ctx, input); err != nil {
			panic(err)
		}
		fmt.Println("did")
	}
	k.Close()
	os.Exit(0)
}

// child runs one thing in a process of its own, which kills itself at the nth step
// of that name. It returns what came out and whether it was killed.
func (w *world) child(what string, input any, step string, nth int) (got []byte, killed bool) {
	w.Helper()
	b, raw := input.([]byte)
	if !raw {
		var err error
		if b, err = format.Encode(input); err != nil {
			w.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "input"), b, 0o600); err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "KEEPER_CHILD="+w.dir, "KEEPER_STEP="+step, "KEEPER_NTH="+strconv.Itoa(nth), "KEEPER_DO="+what,
		"KEEPER_NOW="+w.clock().Format(time.RFC3339), "KEEPER_PIN="+w.config.Pin.String())
	out, err := cmd.CombinedOutput()
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	killed = ws.Signaled() && ws.Signal() == syscall.SIGKILL
	if err != nil && !killed {
		w.Fatalf("%s, %s: %v\n%s", what, step, err, out)
	}
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		if v, ok := strings.CutPrefix(s.Text(), "got "); ok {
			if got, err = base64.StdEncoding.DecodeString(v); err != nil {
				w.Fatal(err)
			}
		}
	}
	return got, killed
}

// restart opens the keeper anew after a child, with nothing in memory.
func (w *world) restart() {
	w.Helper()
	c, f := configIn(w.dir, w.clock)
	c.Pin = w.config.Pin
	w.config, w.provider = c, f
	w.open()
}

// steps are those that an execution passes, with the commits of its two records.
func steps(more ...string) map[string]int {
	m := map[string]int{"judged": 1, "intent": 1, "intended": 1, "settle": 1, "settled": 1}
	for _, s := range more {
		m[s] = 1
	}
	return m
}

// crash kills a keeper at each step of an order, opens it again, and lets the order
// be asked again: one receipt, and check holds.
func crash(t *testing.T, more []string, prepare func(w *world) *Order, check func(w *world, r *statement.Receipt, out *Outcome)) {
	type stop struct {
		step string
		nth  int
	}
	var stops []stop
	for s := range steps(more...) {
		stops = append(stops, stop{s, 1})
	}
	for nth := 1; nth <= 2; nth++ {
		for _, s := range []string{"ledger.write", "ledger.sync", "ledger.commit"} {
			stops = append(stops, stop{s, nth})
		}
	}
	for _, s := range stops {
		t.Run(fmt.Sprintf("%s-%d", s.step, s.nth), func(t *testing.T) {
			w := newWorld(t)
			o := prepare(w)
			before := w.k.tail.number
			w.k.Close()
			if _, killed := w.child("execute", o, s.step, s.nth); !killed {
				t.Fatalf("the keeper was not killed: there is no step %s-%d", s.step, s.nth)
			}
			w.restart()
			w.sound()
			after := w.k.tail.number
			if after > before+1 {
				t.Fatalf("receipts %d to %d", before, after)
			}
			w.pass(time.Second)
			r, out := w.executed(o)
			if r.Number != before+1 {
				t.Errorf("receipt %d: want %d", r.Number, before+1)
			}
			check(w, r, out)
			if _, again := w.executed(o); !bytes.Equal(again.Receipt, out.Receipt) {
				t.Error("a second receipt")
			}
			w.reopen()
			check(w, r, out)
			w.sound()
		})
	}
}

func TestCrashSign(t *testing.T) {
	items := plainItems(t, 5)
	crash(t, []string{"signed"}, func(w *world) *Order {
		w.generate("release")
		return w.signOrder("release", items, "bob", "carol")
	}, func(w *world, r *statement.Receipt, out *Outcome) { w.checkSignatures(r, out, items) })
}

func TestCrashGenerate(t *testing.T) {
	items := plainItems(t, 1)
	crash(t, []string{"generated"}, func(w *world) *Order {
		return w.order(w.request("alice", generateCommand("nightly", 30)), "bob")
	}, func(w *world, r *statement.Receipt, _ *Outcome) {
		if r.Key.State != Active {
			w.Errorf("state %s", r.Key.State)
		}
		w.executed(w.signOrder("nightly", items))
	})
}

func TestCrashSuspend(t *testing.T) {
	items := plainItems(t, 1)
	crash(t, nil, func(w *world) *Order {
		w.generate("nightly")
		return w.order(w.request("alice", keyCommand(statement.KeySuspend, "nightly")), "bob")
	}, func(w *world, r *statement.Receipt, _ *Outcome) {
		w.refusedWith("key-suspended", w.signOrder("nightly", items))
	})
}

func TestCrashDestroy(t *testing.T) {
	items := plainItems(t, 1)
	crash(t, []string{"destroyed"}, func(w *world) *Order {
		w.generate("nightly")
		return w.order(w.request("alice", keyCommand(statement.KeyDestroy, "nightly")), "bob", "carol")
	}, func(w *world, r *statement.Receipt, _ *Outcome) {
		w.refusedWith("key-destroyed", w.signOrder("nightly", items))
		if _, err := os.Stat(w.provider.path("test:nightly")); !errors.Is(err, os.ErrNotExist) {
			w.Error("the key is still there")
		}
	})
}

func TestCrashCharterReplace(t *testing.T) {
	crash(t, nil, func(w *world) *Order {
		w.pass(time.Minute)
		return w.replacement(func(c *charter.Charter) { c.People["dave"] = person("dave's new key") }, "bob", "carol")
	}, func(w *world, r *statement.Receipt, _ *Outcome) {
		if w.ref() != *r.Next || w.ref().Version != 2 {
			w.Errorf("in force: %+v", w.ref())
		}
	})
}

// What a refusal leaves is sound too, and the request can still be executed.
func TestCrashRefusal(t *testing.T) {
	for _, step := range []string{"settle", "ledger.write", "ledger.sync", "ledger.commit", "settled"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.generate("release")
			o := w.signOrder("release", plainItems(t, 1), "bob")
			w.k.Close()
			if _, killed := w.child("execute", o, step, 1); !killed {
				t.Fatal("the keeper was not killed")
			}
			w.restart()
			w.refusedWith("quorum-pending", o)
			w.sound()
			o.Evidence.Endorsements = append(o.Evidence.Endorsements, w.say(statement.Endorse, "carol", o.Evidence.Request))
			w.executed(o)
			w.sound()
		})
	}
}

// An intent whose quorum has lapsed meanwhile is not completed.
func TestCrashThenLapsed(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	o := w.signOrder("release", plainItems(t, 1), "bob", "carol")
	w.k.Close()
	if _, killed := w.child("execute", o, "signed", 1); !killed {
		t.Fatal("the keeper was not killed")
	}
	w.restart()
	if len(w.k.intents) != 1 {
		t.Errorf("%d open intents", len(w.k.intents))
	}
	w.pass(25 * time.Hour)
	w.unused(func() { w.refusedWith("expired", o) })
	if len(w.k.intents) != 0 {
		t.Errorf("%d open intents", len(w.k.intents))
	}
	w.reopen()
	if len(w.k.intents) != 0 {
		t.Errorf("%d open intents", len(w.k.intents))
	}
	w.sound()
}

// No checkpoint is ever out that the ledger does not have.
func TestCrashCheckpoint(t *testing.T) {
	for _, step := range []string{"checkpoint", "checkpoint.signed", "ledger.write", "ledger.sync", "ledger.commit", "checkpoint.kept"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.k.Checkpoint(context.Background(), extend(0, 5)); err != nil {
				t.Fatal(err)
			}
			w.k.Close()
			if _, killed := w.child("checkpoint", *extend(5, 9), step, 1); !killed {
				t.Fatal("the keeper was not killed")
			}
			w.restart()
			switch w.k.head.Size {
			case 5, 9:
			default:
				t.Fatalf("head of %d entries", w.k.head.Size)
			}
			e := extend(5, 9)
			if w.k.head.Size == 9 {
				e.Consistency = nil
			}
			if _, err := w.k.Checkpoint(context.Background(), e); err != nil {
				t.Fatal(err)
			}
			if _, err := w.k.Checkpoint(context.Background(), extend(5, 8)); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("back to 8: %v", err)
			}
		})
	}
}

// A serial number is reserved before it is used.
func TestCrashSerials(t *testing.T) {
	for _, step := range []string{"serials", "ledger.write", "ledger.sync", "ledger.commit"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.generate("tsa")
			w.k.Close()
			if _, killed := w.child("timestamp", stampRequest(t, "x"), step, 1); !killed {
				t.Fatal("the keeper was not killed")
			}
			w.restart()
			next := w.k.stamps.next
			if _, err := w.k.Timestamp(context.Background(), stampRequest(t, "x")); err != nil {
				t.Fatal(err)
			}
			if w.k.stamps.next <= next {
				t.Error("a number is used twice")
			}
		})
	}
}

func TestCrashFound(t *testing.T) {
	for _, step := range []string{"found", "ledger.write", "ledger.sync", "ledger.commit"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.k.Close()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, k := range []string{"keeper-receipts", "keeper-log"} { // the keys that the charter names
				b, err := os.ReadFile(filepath.Join(w.dir, "keys", k))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, "keys", k+".later"), b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			w.dir = dir
			if _, killed := w.child("init", []byte{}, "init.ledger", 1); !killed {
				t.Fatal("the keeper was not killed")
			}
			for _, k := range []string{"keeper-receipts", "keeper-log"} {
				if err := os.Rename(filepath.Join(dir, "keys", k+".later"), filepath.Join(dir, "keys", k)); err != nil {
					t.Fatal(err)
				}
			}
			w.child("init", []byte{}, "", 1)
			if _, killed := w.child("found", w.founding, step, 1); !killed {
				t.Fatal("the keeper was not killed")
			}
			w.restart()
			if err := w.k.Found(context.Background(), w.founding); err != nil {
				t.Fatal(err)
			}
			if w.ref().ID != w.pin {
				t.Error("another charter")
			}
			w.generate("nightly")
			w.sound()
		})
	}
}

// An init that was cut short anywhere is completed by another one.
func TestCrashInit(t *testing.T) {
	for _, step := range []string{"init.ledger", "init.receipts", "init.log"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
				t.Fatal(err)
			}
			w := &world{TB: t, dir: dir, now: start}
			if _, killed := w.child("init", []byte{}, step, 1); !killed {
				t.Fatal("the keeper was not killed")
			}
			c, _ := configIn(dir, w.clock)
			if _, err := Open(context.Background(), c); err == nil {
				t.Error("opened half a keeper")
			}
			if err := Init(context.Background(), c); err != nil {
				t.Fatal(err)
			}
			w.restart()
			checkSound(t, w.k)
			w.k.Close()
		})
	}
}
