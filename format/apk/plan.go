package apk

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// bodyVersion is the version of body. A version that was released never changes.
const bodyVersion = 1

// body is all that signatures follow from, and what Attach needs.
type body struct {
	Entries   section  `cbor:"1,keyasint"` // without scheme v1's
	Directory section  `cbor:"2,keyasint"` // likewise
	Count     int      `cbor:"3,keyasint"` // records in the directory, scheme v1's included
	Comment   string   `cbor:"4,keyasint"` // of the archive
	MinSDK    int      `cbor:"5,keyasint"` // lowest platform version to sign for
	V1        []v1     `cbor:"6,keyasint"` // one, or none without scheme v1
	Remove    []string `cbor:"7,keyasint"` // entries that are taken out, in the directory's order
	Original  []byte   `cbor:"8,keyasint"` // SHA-256 of the directory and end record as they were
}

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(params["digest"])
	if err != nil {
		return nil, err
	}
	o, err := readOptions(params)
	if err != nil {
		return nil, err
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	if r.signed() && params["existing"] == "refuse" {
		return nil, ErrSigned
	}
	m, err := r.readManifest()
	if err != nil {
		return nil, err
	}
	b := body{MinSDK: m.MinSDK, Comment: r.Comment, V1: []v1{}, Remove: []string{}, Original: r.original()}
	if o.minSDK > 0 {
		b.MinSDK = o.minSDK
	}
	withV1 := o.v1(b.MinSDK)
	if withV1 && b.MinSDK < sdkV1SHA256 {
		return nil, fmt.Errorf("apk: platform versions below %d take no JAR signature but under SHA-1: sign for %d and above (option min-sdk)", sdkV1SHA256, sdkV1SHA256)
	}
	l := r.layout(withV1)
	for _, i := range l.removed {
		b.Remove = append(b.Remove, r.Entries[i].Name)
	}
	b.Count = len(r.Entries) - len(l.removed)

	entries := newChunker(r.End, h)
	defer entries.close()
	raw := l.filter(entries)
	var adds, records int64
	if withV1 {
		b.Count += v1Entries
		var c *zipfile.Contents
		if c, err = r.Read(ctx, []crypto.Hash{h}, func(int) int64 { return 0 }, raw); err != nil {
			return nil, fmt.Errorf("apk: %w", err)
		}
		x, err := r.planV1(c, l.removed)
		if err != nil {
			return nil, err
		}
		b.V1 = append(b.V1, x)
		if adds, records, err = x.sizes(h, params["v1-name"]); err != nil {
			return nil, err
		}
	} else if err := r.Scan(ctx, zipfile.Scan{Raw: raw}); err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	done, err := entries.finish(adds)
	if err != nil {
		return nil, err
	}
	b.Entries = done[0]
	directory := newChunker(r.Size-r.Directory, h)
	defer directory.close()
	for i := range r.Entries {
		if !slices.Contains(l.removed, i) {
			_, _ = directory.Write([]byte(r.RawRecord(i))) // never fails
		}
	}
	if done, err = directory.finish(records); err != nil {
		return nil, err
	}
	b.Directory = done[0]
	if b.Count >= 1<<16-1 || b.Entries.Size+adds+maxBlock+b.Directory.Size+records > maxSize {
		return nil, malformed("Android takes no archives with %d entries and %d bytes", b.Count, b.Entries.Size)
	}
	content, err := b.content(h, params["v1-name"])
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("apk: plan: %w", err)
	}
	p := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: r.Size, Content: content,
		Params: single.Options(params), Facts: r.facts(m), Body: enc,
	}
	return p, p.Check()
}

// content is the digest by which the plan is known: that of schemes v2 and above, or
// the manifest's where the former waits for a signature.
func (b *body) content(h crypto.Hash, name string) ([]byte, error) {
	if len(b.V1) > 0 {
		m, _, err := b.V1[0].texts(h, name)
		return sum(h, m), err
	}
	return b.digest(h, nil, nil)
}

// digest is what schemes v2 and above state, given what comes after the entries and in
// the directory.
func (b *body) digest(h crypto.Hash, add, records []byte) ([]byte, error) {
	entries, err := b.Entries.finish(h, add)
	if err != nil {
		return nil, err
	}
	directory, err := b.Directory.finish(h, records)
	if err != nil {
		return nil, err
	}
	end := endRecord(b.Count, b.Directory.Size+int64(len(records)), b.Entries.Size+int64(len(add)), b.Comment)
	return top(h, entries, directory, chunksOf(h, end)), nil
}

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// options are those that are no plain choice.
type options struct {
	minSDK, rotation int
	lineage          lineage
	when             string
}

// v1 says whether scheme v1 signs.
func (o *options) v1(minSDK int) bool {
	return o.when == "true" || o.when == "auto" && minSDK < sdkV2
}

func readOptions(p format.Params) (*options, error) {
	o := &options{when: p["v1"]}
	for _, x := range []struct {
		name  string
		value *int
		low   int
	}{{"min-sdk", &o.minSDK, 1}, {"rotation-min-sdk", &o.rotation, sdkV3}} {
		v := p[x.name]
		if v == "" && x.low == 1 {
			continue
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < x.low || n > unfinishedSDK || strconv.Itoa(n) != v {
			return nil, fmt.Errorf("apk: option %s=%.20q: want a platform version, %d to %d", x.name, v, x.low, unfinishedSDK)
		}
		*x.value = n
	}
	if err := checkFile(p["v1-name"]); err != nil {
		return nil, err
	}
	var err error
	o.lineage, err = parseLineageOption(p["lineage"])
	return o, err
}

// original is the digest by which Attach knows the archive.
func (r *archive) original() []byte {
	x := sha256.New()
	x.Write([]byte(r.RawDirectory()))
	x.Write(r.tail)
	return x.Sum(nil)
}

// layout is what happens to the entries: nothing moves.
type layout struct {
	end     int64  // where the entries end
	removed []int  // entries that are taken out, in the directory's order
	holes   []span // what of them leaves room behind, in the order of the file
}

type span struct{ from, to int64 }

// layout takes out what scheme v1 left, where anything of it was signed or it signs
// again.
func (r *archive) layout(withV1 bool) *layout {
	l := &layout{end: r.End}
	if !r.signed() && !withV1 {
		return l
	}
	l.removed = r.v1
	for i := range r.Order {
		if !slices.Contains(l.removed, i) {
			continue
		}
		from, to := r.Span(i)
		if n := len(l.holes); n > 0 && l.holes[n-1].to == from {
			l.holes[n-1].to = to
		} else {
			l.holes = append(l.holes, span{from, to})
		}
	}
	// What stood last needs no room.
	if n := len(l.holes); n > 0 && l.holes[n-1].to == r.End {
		l.end = l.holes[n-1].from
		l.holes = l.holes[:n-1]
	}
	return l
}

// filter hands the entries as they will stand to c, from the bytes as they stand.
func (l *layout) filter(c *chunker) func([]byte) error {
	pos := int64(0)
	return func(b []byte) error {
		at := pos
		pos += int64(len(b))
		if pos > l.end {
			b = b[:max(l.end-at, 0)]
		}
		for _, h := range l.holes {
			from, to := max(h.from, at), min(h.to, at+int64(len(b)))
			if from >= to {
				continue
			}
			_, _ = c.Write(b[:from-at]) // never fails
			_, _ = c.Write(zipfile.Filler(h.to - h.from)[from-h.from : to-h.from])
			b, at = b[to-at:], to
		}
		_, _ = c.Write(b)
		return nil
	}
}

// facts of a plan, details included: no message has them.
func (r *archive) facts(m *manifest) []format.Fact {
	out := m.facts()
	return append(out, r.details(m, len(out)+reportSpare)...)
}

// reportSpare is how many facts a report may have besides: what is wrong with signatures.
const reportSpare = 16

// facts are what the manifest says first.
func (m *manifest) facts() []format.Fact {
	out := []format.Fact{{Name: "package", Value: single.Text([]byte(m.Package), 1024)}}
	if m.VersionName != "" {
		out = append(out, format.Fact{Name: "version", Value: single.Text([]byte(m.VersionName), 1024)})
	}
	out = append(out,
		format.Fact{Name: "version-code", Value: strconv.FormatUint(m.VersionCode, 10)},
		format.Fact{Name: "min-sdk", Value: strconv.Itoa(m.MinSDK)},
		format.Fact{Name: "target-sdk", Value: strconv.Itoa(m.TargetSDK)})
	if m.Debuggable {
		out = append(out, format.Fact{Name: "debuggable", Value: "true"})
	}
	return out
}
