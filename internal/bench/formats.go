package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/statement"
)

// FormatRow compares signing one file with what the format's ecosystem does to the
// same file with the same key. Times are processor time of whole processes, in
// seconds, user and system; the median of the runs.
type FormatRow struct {
	Format  string  `json:"format"`
	Bytes   int64   `json:"bytes"`
	Entries int     `json:"entries,omitzero"` // of archives
	CPU     float64 `json:"plan_attach_cpu_s"`
	Hash    float64 `json:"sha256_cpu_s"` // floor: hashing the file; of an archive, inflating and hashing its entries
	Ratio   float64 `json:"ratio"`        // CPU to Hash
	Peak    int64   `json:"peak_rss_bytes"`
	Wall    float64 `json:"wall_s"`
	OneCore float64 `json:"wall_one_core_s"` // the same with one core to run on
	// Plan is the part of Wall in which the file is read, and the same with one core. The
	// rest is for the most part the kernel's copying of the file, on one core.
	Plan        float64 `json:"plan_wall_s"`
	PlanOneCore float64 `json:"plan_wall_one_core_s"`
	// Perfect is Wall to OneCore of work that has no serial part, hashing in memory,
	// measured beside: what the machine's cores gave at the time.
	Perfect  float64 `json:"wall_perfect_ratio"`
	Peer     string  `json:"peer,omitzero"`
	PeerCPU  float64 `json:"peer_cpu_s,omitzero"`
	PeerPeak int64   `json:"peer_peak_rss_bytes,omitzero"`
}

// FormatsReport is the result of Formats.
type FormatsReport struct {
	Rows    []FormatRow `json:"rows"`
	Missing []string    `json:"missing,omitzero"` // peers that are not installed
	Machine Machine     `json:"machine"`
	Date    time.Time   `json:"date"`
}

// FormatsOptions choose what Formats measures.
type FormatsOptions struct {
	Only   []string // formats; none: all that the table knows
	Quick  bool     // the smaller file of each format only, once
	Runs   int      // default 3
	Judges string   // folder with peers that are not on the path; may be empty
	// Child starts this program again so that it calls FormatChild; the arguments
	// are appended.
	Child    []string
	Temp     string
	Progress Progress
}

// Formats measures every format of the table.
func Formats(ctx context.Context, o FormatsOptions) (rep *FormatsReport, err error) {
	if o.Runs <= 0 {
		o.Runs = 3
	}
	if o.Quick {
		o.Runs = 1
	}
	for _, n := range o.Only {
		if !slices.ContainsFunc(contests, func(c contest) bool { return c.format == n }) {
			return nil, fmt.Errorf("bench: %q: want some of %s", n, strings.Join(ContestNames(), ", "))
		}
	}
	if o.Judges != "" { // peers run elsewhere
		if o.Judges, err = filepath.Abs(o.Judges); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	dir, err := os.MkdirTemp(o.Temp, "gsbench")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	id, err := newPeerIdentity(ctx, dir, o.Judges)
	if err != nil {
		return nil, err
	}
	rep = &FormatsReport{Rows: []FormatRow{}, Machine: machine(), Date: statement.Seconds(time.Now())}
	for _, c := range contests {
		if len(o.Only) > 0 && !slices.Contains(o.Only, c.format) {
			continue
		}
		for i, in := range c.inputs {
			if o.Quick && i > 0 {
				break
			}
			if err := o.contest(ctx, dir, id, &c, in, rep); err != nil {
				return nil, fmt.Errorf("bench: %s of %d bytes: %w", c.title(), in.bytes, err)
			}
		}
	}
	return rep, nil
}

// contest measures one file: ours, the floor and every peer, in turn.
func (o *FormatsOptions) contest(ctx context.Context, dir string, id *peerIdentity, c *contest, in input, rep *FormatsReport) error {
	work, err := os.MkdirTemp(dir, "in")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	src := filepath.Join(work, c.name)
	o.Progress.say("%s: making a file of %d MiB, %d entries", c.title(), in.bytes>>20, in.entries)
	if err := c.make(ctx, src, in); err != nil {
		return err
	}
	fi, err := os.Stat(src)
	if err != nil {
		return err
	}
	floor := hashFile
	if in.entries > 0 {
		floor = inflateAndHash
	}
	if _, err := hashFile(src); err != nil { // so that everybody reads from memory
		return err
	}
	row := FormatRow{Format: c.title(), Bytes: fi.Size(), Entries: in.entries}
	type peerRun struct {
		peer peer
		path string
		cpu  []float64
		peak int64
	}
	var peers []*peerRun
	for _, p := range c.peers {
		path := findProgram(o.Judges, p.program)
		if path == "" {
			if !slices.Contains(rep.Missing, p.program) {
				rep.Missing = append(rep.Missing, p.program)
			}
			continue
		}
		peers = append(peers, &peerRun{peer: p, path: path})
	}
	var cpu, hash, wall, one, plan, planOne, perfect []float64
	out := filepath.Join(work, "out-"+c.name)
	for range o.Runs {
		h, err := cpuOf(func() error { _, err := floor(src); return err })
		if err != nil {
			return err
		}
		hash = append(hash, h.Seconds())
		perfect = append(perfect, parallelRatio())
		for _, cores := range []string{"", "1"} {
			args := slices.Concat(o.Child[1:], append([]string{c.format, src, out}, id.files(c.key)...), c.params)
			var report bytes.Buffer
			cmd := exec.CommandContext(ctx, o.Child[0], args...)
			cmd.Stdout = &report
			if cores != "" {
				cmd.Env = append(os.Environ(), "GOMAXPROCS="+cores)
			}
			u, err := measure(cmd, false)
			if err != nil {
				return fmt.Errorf("ours: %w", err)
			}
			if err := removeResults(work, c.name); err != nil {
				return err
			}
			var r childReport
			if err := json.Unmarshal(report.Bytes(), &r); err != nil {
				return fmt.Errorf("ours: %w", err)
			}
			if cores != "" {
				one, planOne = append(one, u.wall.Seconds()), append(planOne, r.Plan)
				continue
			}
			plan = append(plan, r.Plan)
			row.Peak = max(row.Peak, r.Peak)
			cpu, wall = append(cpu, u.cpu.Seconds()), append(wall, u.wall.Seconds())
		}
		for _, p := range peers {
			cmd, err := p.peer.command(ctx, p.path, id, work, src, out)
			if err != nil {
				return fmt.Errorf("%s: %w", p.peer.program, err)
			}
			u, err := measure(cmd, true)
			if err != nil {
				return fmt.Errorf("%s: %w", p.peer.program, err)
			}
			p.cpu, p.peak = append(p.cpu, u.cpu.Seconds()), max(p.peak, u.peak)
			if err := removeResults(work, c.name); err != nil {
				return err
			}
		}
	}
	row.CPU, row.Hash, row.Wall, row.OneCore = round(median(cpu), 3), round(median(hash), 3), round(median(wall), 3), round(median(one), 3)
	row.Plan, row.PlanOneCore, row.Perfect = round(median(plan), 3), round(median(planOne), 3), round(median(perfect), 2)
	if row.Hash > 0 {
		row.Ratio = round(median(cpu)/median(hash), 2)
	}
	if len(peers) == 0 {
		rep.Rows = append(rep.Rows, row)
	}
	for _, p := range peers {
		r := row
		r.Peer, r.PeerCPU, r.PeerPeak = p.peer.program, round(median(p.cpu), 3), p.peak
		rep.Rows = append(rep.Rows, r)
		o.Progress.say("  ours %.2f s, floor %.2f s, %s %.2f s", r.CPU, r.Hash, r.Peer, r.PeerCPU)
	}
	return nil
}

// removeResults leaves the input alone in its folder.
func removeResults(work, name string) error {
	list, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() != name {
			if err := os.RemoveAll(filepath.Join(work, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// options reads NAME=VALUE.
func options(list []string) format.Params {
	p := format.Params{}
	for _, x := range list {
		name, value, _ := strings.Cut(x, "=")
		p[name] = value
	}
	return p
}

// FormatChild signs a file in this process, which should do nothing else: plan,
// assemble, sign with a key in a file, attach, write. It reports its peak memory
// and the time of planning.
func FormatChild(ctx context.Context, name, in, out, keyFile, chainFile string, params []string, w io.Writer) error {
	f, ok := all.ByName(name)
	if !ok {
		return fmt.Errorf("bench: no format %q", name)
	}
	signer, id, err := readIdentity(keyFile, chainFile)
	if err != nil {
		return err
	}
	a, err := file.Open(in)
	if err != nil {
		return err
	}
	defer a.Close()
	begun := time.Now()
	plan, err := f.Plan(ctx, a, options(params))
	if err != nil {
		return err
	}
	took := time.Since(begun)
	b, err := plan.Encode()
	if err != nil {
		return err
	}
	if plan, err = format.DecodePlan(b); err != nil { // as it has travelled
		return err
	}
	at := statement.Seconds(time.Now())
	var done [][]byte
	var sigs []format.Signature
	for range format.MaxRounds + 1 {
		tbs, err := format.Next(f, plan, id, at, done)
		if err != nil {
			return err
		}
		if len(tbs) == 0 {
			break
		}
		for _, t := range tbs {
			sig, err := signer.Sign(rand.Reader, t.Input(), t.Scheme.SignerOpts())
			if err != nil {
				return fmt.Errorf("bench: %w", err)
			}
			done, sigs = append(done, sig), append(sigs, format.Signature{Value: sig})
		}
	}
	patch, err := f.Attach(ctx, a, plan, id, at, sigs)
	if err != nil {
		return err
	}
	if err := file.Write(in, out, patch, file.Options{}); err != nil {
		return err
	}
	peak, err := ownPeak()
	if err != nil {
		return err
	}
	return json.MarshalWrite(w, childReport{Peak: peak, Plan: took.Seconds()})
}
