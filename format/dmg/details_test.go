package dmg

import (
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func plan(tb testing.TB, b []byte) *format.Plan {
	tb.Helper()
	p, err := Format{}.Plan(tb.Context(), artifact(b), format.Params{"identifier": "com.example.image", "replace": "true"})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := p.Encode(); err != nil {
		tb.Fatal(err)
	}
	return p
}

// withList is an image of data and this property list, with checksums of the data.
func withList(data, list string) []byte {
	b := small(len(data), 0)
	t := b[len(b)-trailerSize:]
	be.PutUint64(t[atDataOffset+8:], uint64(len(data)))
	be.PutUint32(t[atDataSum:], sumCRC32)
	be.PutUint32(t[atDataSum+4:], 32)
	be.PutUint32(t[atDataSum+8:], crc32.ChecksumIEEE([]byte(data)))
	be.PutUint32(t[atVariant:], 1)
	be.PutUint64(t[atSectors:], 7)
	be.PutUint64(t[atList+8:], uint64(len(list)))
	return slices.Concat([]byte(data), []byte(list), t)
}

func table(blocks ...uint32) string {
	b := make([]byte, tableHeader+blockSize*len(blocks))
	copy(b, "mish")
	be.PutUint32(b[4:], 1)
	be.PutUint64(b[16:], 7)
	be.PutUint32(b[64:], sumCRC32)
	be.PutUint32(b[68:], 32)
	be.PutUint32(b[72:], 0xdeadbeef)
	be.PutUint32(b[200:], uint32(len(blocks)))
	for i, k := range blocks {
		be.PutUint32(b[tableHeader+blockSize*i:], k)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func partitions(entries ...string) string {
	return `<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array>` + strings.Join(entries, "") + `</array><key>plst</key><array/></dict></dict></plist>`
}

func partition(name, table string) string {
	return `<dict><key>CFName</key><string>` + name + `</string><key>Data</key><data>` + table + `</data><key>ID</key><string>0</string></dict>`
}

func TestDetails(t *testing.T) {
	apple, err := os.ReadFile(filepath.Join(formattest.Judges(t), "lib", "relic", "packages", "dummy.dmg"))
	if err != nil {
		t.Fatalf("%v: %s", err, hint)
	}
	got := fmt.Sprint(plan(t, apple).Facts)
	if !strings.Contains(got, "{partition ") || !strings.Contains(got, "{variant ") || strings.Count(got, "{checksum all partitions: CRC-32 000217e7, right}") != 1 || strings.Contains(got, "not-read") || strings.Contains(got, "wrong") {
		t.Errorf("Apple's: %s", got)
	}
	b := withList("data", partitions(partition("Apple_HFS : 1", table(0x80000005, 0, 0x80000005, 0xffffffff))))
	got = fmt.Sprint(plan(t, b).Facts)
	for _, want := range []string{
		"{variant a whole device} {sectors 7} {partition Apple_HFS : 1 [0]: sector 0, 7 sectors of 512 bytes, zlib and zeros, CRC-32 deadbeef} {resource plst: 0} {checksum data: CRC-32 adf3f363, right}",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if got := fmt.Sprint(plan(t, flipped(b, 1)).Facts); !strings.Contains(got, "{checksum data: CRC-32 adf3f363, wrong: it is ") {
		t.Errorf("data changed: %s", got)
	}
	// Inspect and Verify say the same, but that Inspect reads no data.
	s := formattest.Identity(t, sigalg.P256)
	signed := seal(t, b, s, nil, false)
	r, err := verify(t, signed, s.Trust())
	if err != nil || !strings.Contains(fmt.Sprint(r.Facts), "adf3f363, right") {
		t.Errorf("verified: %v, %v", r, err)
	}
	if r, err = (Format{}).Inspect(t.Context(), artifact(signed)); err != nil || !strings.Contains(fmt.Sprint(r.Facts), "{partition Apple_HFS : 1 [0]: ") || !strings.Contains(fmt.Sprint(r.Facts), "adf3f363, not made again") {
		t.Errorf("inspected: %v, %v", r, err)
	}
}

// What cannot be read says so, stays small, and is signed all the same.
func TestHostileDetails(t *testing.T) {
	var many []string
	for i := range 900 {
		many = append(many, partition(fmt.Sprintf("%03d\u202e\u2028%s", i, strings.Repeat("ä", 500)), table(1)))
	}
	short := base64.StdEncoding.EncodeToString(make([]byte, 100))
	for name, c := range map[string]struct {
		list   string
		missed bool
	}{
		"many, long and turning": {partitions(many...), false},
		"the same twice":         {partitions(partition("a", table(1)), partition("a", table(1))), false},
		"too many":               {partitions(slices.Repeat([]string{partition("a", table(1))}, maxPartitions+1)...), true},
		"no list":                {"<plist><dict>", true},
		"a bare list":            {`<plist version="1.0"><array/></plist>`, true},
		"a table cut":            {partitions(partition("a", short)), true},
		"a table of no blocks":   {partitions(partition("a", "")), true},
		"no dictionary":          {partitions("<string>x</string>"), true},
		"resources no lists":     {`<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><string/></dict></dict></plist>`, true},
		"unknown kinds":          {partitions(partition("a", table(5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))), false},
	} {
		p := plan(t, withList("data", c.list))
		base, err := format.CutDetails(p.Facts, detailNames...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		total, got := 0, p.Facts[len(base):]
		for _, f := range got {
			total += len(f.Name) + len(f.Value)
			if strings.ContainsFunc(f.Value, format.Turns) {
				t.Errorf("%s: %q", name, f.Value)
			}
		}
		if missed := slices.ContainsFunc(got, func(f format.Fact) bool { return f.Name == "not-read" }); total > 12<<10 || missed != c.missed {
			t.Errorf("%s: %d bytes: %.2000s", name, total, fmt.Sprint(got))
		}
	}
	// The trailer says that the data is elsewhere: nothing of it is taken for right.
	b := withList("data", partitions(partition("a", table(1))))
	be.PutUint64(b[len(b)-trailerSize+atDataOffset:], 1<<63)
	be.PutUint32(b[len(b)-trailerSize+atVariant:], 0xffffffff)
	if got := fmt.Sprint(plan(t, b).Facts); !strings.Contains(got, "wrong") || !strings.Contains(got, "{variant of kind 4294967295}") {
		t.Errorf("data elsewhere: %s", got)
	}
}

// No detail is signed; and a plan whose details are not in their form is refused.
func TestDetailsAreNotSigned(t *testing.T) {
	p := plan(t, withList("data", partitions(partition("a", table(1)))))
	base, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil || len(base) == len(p.Facts) {
		t.Fatalf("%v, %v", p.Facts, err)
	}
	with := func(more ...format.Fact) []format.Fact { return append(slices.Clone(base), more...) }
	formattest.Details(t, Format{}, p, sigalg.P256, map[string][]format.Fact{"none": base, "others": with(format.Fact{Name: "variant", Value: "other"})}, ErrPlan, map[string][]format.Fact{
		"unknown": with(format.Fact{Name: "rating", Value: "good"}), "out of order": with(format.Fact{Name: "checksum", Value: "1"}, format.Fact{Name: "variant", Value: "x"}), "empty": with(format.Fact{Name: "variant", Value: ""}),
	})
}
