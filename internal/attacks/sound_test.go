package attacks

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// published waits until the log's head is signed and holds all entries.
func (w *world) published() *store.Head {
	w.Helper()
	// Another replica that starts fetches at once what is missing.
	_, err := server.New(w.ctx, w.config())
	check(w, err)
	for ; ; time.Sleep(20 * time.Millisecond) {
		var waiting, kept int
		check(w, w.db.QueryRow("SELECT count(*) FROM log_waiting").Scan(&waiting))
		check(w, w.db.QueryRow("SELECT count(*) FROM receipts").Scan(&kept))
		waiting += int(w.status().Receipts) - kept
		h, err := w.store.Head(w.ctx)
		check(w, err)
		if waiting == 0 && h.Signed == h.Tree.Size && h.Signed > 0 {
			return h
		}
		if w.ctx.Err() != nil {
			w.Fatalf("the log lags: %d of %d signed, %d wait", h.Signed, h.Tree.Size, waiting)
		}
	}
}

func (w *world) judgeLog(o verify.LogOptions) *verify.LogReport {
	w.Helper()
	r, err := verify.Log(w.ctx, servertest.LogSource(w.store, w.people.Found), w.people.Root, o)
	check(w, err)
	return r
}

// logStands reports whether the log can be read and is good.
func (w *world) logStands(o verify.LogOptions) bool {
	r, err := verify.Log(w.ctx, servertest.LogSource(w.store, w.people.Found), w.people.Root, o)
	return err == nil && r.OK()
}

// receipts reads every receipt from the keeper, and holds their chain.
func (w *world) receipts() []*statement.Receipt {
	w.Helper()
	st := w.status()
	var out []*statement.Receipt
	var last statement.ID
	for n := uint64(1); n <= st.Receipts; {
		list, err := w.keeper.Receipts(w.ctx, n, 500)
		check(w, err)
		for _, o := range list {
			rc, id, err := receipt.Verify(st.ReceiptKey, o.Receipt)
			check(w, err)
			if rc.Number != n || rc.Previous != last {
				w.Fatalf("receipt %d does not follow receipt %d", rc.Number, n-1)
			}
			last, n = id, n+1
			out = append(out, rc)
		}
	}
	return out
}

// signedBy counts the executed requests of a policy.
func (w *world) signedBy(policy string) int {
	w.Helper()
	n := 0
	for _, rc := range w.receipts() {
		if rc.Signed != nil && rc.Signed.Policy == policy {
			n++
		}
	}
	return n
}

// sound holds the invariants of the package comment.
func (w *world) sound() {
	w.Helper()
	made := map[string]int{}
	for _, rc := range w.receipts() {
		if rc.Signed != nil {
			for _, k := range rc.Signed.Keys() {
				made[k.Key] += rc.Signed.Count // one round each, for the formats used here
			}
		}
		if rc.Key != nil && len(rc.Key.Request) > 0 {
			made[rc.Key.Key]++ // the certificate request
		}
	}
	for _, k := range []string{"release", "other"} {
		if used := w.soft.used(key.URI("soft:" + k)); used != made[k] {
			w.Errorf("key %s was used %d times: receipts account for %d", k, used, made[k])
		}
	}
	if w.broken || w.o.idle {
		return
	}
	w.published()
	// What the keeper was asked without the server's knowledge is found too, and
	// nothing else.
	beside := map[string]bool{}
	for _, p := range w.judgeLog(verify.LogOptions{}).Problems {
		if p.Code != verify.ProblemRequestUnknown || !w.beside[p.Request.String()] {
			w.Errorf("log: %v", p)
		}
		beside[p.Request.String()] = true
	}
	if len(beside) != len(w.beside) {
		w.Errorf("log: %d requests that are not in it have receipts: %d are found", len(w.beside), len(beside))
	}
}

// trust is a verifier's: the trial's authority, and nothing else.
func (w *world) trust() format.Trust {
	w.Helper()
	b, err := os.ReadFile(w.people.RootFile())
	check(w, err)
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	check(w, err)
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return format.Trust{Roots: pool, TimestampRoots: pool, Now: w.now()}
}

// finish does what a requester does with a result: attach and verify.
func finish(w *world, res *server.Result, ev *verify.Evidence, index int, item []byte, content string) (*verify.Verified, error) {
	_, plan, err := format.DecodeItem(item)
	if err != nil {
		return nil, err
	}
	ident := format.Identity{Scheme: sigalg.Scheme(res.Scheme)}
	for _, der := range res.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		ident.Chain = append(ident.Chain, c)
	}
	if len(ident.Chain) == 0 || index >= len(res.Signatures) || len(res.Signatures[index]) == 0 {
		return nil, errors.New("no certificate, or no signature")
	}
	ident.Public = ident.Chain[0].PublicKey
	f, ok := all.ByName(plan.Format)
	if !ok {
		return nil, fmt.Errorf("format %s", plan.Format)
	}
	art := format.BytesArtifact("x", []byte(content))
	patch, err := f.Attach(w.ctx, art, plan, ident, res.Time, []format.Signature{{Value: res.Signatures[index][0], Timestamp: res.Timestamps[index]}})
	if err != nil {
		return nil, err
	}
	b, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	if ev, err = verify.DecodeEvidence(b); err != nil {
		return nil, err
	}
	return verify.File(w.ctx, art, patch.Sidecar.Data, ev, w.people.Root, w.trust(), all.Formats(), verify.Options{})
}
