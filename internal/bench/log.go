package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/verify"
)

// LogReport is what checking a large log costs.
type LogReport struct {
	Entries     int64   `json:"entries"`
	Build       float64 `json:"build_s"` // to make the log, with all of its signatures
	Evidence    float64 `json:"verify_evidence_s"`
	EvidenceLen int     `json:"evidence_bytes"`
	Log         float64 `json:"log_verify_s"`
	PerEntry    float64 `json:"log_verify_us_per_entry"`
	Proof       int     `json:"inclusion_proof_bytes"`
	Machine     Machine `json:"machine"`
}

// LogOptions of Log.
type LogOptions struct {
	Entries  int64 // at least 10
	Progress Progress
}

const (
	perRequest = 5 // entries of a request with three endorsements
	perNightly = 2 // of one that needs nobody
	evidences  = 50
)

// Log makes a log of real entries in memory (requests, three endorsements each,
// receipts, every signature made by its key) and measures what a verifier does
// with it.
func Log(ctx context.Context, o LogOptions) (rep *LogReport, err error) {
	if o.Entries < 2*perRequest {
		return nil, fmt.Errorf("bench: a log of %d entries: want at least %d", o.Entries, 2*perRequest)
	}
	rep = &LogReport{Machine: machine()}
	start := time.Now()
	d, err := newArchive(ctx)
	if err != nil {
		return nil, err
	}
	// As many full requests as leave a number that requests of two entries fill.
	full := o.Entries / perRequest
	if (o.Entries-full*perRequest)%perNightly != 0 {
		full--
	}
	var middle *record
	for i := range full {
		name := fmt.Sprintf("program-%d.bin", i)
		r, err := d.execute("apps", "dave", name, "alice", "bob", "scanner")
		if err != nil {
			return nil, err
		}
		if i == full/2 {
			middle = r
		}
		if i%20_000 == 0 {
			o.Progress.say("made %d of %d entries", i*perRequest, o.Entries)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	for i := range (o.Entries - full*perRequest) / perNightly {
		name := fmt.Sprintf("nightly-%d.bin", i)
		if _, err := d.execute("nightly", "ci", name); err != nil {
			return nil, err
		}
	}
	src, note, err := d.source()
	if err != nil {
		return nil, err
	}
	rep.Build = round(time.Since(start).Seconds(), 2)

	ev, err := d.evidence(middle, src, note)
	if err != nil {
		return nil, err
	}
	doc, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	rep.EvidenceLen = len(doc)
	start = time.Now()
	for range evidences {
		e, err := verify.DecodeEvidence(doc)
		if err != nil {
			return nil, err
		}
		a, err := verify.Judge(e, d.root, all.Formats())
		if err != nil {
			return nil, err
		}
		rep.Entries, rep.Proof = a.LogSize(), len(e.Log.Inclusion.Hashes)*tlog.HashSize
	}
	rep.Evidence = round(time.Since(start).Seconds()/evidences, 6)

	o.Progress.say("verifying the log")
	var told time.Time
	start = time.Now()
	r, err := verify.Log(ctx, src, d.root, verify.LogOptions{Progress: func(done, total int64) {
		if now := time.Now(); now.Sub(told) > 2*time.Second {
			told = now
			o.Progress.say("verified %d of %d entries", done, total)
		}
	}})
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	if !r.OK() || r.Size != o.Entries {
		return nil, fmt.Errorf("bench: log of %d entries: %d problems: %v", r.Size, len(r.Problems), r.Problems[:min(3, len(r.Problems))])
	}
	rep.Log, rep.PerEntry = round(took.Seconds(), 3), round(float64(took.Microseconds())/float64(r.Size), 2)
	return rep, nil
}
