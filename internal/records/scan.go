package records

import (
	"context"
	"encoding/csv"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Verdict is what a scan says of one record under one configuration.
type Verdict string

// The verdicts.
const (
	Valid   Verdict = "valid"
	Invalid Verdict = "invalid"
	Missing Verdict = "missing" // no signature of the configuration's purpose
)

// Seen is one line of a scan.
type Seen struct {
	Platform      string           `json:"platform"`
	Configuration string           `json:"configuration"`
	Ref           record.Ref       `json:"ref"`
	Verdict       Verdict          `json:"verdict"`
	Reason        *rejection.Error `json:"reason,omitzero"`
}

// ScanCount is what a scan says of one configuration on one platform.
type ScanCount struct {
	Configuration string `json:"configuration"`
	Platform      string `json:"platform"`
	Table         string `json:"table"`
	Valid         int64  `json:"valid"`
	Invalid       int64  `json:"invalid"`
	Missing       int64  `json:"missing"`
}

// ScanReport is what a scan found. A record that two configurations ask for counts
// under both.
type ScanReport struct {
	Started  time.Time   `json:"started"`
	Finished time.Time   `json:"finished"`
	Counts   []ScanCount `json:"counts"`
	// Absent are configurations whose table no platform here has: they protect nothing
	// on this instance.
	Absent []string `json:"absent,omitzero"`
}

// Clean reports whether every eligible record is valid.
func (r *ScanReport) Clean() bool {
	return !slices.ContainsFunc(r.Counts, func(c ScanCount) bool { return c.Invalid+c.Missing > 0 })
}

// ScanOptions narrow a scan. A narrowed one says nothing of enabling enforcement.
type ScanOptions struct {
	Configurations []string // none: all
	Platforms      []string // none: all
}

// Scan judges every record that a configuration in force asks for. It changes
// nothing: no mark is raised, nothing is reported. seen may be nil.
func (g *Guard) Scan(ctx context.Context, o ScanOptions, seen func(Seen) error) (*ScanReport, error) {
	v, t, err := g.judge()
	if err != nil {
		return nil, err
	}
	rep := &ScanReport{Started: g.c.Now(), Counts: []ScanCount{}}
	all := with(t.Configurations)
	for _, id := range o.Configurations {
		if _, ok := all[id]; !ok {
			return nil, specError("the circle of trust has no configuration %.80q", id)
		}
	}
	tables := map[string][]platform.Table{}
	for _, n := range g.platforms() {
		if len(o.Platforms) > 0 && !slices.Contains(o.Platforms, n) {
			continue
		}
		if tables[n], err = g.c.Platforms[n].Tables(ctx); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if len(o.Configurations) > 0 && !slices.Contains(o.Configurations, id) {
			continue
		}
		c := all[id]
		absent := true
		for _, n := range slices.Sorted(maps.Keys(tables)) {
			if !slices.ContainsFunc(tables[n], func(t platform.Table) bool { return t.Name == c.Table }) {
				continue
			}
			absent = false
			count, err := g.scanOne(ctx, v, n, id, &c, seen)
			if err != nil {
				return nil, err
			}
			rep.Counts = append(rep.Counts, *count)
		}
		if _, own := t.Configurations[id]; absent && own {
			rep.Absent = append(rep.Absent, id)
		}
	}
	rep.Finished = g.c.Now()
	return rep, nil
}

func (g *Guard) scanOne(ctx context.Context, v *record.Verifier, on, id string, c *record.Configuration, seen func(Seen) error) (*ScanCount, error) {
	cond, err := compile(c.Condition)
	if err != nil {
		return nil, fmt.Errorf("records: configuration %s: %w", id, err)
	}
	out := &ScanCount{Configuration: id, Platform: on, Table: c.Table}
	q := platform.Query{Table: c.Table, Fields: c.Fields, Where: cond, Attachments: c.Attachments, Signatures: true}
	return out, g.c.Platforms[on].Scan(ctx, q, func(r *platform.Row) error {
		s := Seen{Platform: on, Configuration: id, Ref: r.Record.Ref, Verdict: Valid}
		if _, err := v.VerifyUnder(ctx, &r.Record, id, r.Signatures, marks{g.c.Store, true}); err != nil {
			if s.Reason = rejection.Of(err); s.Reason == nil {
				return err
			}
			s.Verdict = Invalid
			if s.Reason.Code == rejection.SigMissing {
				s.Verdict = Missing
			}
		}
		switch s.Verdict {
		case Valid:
			out.Valid++
		case Missing:
			out.Missing++
		default:
			out.Invalid++
		}
		if seen == nil {
			return nil
		}
		return seen(s)
	})
}

// ErrNotClean means that enforcement would refuse records that are there now.
var ErrNotClean = errors.New("records: the scan is not clean")

// MayEnforce scans everything, and refuses unless every record would pass. Whoever
// makes the statement that switches enforcement on asks it first.
func (g *Guard) MayEnforce(ctx context.Context) (*ScanReport, error) {
	rep, err := g.Scan(ctx, ScanOptions{}, nil)
	if err != nil {
		return nil, err
	}
	for _, c := range rep.Counts {
		if c.Invalid+c.Missing > 0 {
			return rep, fmt.Errorf("%w: %s on %s: %d invalid, %d without signature", ErrNotClean, c.Configuration, c.Platform, c.Invalid, c.Missing)
		}
	}
	return rep, nil
}

// csvHead is the first line of a scan's CSV.
var csvHead = []string{"platform", "table", "key", "configuration", "verdict", "code", "subject"}

// CSV writes lines of a scan; Flush after the last.
type CSV struct{ w *csv.Writer }

// NewCSV writes the head.
func NewCSV(w io.Writer) (*CSV, error) {
	c := &CSV{csv.NewWriter(w)}
	return c, c.w.Write(csvHead)
}

// Write adds a line.
func (c *CSV) Write(s Seen) error {
	key, err := json.Marshal(s.Ref.Key)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	line := []string{s.Platform, s.Ref.Table, string(key), s.Configuration, string(s.Verdict), "", ""}
	if s.Reason != nil {
		line[5], line[6] = string(s.Reason.Code), s.Reason.Subject
	}
	for i := range line {
		line[i] = tame(line[i])
	}
	return c.w.Write(line)
}

// Flush writes what is buffered.
func (c *CSV) Flush() error {
	c.w.Flush()
	return c.w.Error()
}

// tame keeps spreadsheets from taking a value for a formula; wild is its inverse.
func tame(s string) string {
	if s != "" && strings.ContainsRune("=+-@'\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func wild(s string) string { return strings.TrimPrefix(s, "'") }

// Selection is what a CSV selects for SignSpecificRecords.
type Selection struct {
	Refs           []record.Ref
	Configurations []string // sorted
	Platforms      []string // sorted
}

// ReadSelection reads the CSV of a scan, strictly: the records whose verdict is among
// verdicts; none: those that are not valid. Lines may have been taken out of it.
func ReadSelection(r io.Reader, verdicts ...Verdict) (*Selection, error) {
	if len(verdicts) == 0 {
		verdicts = []Verdict{Invalid, Missing}
	}
	in := csv.NewReader(r)
	in.FieldsPerRecord = len(csvHead)
	head, err := in.Read()
	if err != nil || !slices.Equal(head, csvHead) {
		return nil, specError("the selection is no CSV of a scan: its first line is not %s", strings.Join(csvHead, ","))
	}
	out := &Selection{}
	seen, configurations, platforms := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for n := 2; ; n++ {
		line, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, specError("selection: %v", err)
		}
		for i := range line {
			line[i] = wild(line[i])
		}
		v := Verdict(line[4])
		if v != Valid && v != Invalid && v != Missing {
			return nil, specError("selection, line %d: verdict %.20q", n, line[4])
		}
		if !slices.Contains(verdicts, v) {
			continue
		}
		ref := record.Ref{Table: line[1]}
		if err := json.Unmarshal([]byte(line[2]), &ref.Key); err != nil {
			return nil, specError("selection, line %d: the key is no list of texts", n)
		}
		if err := ref.Check(); err != nil {
			return nil, specError("selection, line %d: %v", n, err)
		}
		configurations[line[3]], platforms[line[0]] = true, true
		if id := line[0] + "\x00" + ref.ID(); !seen[id] {
			if len(out.Refs) == MaxRefs {
				return nil, specError("more than %d records: sign by a configuration, or in several jobs", MaxRefs)
			}
			seen[id] = true
			out.Refs = append(out.Refs, ref)
		}
	}
	out.Configurations, out.Platforms = slices.Sorted(maps.Keys(configurations)), slices.Sorted(maps.Keys(platforms))
	return out, nil
}
