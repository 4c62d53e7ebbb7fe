package apk

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	lineageMagic = 0x3eff39d1 // of apksigner's files
	maxLineage   = 32
)

// node is one key of a lineage.
type node struct {
	cert *x509.Certificate
	raw  []byte // the node as it stands in the lineage
}

// lineage is a row of keys, the oldest first, each but the first signed for by the one
// before it.
type lineage []node

// parseLineage reads the attribute's value and checks every signature in it.
func parseLineage(b []byte) (lineage, error) {
	bad := func(f string, args ...any) (lineage, error) {
		return nil, fmt.Errorf("%w: %s", ErrLineage, fmt.Sprintf(f, args...))
	}
	r := reader{b: b}
	if v := r.u32(); r.bad || v != 1 {
		return bad("version %d", v)
	}
	var out lineage
	var next uint32 // algorithm under which the last key signs
	for len(r.b) > 0 {
		raw := r.prefixed()
		n := reader{b: raw}
		signed := n.prefixed()
		_ = n.u32() // what the platform still allows the older key: for it to judge
		alg := n.u32()
		sig := n.prefixed()
		if r.bad || !n.end() {
			return bad("key %d is cut off", len(out))
		}
		d := reader{b: signed}
		der, by := d.prefixed(), d.u32()
		if !d.end() {
			return bad("signed part of key %d", len(out))
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("certificate of key %d: %v", len(out), err)
		}
		for _, o := range out {
			if bytes.Equal(o.cert.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
				return bad("key %d stands in it twice", len(out))
			}
		}
		if len(out) > 0 {
			if by != next {
				return bad("key %d is signed for under %#x and %#x", len(out), by, next)
			}
			pub, err := cms.PublicKey(out[len(out)-1].cert)
			if err != nil {
				return bad("key %d: %v", len(out)-1, err)
			}
			s := schemeOf(by)
			if s == "" {
				return bad("algorithm %#x", by)
			}
			if err := sigalg.Verify(pub, s, signed, sig); err != nil {
				return bad("key %d was not signed for by the one before it: %v", len(out), err)
			}
		}
		if len(out) == maxLineage {
			return bad("more than %d keys", maxLineage)
		}
		next = alg
		out = append(out, node{cert, raw})
	}
	if len(out) == 0 {
		return bad("empty")
	}
	return out, nil
}

// encode is the attribute's value.
func (l lineage) encode() []byte {
	b := le.AppendUint32(nil, 1)
	for _, n := range l {
		b = append(b, prefix(n.raw)...)
	}
	return b
}

// index finds a certificate, -1 when it is not in it.
func (l lineage) index(c *x509.Certificate) int {
	for i, n := range l {
		if bytes.Equal(n.cert.Raw, c.Raw) {
			return i
		}
	}
	return -1
}

// parseLineageOption reads the option: the file that apksigner writes, in base64.
func parseLineageOption(v string) (lineage, error) {
	if v == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(v)
	if err != nil {
		return nil, fmt.Errorf("apk: option lineage: %w", errors.New("not base64 of apksigner's file"))
	}
	r := reader{b: b}
	magic, version, value := r.u32(), r.u32(), r.prefixed()
	if !r.end() || magic != lineageMagic || version != 1 {
		return nil, fmt.Errorf("%w: not a file of apksigner rotate", ErrLineage)
	}
	l, err := parseLineage(value)
	if err == nil && len(l) < 2 {
		err = fmt.Errorf("%w: of one key", ErrLineage)
	}
	return l, err
}
