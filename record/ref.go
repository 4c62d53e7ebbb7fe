package record

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Ref names a record: a table and the values of its primary key, in the order of
// the key's columns.
type Ref struct {
	Table string   `json:"table" cbor:"1,keyasint"`
	Key   []string `json:"key" cbor:"2,keyasint"`
}

// Equal reports whether r and o name the same record.
func (r Ref) Equal(o Ref) bool { return r.Table == o.Table && slices.Equal(r.Key, o.Key) }

// Compare orders by table, then by key, byte by byte.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(cmp.Compare(r.Table, o.Table), slices.Compare(r.Key, o.Key))
}

// ID is the reference as one string, different for different records: a key of maps
// and databases. It is table and key values, each with its length before it.
func (r Ref) ID() string {
	var b strings.Builder
	for _, s := range append([]string{r.Table}, r.Key...) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	return b.String()
}

// String is the reference for people: "orders 7, eu". It is not unique.
func (r Ref) String() string { return r.Table + " " + strings.Join(r.Key, ", ") }

// Check refuses what no record is called.
func (r Ref) Check() error {
	if err := checkText("table", r.Table); err != nil {
		return err
	}
	if len(r.Key) == 0 || len(r.Key) > MaxKey {
		return malformed("a key of %d values: want 1 to %d", len(r.Key), MaxKey)
	}
	for i, k := range r.Key {
		if k == "" || len(k) > MaxKeyValue || !validUTF8(k) {
			return malformed("value %d of the key: want 1 to %d bytes of UTF-8", i, MaxKeyValue)
		}
	}
	return nil
}
