//go:build linux

package crashes

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
)

// chains runs do for every step, some steps after one another in each of a few
// deployments that run side by side: most of their time they wait.
func chains(t *testing.T, steps []string, dsn func() string, do func(w *world, step string) error) {
	t.Helper()
	const width = 4
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range width {
		var mine []string
		for j := i; j < len(steps); j += width {
			mine = append(mine, steps[j])
		}
		if len(mine) == 0 {
			continue
		}
		w := newWorld(t, dsn())
		wg.Go(func() {
			for _, s := range mine {
				if err := do(w, s); err != nil {
					t.Errorf("%s: %v", s, err)
					return
				}
			}
			if err := w.sound(); err != nil {
				t.Errorf("after %v: %v", mine, err)
			}
		})
	}
}

// dying does round after round of work until p has died at its step. One round
// may do: how often a step is passed in it depends on how much the machine gets
// done at once, as one signed head covers all that is there.
func (w *world) dying(p *process, work func(round int) error) error {
	return w.during(func() error {
		for round, end := 1, time.Now().Add(patience); ; round++ {
			if err := work(round); err != nil {
				return err
			}
			select {
			case <-p.done:
				return nil
			case <-time.After(3 * time.Second):
			}
			if time.Now().After(end) {
				return fmt.Errorf("it never came to its step in %d rounds", round)
			}
		}
	})
}

// The server is killed at each of its steps, with requests under way.
func TestCrashServer(t *testing.T) {
	t.Parallel()
	steps := server.Steps()
	do := func(w *world, step string) error {
		// The second time, in the middle of the work. The sequencer passes its steps
		// without a request as well, and the head is signed once for much work.
		nth := "2"
		switch step {
		case "sequence", "sequenced":
			nth = "4"
		case "checkpoint", "checkpointed", "published":
			nth = "1"
		}
		late := step == "expire" || step == "expired"
		w.mu.Lock()
		p := w.servers["a"]
		w.mu.Unlock()
		p.kill()
		if err := w.startServer("a", envStep+"="+step, envNth+"="+nth); err != nil {
			return err
		}
		w.mu.Lock()
		p = w.servers["a"]
		w.mu.Unlock()
		return w.dying(p, func(round int) error {
			if late {
				if err := w.lapse(fmt.Sprintf("%s, round %d", step, round), 4); err != nil {
					return err
				}
			}
			return w.load(fmt.Sprintf("%s, round %d", step, round), 4)
		})
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		chains(t, steps, func() string { return "" }, do)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		pg := pgtest.Start(t)
		chains(t, steps, pg.Database, do)
	})
}

// The keeper is killed at each step of an execution, of its ledger's commits and
// of a checkpoint, with requests under way; the server goes on.
func TestCrashKeeper(t *testing.T) {
	t.Parallel()
	steps := []string{"judged", "intent", "intended", "signed", "settle", "settled", "ledger.write", "ledger.sync", "ledger.commit",
		"checkpoint", "checkpoint.signed", "checkpoint.kept"}
	chains(t, steps, func() string { return "" }, func(w *world, step string) error {
		w.mu.Lock()
		p := w.keeper
		w.mu.Unlock()
		p.kill()
		if err := w.startKeeper(envStep+"="+step, envNth+"=2"); err != nil {
			return err
		}
		w.mu.Lock()
		p = w.keeper
		w.mu.Unlock()
		return w.dying(p, func(round int) error { return w.load(fmt.Sprintf("%s, round %d", step, round), 4) })
	})
}

// Two replicas and their keeper are killed at any moment, again and again.
func TestCrashStorm(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	w := newWorld(t, pg.Database())
	if err := w.startServer("b"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	kills := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(400+rand.IntN(800)) * time.Millisecond):
			}
			w.mu.Lock()
			p := []*process{w.keeper, w.servers["a"], w.servers["b"]}[rand.IntN(3)]
			w.mu.Unlock()
			p.cmd.Process.Kill()
			kills++
		}
	})
	err := w.during(func() error {
		// Some of the work meets the storm, all of it outlives it.
		done := make(chan error, 1)
		go func() { done <- w.load("storm", 24, "a", "b") }()
		time.Sleep(10 * time.Second)
		close(stop)
		wg.Wait()
		return <-done
	})
	if err != nil {
		t.Fatal(err)
	}
	if kills < 5 {
		t.Errorf("%d kills are no storm", kills)
	}
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// PostgreSQL crashes and comes back, with requests under way; the server stays.
func TestCrashPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	w := newWorld(t, pg.Database())
	done := make(chan error, 1)
	go func() {
		for i := range 3 {
			if err := w.load(fmt.Sprintf("round %d", i), 6); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 3 {
		time.Sleep(150 * time.Millisecond)
		pg.Down()
		time.Sleep(300 * time.Millisecond)
		pg.Up()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	p := w.servers["a"]
	w.mu.Unlock()
	if !p.running() {
		t.Errorf("the server ended: %s", p.said())
	}
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// The ledger's disk is full: nothing is executed, nothing is lost, and it goes on
// when there is room again, without anybody's help.
func TestCrashDiskFull(t *testing.T) {
	t.Parallel()
	for _, room := range []string{"0", "100", "700", "3000"} {
		w := newWorld(t, "")
		w.keeper.kill()
		if err := w.startKeeper(envRoom + "=" + room); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- w.load("room for "+room, 4) }()
		time.Sleep(1500 * time.Millisecond)
		if !w.keeper.running() {
			t.Errorf("room for %s: the keeper ended: %s", room, w.keeper.said())
		}
		if err := moreRoom(w.keeper.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("room for %s: %v", room, err)
			continue
		}
		if err := w.sound(); err != nil {
			t.Errorf("room for %s: %v", room, err)
		}
		w.killAll()
		os.RemoveAll(w.dir)
	}
}
