package order

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Limits of deliveries.
const (
	MaxDelivery    = 32 << 20 // bytes of one encoded delivery
	MaxSignatures  = 64       // of one record
	MaxFields      = 2048     // of one record
	MaxAttachments = 1024     // of one record
)

// Delivery is an order with what it is about. Nothing in it is believed for being
// in it: Verifier.Verify judges the order, Verified.Open whether the records are
// those of the order, package record whether somebody trusted has signed them.
type Delivery struct {
	Order   []byte `cbor:"1,keyasint"` // Signed, encoded
	Records []Item `cbor:"2,keyasint"`
}

// Item is one record with its signatures. Attachments are named; their bytes are
// fetched one by one.
type Item struct {
	Ref         record.Ref          `cbor:"1,keyasint"`
	Fields      map[string]string   `cbor:"2,keyasint"`
	Attachments []record.Attachment `cbor:"3,keyasint"`
	Signatures  []record.Signature  `cbor:"4,keyasint"`
}

// ItemOf is the item of a record.
func ItemOf(r *record.Record, sigs []record.Signature) Item {
	return Item{Ref: r.Ref, Fields: r.Fields, Attachments: r.Attachments, Signatures: sigs}
}

// Record is the record of an item.
func (i *Item) Record() *record.Record {
	return &record.Record{Ref: i.Ref, Fields: i.Fields, Attachments: i.Attachments}
}

// Content is the digest by which an order knows a record: SHA-256 of the domain
// "greatseal order record v1", a zero byte and the CBOR of its reference, fields and
// attachments. Signatures are not part of it: each stands for itself.
func Content(r *record.Record) ([sha256.Size]byte, error) {
	type content struct {
		Ref         record.Ref          `cbor:"1,keyasint"`
		Fields      map[string]string   `cbor:"2,keyasint"`
		Attachments []record.Attachment `cbor:"3,keyasint"`
	}
	b, err := format.Encode(content{r.Ref, r.Fields, r.Attachments})
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("order: record: %w", err)
	}
	return sha256.Sum256(append([]byte("greatseal order record v1\x00"), b...)), nil
}

// Encode writes d.
func (d *Delivery) Encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	b, err := format.Encode(d)
	if err == nil && len(b) > MaxDelivery {
		err = rejection.New(rejection.PayloadTooLarge, "delivery", fmt.Sprintf("more than %d bytes", MaxDelivery))
	}
	return b, err
}

// DecodeDelivery reads what Encode wrote and nothing else. It verifies nothing.
func DecodeDelivery(b []byte) (*Delivery, error) {
	if len(b) > MaxDelivery {
		return nil, rejection.New(rejection.PayloadTooLarge, "delivery", fmt.Sprintf("more than %d bytes", MaxDelivery))
	}
	var d Delivery
	if err := format.Decode(b, &d); err != nil {
		return nil, rejection.New(rejection.PayloadMalformed, "delivery", "not in the one encoding that is accepted")
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return &d, nil
}

func (d *Delivery) check() error {
	bad := func(subject, detail string, args ...any) error {
		return rejection.New(rejection.PayloadMalformed, subject, fmt.Sprintf(detail, args...))
	}
	if len(d.Records) > MaxRecords {
		return bad("records", "more than %d", MaxRecords)
	}
	for i := range d.Records {
		r := &d.Records[i]
		switch {
		case len(r.Fields) > MaxFields:
			return bad(r.Ref.Table, "a record has more than %d fields", MaxFields)
		case len(r.Attachments) > MaxAttachments:
			return bad(r.Ref.Table, "a record has more than %d attachments", MaxAttachments)
		case len(r.Signatures) > MaxSignatures:
			return bad(r.Ref.Table, "a record has more than %d signatures", MaxSignatures)
		case !slices.IsSortedFunc(r.Attachments, compareAttachments):
			return bad(r.Ref.Table, "attachments are not sorted by name and digest")
		}
		if err := CheckRef(r.Ref); err != nil {
			return bad("records", "%v", err)
		}
		for name, v := range r.Fields {
			if name == "" || v == "" {
				return bad(r.Ref.Table, "an empty field is absent")
			}
		}
	}
	return nil
}

func compareAttachments(a, b record.Attachment) int {
	if c := bytes.Compare([]byte(a.Name), []byte(b.Name)); c != 0 {
		return c
	}
	return bytes.Compare(a.SHA256[:], b.SHA256[:])
}

// Open compares a delivery's records with those that the order names, and returns
// them in its order. What follows them in the delivery is what they depend on: the
// order does not name it, and its own signatures alone speak for it. The error is
// RECORD_MISMATCH; no item of such a delivery may be used.
func (v *Verified) Open(d *Delivery) (named, others []Item, err error) {
	n := len(v.order.Records)
	if len(d.Records) < n {
		return nil, nil, rejection.New(rejection.RecordMismatch, "records", fmt.Sprintf("%d were delivered, the order names %d", len(d.Records), n))
	}
	for i := range n {
		want, got := &v.order.Records[i], &d.Records[i]
		if got.Ref.Table != want.Ref.Table || !slices.Equal(got.Ref.Key, want.Ref.Key) {
			return nil, nil, rejection.New(rejection.RecordMismatch, want.Ref.Table, "another record was delivered")
		}
		sum, err := Content(got.Record())
		if err != nil || sum != want.Digest {
			return nil, nil, rejection.New(rejection.RecordMismatch, want.Ref.Table, "the record's content is not that of the order")
		}
	}
	return slices.Clone(d.Records[:n]), slices.Clone(d.Records[n:]), nil
}
