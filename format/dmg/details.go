package dmg

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/plist"
)

// detailNames are the details of an image, in order. They are read from the trailer and
// the property list, and from the data as it goes by; they do not follow from the
// plan's body.
var detailNames = []string{"variant", "sectors", "partition", "resource", "checksum", "not-read"}

// More places in the trailer.
const (
	atDataOffset = 24 // place and length of the data
	atDataSum    = 80 // kind, bits and 128 bytes of its checksum
	atMasterSum  = 352
	atVariant    = 488
	atSectors    = 492
	sumCRC32     = 2
)

// Limits of what is read for details.
const (
	maxList       = 8 << 20 // bytes of the property list
	maxPartitions = 1024
	maxBlocks     = 1 << 20 // of all partitions
	tableHeader   = 204     // bytes before a partition's list of blocks
	blockSize     = 40
	sectorSize    = 512
)

// seen is an image that is read in order: the data's CRC-32 is made, and the property
// list kept, as they go by.
type seen struct {
	io.ReaderAt
	m    *image
	at   int64
	crc  hash.Hash32
	list []byte
}

func (m *image) see(r io.ReaderAt) *seen {
	return &seen{ReaderAt: r, m: m, crc: crc32.NewIEEE()}
}

// part is what of b, which stands at off, lies between from and to.
func part(b []byte, off, from, to int64) []byte {
	a, e := max(from-off, 0), min(to-off, int64(len(b)))
	if a >= e {
		return nil
	}
	return b[a:e]
}

// ReadAt is io.ReaderAt's.
func (s *seen) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	if off == s.at {
		s.at += int64(n)
		from, size := s.m.data()
		s.crc.Write(part(p[:n], off, from, from+size))
		if s.m.end-s.m.list <= maxList {
			s.list = append(s.list, part(p[:n], off, s.m.list, s.m.end)...)
		}
	}
	return n, err
}

// data is where the trailer says that the data is; nothing where that is beyond the
// property list.
func (m *image) data() (offset, size int64) {
	a, n := be.Uint64(m.trailer[atDataOffset:]), be.Uint64(m.trailer[atDataOffset+8:])
	if a > uint64(m.end) || n > uint64(m.end)-a {
		return 0, 0
	}
	return int64(a), int64(n)
}

// look reads the property list alone.
func (m *image) look(r io.ReaderAt) (*seen, error) {
	s := m.see(r)
	if n := m.end - m.list; n <= maxList {
		s.list = make([]byte, n)
		if _, err := r.ReadAt(s.list, m.list); err != nil && err != io.EOF {
			return nil, fmt.Errorf("dmg: %w", err)
		}
	}
	return s, nil
}

// checksum is one as images state it.
type checksum struct {
	kind, bits uint32
	value      []byte
}

func readChecksum(b []byte) checksum {
	c := checksum{be.Uint32(b), be.Uint32(b[4:]), b[8:136]}
	c.value = c.value[:min(uint64(c.bits)/8, 128)]
	return c
}

func (c checksum) String() string {
	switch {
	case c.kind == 0:
		return "none"
	case c.kind == sumCRC32 && c.bits == 32:
		return fmt.Sprintf("CRC-32 %x", c.value)
	}
	return fmt.Sprintf("of kind %d, %.20x", c.kind, c.value)
}

// details say what the image holds, as far as trailer and property list tell, and which
// of its checksums are right. Checksums keep nobody from changing an image: they say
// whether it is whole.
func (m *image) details(s *seen, before int) []format.Fact {
	d := format.NewDetails(before)
	variant := be.Uint32(m.trailer[atVariant:])
	d.Say("variant", map[uint32]string{0: "", 1: "a whole device", 2: "a partition"}[variant])
	if variant > 2 {
		d.Sayf("variant", "of kind %d", variant)
	}
	sectors := be.Uint64(m.trailer[atSectors:])
	if sectors > 0 {
		d.Sayf("sectors", "%d", sectors)
	}
	partitions, others, sums, why := readList(s.list)
	d.List("partition", 40, partitions)
	d.List("resource", 20, others)
	var all []string
	if c := readChecksum(m.trailer[atDataSum:]); c.kind != 0 {
		all = append(all, "data: "+c.judge(s.crc.Sum32(), s.at >= m.end))
	}
	if c := readChecksum(m.trailer[atMasterSum:]); c.kind != 0 {
		all = append(all, "all partitions: "+c.judge(crc32.ChecksumIEEE(sums), why == ""))
	}
	d.List("checksum", 4, all)
	if why != "" {
		d.Say("not-read", "partitions: "+why)
	}
	return d.Facts()
}

// judge compares a checksum with what it should be, where that is known.
func (c checksum) judge(want uint32, known bool) string {
	switch {
	case !known || c.kind != sumCRC32 || c.bits != 32:
		return c.String() + ", not made again"
	case binary.BigEndian.Uint32(c.value) == want:
		return c.String() + ", right"
	}
	return fmt.Sprintf("%s, wrong: it is %08x", c, want)
}

// readList reads the property list: partitions, other resources, and the partitions'
// checksums one after the other, which the checksum over all is made of.
func readList(b []byte) (partitions, others []string, sums []byte, why string) {
	list, err := plist.ParseDict(b)
	if err != nil {
		return nil, nil, nil, "the property list is too large or malformed"
	}
	resources, _ := list.Get("resource-fork").(plist.Dict)
	blocks := 0
	for _, r := range resources {
		entries, ok := r.Value.(plist.Array)
		if !ok {
			return nil, nil, nil, "resources are no lists"
		}
		if r.Key != "blkx" {
			others = append(others, fmt.Sprintf("%s: %d", r.Key, len(entries)))
			continue
		}
		if len(entries) > maxPartitions {
			return nil, nil, nil, "there are too many"
		}
		for _, e := range entries {
			entry, _ := e.(plist.Dict)
			table, _ := entry.Get("Data").(plist.Data)
			text, sum, n := readTable(table)
			if blocks += n; n < 0 || blocks > maxBlocks {
				return nil, nil, nil, "a table of blocks is malformed"
			}
			name := entry.String("CFName")
			if name == "" {
				name = entry.String("Name")
			}
			if name == "" {
				name = "without a name"
			}
			partitions = append(partitions, name+" ["+entry.String("ID")+"]: "+text)
			if sum.kind != sumCRC32 || sum.bits != 32 {
				why = "one has no CRC-32"
			}
			sums = append(sums, sum.value...)
		}
	}
	if partitions == nil {
		return nil, others, nil, "there are none"
	}
	return partitions, others, sums, why
}

// kinds of blocks.
var kinds = map[uint32]string{
	0: "zeros", 1: "plain", 2: "ignored", 0x80000004: "ADC", 0x80000005: "zlib", 0x80000006: "bzip2", 0x80000007: "LZFSE", 0x80000008: "LZMA",
	0x7ffffffe: "", 0xffffffff: "",
}

// readTable reads a partition's table of blocks; n is how many there are, or -1.
func readTable(b []byte) (text string, sum checksum, n int) {
	if len(b) < tableHeader || string(b[:4]) != "mish" || be.Uint32(b[4:]) != 1 {
		return "", sum, -1
	}
	sum = readChecksum(b[64:])
	count := uint64(be.Uint32(b[200:]))
	if uint64(len(b)-tableHeader) != count*blockSize {
		return "", sum, -1
	}
	var found []string
	for at := tableHeader; at < len(b); at += blockSize {
		kind := be.Uint32(b[at:])
		name, ok := kinds[kind]
		if !ok {
			name = fmt.Sprintf("kind %#x", kind)
		}
		if name != "" && len(found) < 8 && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	text = fmt.Sprintf("sector %d, %d sectors of %d bytes", be.Uint64(b[8:]), be.Uint64(b[16:]), sectorSize)
	if len(found) > 0 {
		text += ", " + strings.Join(found, " and ")
	}
	return text + ", " + sum.String(), sum, int(count)
}
