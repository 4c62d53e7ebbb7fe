//go:build linux

package crashes

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	envRequest = "CRASH_REQUEST"
	envFile    = "CRASH_FILE"
	envInPlace = "CRASH_IN_PLACE"
)

// beClient collects a result and attaches it to its file, as a requester's tool
// does after it was away.
func beClient() error {
	ctx := context.Background()
	id, err := statement.ParseID(os.Getenv(envRequest))
	if err != nil {
		return err
	}
	o := office{&world{ctx: ctx, dir: os.Getenv(envDir)}, "a"}
	res := new(server.Result)
	if err := o.call(ctx, "Collect", id, res); err != nil {
		return err
	}
	path := os.Getenv(envFile)
	inPlace := os.Getenv(envInPlace) != ""
	if inPlace {
		if err := file.Recover(path); err != nil {
			return err
		}
	}
	art, err := file.Open(path)
	if err != nil {
		return err
	}
	f, _ := all.ByName("pe")
	plan, err := f.Plan(ctx, art, nil)
	if err != nil {
		return err
	}
	id2 := format.Identity{Scheme: sigalg.Scheme(res.Scheme)}
	for _, der := range res.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		id2.Chain = append(id2.Chain, c)
	}
	id2.Public = id2.Chain[0].PublicKey
	patch, err := f.Attach(ctx, art, plan, id2, res.Time, []format.Signature{{Value: res.Signatures[0][0], Timestamp: res.Timestamps[0]}})
	if err != nil {
		return err
	}
	art.Close()
	if err := file.Write(path, path, patch, file.Options{InPlace: inPlace}); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// A client is killed while it collects, attaches and writes: the file is what it
// was, or whole and signed, and another client finishes it.
func TestCrashClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	program := bigProgram()
	f, _ := all.ByName("pe")
	plan, err := f.Plan(w.ctx, format.BytesArtifact("hello.exe", program), nil)
	if err != nil {
		t.Fatal(err)
	}
	item, err := author.Item(plan, "hello.exe", nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := author.SignCommand(w.people.Charter, "release", "", [][]byte{item})
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.people.Do(w.ctx, office{w, "a"}, w.people.Ref(), "alice", cmd, [][]byte{item}, "bob", "carol", "scanner")
	if err != nil || r.State != store.Executed {
		t.Fatal(r, err)
	}
	w.requests = append(w.requests, request{r.ID, [][]byte{item}, "hello.exe"})

	// How long it takes when it is left alone.
	path := filepath.Join(w.dir, "hello.exe")
	run := func(inPlace bool) *process {
		t.Helper()
		env := []string{envRequest + "=" + r.ID.String(), envFile + "=" + path}
		if inPlace {
			env = append(env, envInPlace+"=1")
		}
		p, err := spawn(w.dir, w.environment("client", env...)...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	p := run(false)
	<-p.done
	took := time.Since(begun)
	if signed, err := w.state(path, program); err != nil || !signed {
		t.Fatalf("left alone: signed %v, %v: %s", signed, err, p.said())
	}
	outcomes := map[string]int{}
	for i := range 60 {
		inPlace := i%2 == 1
		if err := os.WriteFile(path, program, 0o755); err != nil {
			t.Fatal(err)
		}
		p := run(inPlace)
		// Most of the time goes into starting: the end is where it writes.
		time.Sleep(took/2 + time.Duration(rand.Int64N(int64(took))))
		p.kill()
		if inPlace {
			if err := file.Recover(path); err != nil {
				t.Fatalf("recover: %v", err)
			}
		}
		signed, err := w.state(path, program)
		if err != nil {
			t.Fatalf("killed after a while, in place %v: %v", inPlace, err)
		}
		outcomes[fmt.Sprintf("in place %v, signed %v", inPlace, signed)]++
		if !signed {
			p := run(inPlace)
			<-p.done
			if signed, err = w.state(path, program); err != nil || !signed {
				t.Fatalf("finished by another: signed %v, %v: %s", signed, err, p.said())
			}
		}
	}
	t.Log(outcomes)
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// bigProgram is a program with a few megabytes behind its section, so that writing
// it takes a while.
func bigProgram() []byte {
	return append(trial.Program(), make([]byte, 4<<20)...)
}

// state says whether the file at path is the signed program; anything but that and
// the program as it was is an error.
func (w *world) state(path string, program []byte) (signed bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if bytes.Equal(b, program) {
		return false, nil
	}
	ca, err := os.ReadFile(w.people.RootFile())
	if err != nil {
		return false, err
	}
	block, _ := pem.Decode(ca)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	f, _ := all.ByName("pe")
	rep, err := f.Verify(w.ctx, format.BytesArtifact("x", b), format.Trust{Roots: pool, TimestampRoots: pool, Now: time.Now()})
	if err != nil {
		return false, fmt.Errorf("neither as it was nor signed: %d bytes: %w", len(b), err)
	}
	if len(rep.Signatures) != 1 {
		return false, errors.New("signed, but not once")
	}
	return true, nil
}
