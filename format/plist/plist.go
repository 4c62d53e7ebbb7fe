// Package plist reads Apple's property lists, XML and binary, and writes the XML
// form ("Property List Programming Guide"; PropertyList-1.0.dtd).
//
// It is strict because other parsers are not: entitlements have been smuggled
// through comments that one parser of a system ended elsewhere than the other
// ("psychic paper", 2020). Elements, attributes, entities and comments that are
// not plainly well-formed are refused, a key that stands twice too, and a document
// with anything after its end.
//
// Invariants:
//
//  1. No input takes memory or time beyond the limits below: objects are counted
//     as often as they are referred to, so that a binary list cannot unfold.
//  2. What is accepted in XML and written is read as the same value. Numbers that are
//     no integers, and dates, of a binary list are written as bits that are never read,
//     so that they equal none of an XML list.
//
// A caller may not conclude that a value has the type that its key usually has.
package plist

import (
	"bytes"
	"errors"
)

// Limits of what is read.
const (
	MaxSize  = 16 << 20 // bytes of a document
	MaxNodes = 1 << 19  // values, those that are referred to twice counted twice
	MaxDepth = 64
)

// ErrSyntax is wrapped by every error about a document.
var ErrSyntax = errors.New("plist: malformed")

// Value is string, bool, int64, Real, Data, Date, Array or Dict.
type Value any

// Data is <data>.
type Data []byte

// Date is <date>, in the form of the document; binary lists give seconds since
// 2001 in decimal.
type Date string

// Real is <real>, in the text of the document; binary lists give its bytes in
// hexadecimal, after "0x".
type Real string

// Array is <array>.
type Array []Value

// Pair is one key of a Dict.
type Pair struct {
	Key   string
	Value Value
}

// Dict is <dict>, in the order of the document; no key stands twice.
type Dict []Pair

// Get returns the value of a key, nil when it is not there.
func (d Dict) Get(key string) Value {
	for _, p := range d {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// String returns the value of a key when it is a string, else "".
func (d Dict) String(key string) string {
	s, _ := d.Get(key).(string)
	return s
}

// Parse reads a property list of either kind.
func Parse(b []byte) (Value, error) {
	if len(b) > MaxSize {
		return nil, bad("%d bytes: at most %d", len(b), MaxSize)
	}
	if bytes.HasPrefix(b, []byte("bplist")) {
		return parseBinary(b)
	}
	return ParseXML(b, true)
}

// ParseDict is Parse for a document that is a dictionary.
func ParseDict(b []byte) (Dict, error) {
	v, err := Parse(b)
	if err != nil {
		return nil, err
	}
	d, ok := v.(Dict)
	if !ok {
		return nil, bad("not a dictionary")
	}
	return d, nil
}

// unique refuses a dictionary with a key that stands twice.
func (d Dict) unique() error {
	seen := make(map[string]bool, len(d))
	for _, p := range d {
		if seen[p.Key] {
			return bad("key %.60q stands twice", p.Key)
		}
		seen[p.Key] = true
	}
	return nil
}
