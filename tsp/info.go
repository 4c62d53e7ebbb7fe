package tsp

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
)

// Accuracy is how far the time may be off; the zero value says nothing about it.
type Accuracy struct {
	Seconds, Millis, Micros int // Millis and Micros from 0 to 999
}

// Info is what an authority signs (TSTInfo, RFC 3161 section 2.4.2).
type Info struct {
	Policy  asn1.ObjectIdentifier
	Imprint Imprint
	Serial  *big.Int
	// Time is in UTC, with up to nine digits of fraction.
	Time     time.Time
	Accuracy Accuracy
	Ordering bool
	Nonce    *big.Int // nil for none
	// TSA is the DER of a GeneralName, nil for none: a claim, checked by nobody.
	TSA []byte
	// Extensions is the DER of Extensions, SEQUENCE OF, nil for none.
	Extensions []byte
}

var (
	tag0         = cbasn1.Tag(0).ContextSpecific()
	tag1         = cbasn1.Tag(1).ContextSpecific()
	tagExplicit0 = tag0.Constructed()
	tagExplicit1 = tag1.Constructed()
)

// Encode gives the TSTInfo in DER.
func (i Info) Encode() ([]byte, error) {
	if i.Serial == nil || i.Serial.Sign() < 0 || i.Serial.BitLen() > maxIntegerBits {
		return nil, errors.New("tsp: serial number out of range")
	}
	if i.Nonce != nil && (i.Nonce.Sign() < 0 || i.Nonce.BitLen() > maxIntegerBits) {
		return nil, errors.New("tsp: nonce out of range")
	}
	a := i.Accuracy
	if a.Seconds < 0 || a.Millis < 0 || a.Millis > 999 || a.Micros < 0 || a.Micros > 999 {
		return nil, errors.New("tsp: accuracy out of range")
	}
	if y := i.Time.UTC().Year(); y < 1970 || y > 9999 {
		return nil, errors.New("tsp: time out of range")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(i.Policy)
		i.Imprint.build(b)
		b.AddASN1BigInt(i.Serial)
		b.AddASN1(cbasn1.GeneralizedTime, func(b *cryptobyte.Builder) { b.AddBytes([]byte(formatTime(i.Time))) })
		if a != (Accuracy{}) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				if a.Seconds != 0 {
					b.AddASN1Int64(int64(a.Seconds))
				}
				if a.Millis != 0 {
					b.AddASN1Int64WithTag(int64(a.Millis), tag0)
				}
				if a.Micros != 0 {
					b.AddASN1Int64WithTag(int64(a.Micros), tag1)
				}
			})
		}
		if i.Ordering {
			b.AddASN1Boolean(true)
		}
		if i.Nonce != nil {
			b.AddASN1BigInt(i.Nonce)
		}
		if i.TSA != nil {
			b.AddASN1(tagExplicit0, func(b *cryptobyte.Builder) { b.AddBytes(i.TSA) })
		}
		if i.Extensions != nil {
			s := cryptobyte.String(i.Extensions)
			var v cryptobyte.String
			if !s.ReadASN1(&v, cbasn1.SEQUENCE) || !s.Empty() {
				b.SetError(errors.New("extensions are no SEQUENCE"))
				return
			}
			b.AddASN1(tagExplicit1, func(b *cryptobyte.Builder) { b.AddBytes(v) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("tsp: info: %w", err)
	}
	return der, nil
}

// ParseInfo reads a TSTInfo in DER, strictly. Critical extensions are refused.
func ParseInfo(der []byte) (Info, error) {
	var i Info
	if len(der) > MaxSize {
		return i, syntax("info too long")
	}
	s := cryptobyte.String(der)
	var seq, when cryptobyte.String
	var version int
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1Integer(&version) || version != 1 ||
		!cms.ReadOID(&seq, &i.Policy) {
		return i, syntax("info")
	}
	var err error
	if i.Imprint, err = readImprint(&seq); err != nil {
		return i, err
	}
	if i.Serial, err = readNatural(&seq, "serial number"); err != nil {
		return i, err
	}
	if !seq.ReadASN1(&when, cbasn1.GeneralizedTime) {
		return i, syntax("time")
	}
	if i.Time, err = parseTime(string(when)); err != nil {
		return i, err
	}
	if seq.PeekASN1Tag(cbasn1.SEQUENCE) {
		if i.Accuracy, err = readAccuracy(&seq); err != nil {
			return i, err
		}
	}
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && (!seq.ReadASN1Boolean(&i.Ordering) || !i.Ordering) {
		return i, syntax("ordering") // FALSE is the default and has no DER
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		if i.Nonce, err = readNatural(&seq, "nonce"); err != nil {
			return i, err
		}
	}
	if err := i.readTail(&seq); err != nil {
		return i, err
	}
	if !seq.Empty() {
		return i, syntax("bytes after info")
	}
	return i, nil
}

func (i *Info) readTail(seq *cryptobyte.String) error {
	var name, general cryptobyte.String
	var has bool
	var tag cbasn1.Tag
	if !seq.ReadOptionalASN1(&name, &has, tagExplicit0) ||
		has && (!name.ReadAnyASN1Element(&general, &tag) || !name.Empty()) {
		return syntax("name of authority")
	}
	if has {
		i.TSA = general
	}
	var extensions cryptobyte.String
	if !seq.ReadOptionalASN1(&extensions, &has, tagExplicit1) {
		return syntax("extensions")
	}
	if !has {
		return nil
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
	var err error
	if i.Extensions, err = b.Bytes(); err != nil {
		return syntax("extensions")
	}
	if extensions.Empty() {
		return syntax("extensions")
	}
	for !extensions.Empty() {
		var e, v cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !extensions.ReadASN1(&e, cbasn1.SEQUENCE) || !cms.ReadOID(&e, &oid) ||
			!e.ReadOptionalASN1Boolean(&critical, cbasn1.BOOLEAN, false) ||
			!e.ReadASN1(&v, cbasn1.OCTET_STRING) || !e.Empty() {
			return syntax("extension")
		}
		if critical {
			return syntax(fmt.Sprintf("critical extension %v is unknown", oid))
		}
	}
	return nil
}

func readAccuracy(s *cryptobyte.String) (a Accuracy, err error) {
	var seq cryptobyte.String
	bad := syntax("accuracy")
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || seq.Empty() {
		return a, bad
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) && (!seq.ReadASN1Integer(&a.Seconds) || a.Seconds <= 0) {
		return a, bad
	}
	for _, f := range []struct {
		tag cbasn1.Tag
		to  *int
	}{{tag0, &a.Millis}, {tag1, &a.Micros}} {
		if !seq.PeekASN1Tag(f.tag) {
			continue
		}
		var v int64
		if !seq.ReadASN1Int64WithTag(&v, f.tag) || v < 1 || v > 999 {
			return a, bad
		}
		*f.to = int(v)
	}
	if !seq.Empty() {
		return a, bad
	}
	return a, nil
}

const layout = "20060102150405"

// formatTime writes GeneralizedTime as RFC 3161 section 2.4.2 wants it: UTC, Z,
// a fraction only when there is one, without trailing zeros.
func formatTime(t time.Time) string {
	t = t.UTC()
	s := t.Format(layout)
	if n := t.Nanosecond(); n != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%09d", n), "0")
	}
	return s + "Z"
}

func parseTime(s string) (time.Time, error) {
	bad := syntax("time")
	whole, fraction, dot := strings.Cut(strings.TrimSuffix(s, "Z"), ".")
	if !strings.HasSuffix(s, "Z") || len(whole) != len(layout) {
		return time.Time{}, bad
	}
	t, err := time.ParseInLocation(layout, whole, time.UTC)
	if err != nil || t.Year() < 1970 {
		return time.Time{}, bad
	}
	if dot {
		if len(fraction) == 0 || len(fraction) > 9 || strings.HasSuffix(fraction, "0") {
			return time.Time{}, bad
		}
		n, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
		if err != nil {
			return time.Time{}, bad
		}
		t = t.Add(time.Duration(n))
	}
	if formatTime(t) != s {
		return time.Time{}, bad
	}
	return t, nil
}
