package codesign

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"
)

// Operations of the requirement language that are made here (requirement.h), all
// in expressions of kind 1 (prefix notation).
const (
	opIdentifier    = 2
	opAnchorHash    = 4
	opAnd           = 6
	opCertField     = 11
	opCertGeneric   = 14
	opAppleAnchored = 15

	matchExists = 0
	matchEqual  = 1

	certLeaf   = 0
	certIssuer = 1
	certAnchor = 0xffffffff

	requirementDesignated = 3
)

// Extensions of certificates that Apple issues.
var (
	appleLeaf          = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 1} // and below
	appleDeveloperID   = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 1, 13}
	appleIssuerDevID   = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 2, 6}
	appleIssuerRelayed = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 2, 1} // WWDR
)

// expr writes a requirement: words big-endian, data with its length before it and
// zeros up to a multiple of four after it.
type expr []byte

func (e *expr) op(n uint32) { *e = be.AppendUint32(*e, n) }

func (e *expr) data(b []byte) {
	e.op(uint32(len(b)))
	*e = append(*e, b...)
	*e = append(*e, make([]byte, (4-len(b)%4)%4)...)
}

func (e *expr) hasField(cert uint32, oid asn1.ObjectIdentifier) {
	e.op(opCertGeneric)
	e.op(cert)
	e.data(oidBytes(oid))
	e.op(matchExists)
}

func (e *expr) subject(cert uint32, name, value string) {
	e.op(opCertField)
	e.op(cert)
	e.data([]byte(name))
	e.op(matchEqual)
	e.data([]byte(value))
}

// oidBytes is the content of the OID in DER: the identifiers above have no first
// arc beyond 1 and fit their lengths.
func oidBytes(oid asn1.ObjectIdentifier) []byte {
	der, err := asn1.Marshal(oid)
	if err != nil {
		panic(err) // a constant of this file
	}
	return der[2:]
}

// designated is the requirement that later versions of the same program fulfil, as
// Apple's own tools derive it (drmaker.cpp): of certificates that Apple issues the
// kind and the team (or the name), of others the last certificate upwards that
// belongs to the same organization as the leaf. SHA-1 is how the language names
// certificates.
func designated(identifier string, chain []*x509.Certificate) []byte {
	var e expr
	e.op(1) // an expression
	e.op(opAnd)
	e.op(opIdentifier)
	e.data([]byte(identifier))
	leaf := chain[0]
	switch kindOf(chain) {
	case developerID:
		e.op(opAnd)
		e.op(opAppleAnchored)
		e.op(opAnd)
		e.hasField(certIssuer, appleIssuerDevID)
		e.op(opAnd)
		e.hasField(certLeaf, appleDeveloperID)
		e.subject(certLeaf, "subject.OU", Team(leaf))
	case relayed:
		e.op(opAnd)
		e.op(opAppleAnchored)
		e.op(opAnd)
		e.subject(certLeaf, "subject.CN", leaf.Subject.CommonName)
		e.hasField(certIssuer, appleIssuerRelayed)
	default:
		slot := sameOrganization(chain)
		h := sha1.Sum(chain[slot].Raw)
		e.op(opAnchorHash)
		e.op(certificateNumber(chain, slot))
		e.data(h[:])
	}
	return index(magicRequirements, []place{{number: requirementDesignated, blob: blob(magicRequirement, e)}})
}

// DesignatedText is what designated derives, in the requirement language: the lists
// of bundles have it for the code that they contain.
func DesignatedText(identifier string, chain []*x509.Certificate) string {
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(identifier) + `"`
	leaf := chain[0]
	switch kindOf(chain) {
	case developerID:
		return fmt.Sprintf(`identifier %s and anchor apple generic and certificate 1[field.%v] /* exists */ and certificate leaf[field.%v] /* exists */ and certificate leaf[subject.OU] = %q`,
			quoted, appleIssuerDevID, appleDeveloperID, Team(leaf))
	case relayed:
		return fmt.Sprintf(`identifier %s and anchor apple generic and certificate leaf[subject.CN] = %q and certificate 1[field.%v] /* exists */`, quoted, leaf.Subject.CommonName, appleIssuerRelayed)
	}
	slot := sameOrganization(chain)
	where := strconv.Itoa(slot)
	switch n := certificateNumber(chain, slot); n {
	case certLeaf:
		where = "leaf"
	case certAnchor:
		where = "root"
	}
	return fmt.Sprintf(`identifier %s and certificate %s = H"%x"`, quoted, where, sha1.Sum(chain[slot].Raw))
}

// Kinds of signers, by which the designated requirement is made.
const (
	otherSigner = iota
	developerID
	relayed
)

func kindOf(chain []*x509.Certificate) int {
	leaf := chain[0]
	switch {
	case len(chain) > 1 && has(chain[1], appleIssuerDevID) && has(leaf, appleDeveloperID) && Team(leaf) != "":
		return developerID
	case len(chain) > 1 && has(chain[1], appleIssuerRelayed) && leaf.Subject.CommonName != "":
		return relayed
	}
	return otherSigner
}

// certificateNumber is how the language names a certificate of the chain.
func certificateNumber(chain []*x509.Certificate, slot int) uint32 {
	if last := chain[slot]; slot == len(chain)-1 && last.CheckSignatureFrom(last) == nil {
		return certAnchor
	}
	return uint32(slot)
}

// sameOrganization is how far up the chain the leaf's organization reaches.
func sameOrganization(chain []*x509.Certificate) int {
	o := chain[0].Subject.Organization
	slot := 0
	for len(o) == 1 && slot+1 < len(chain) {
		if up := chain[slot+1].Subject.Organization; len(up) != 1 || up[0] != o[0] {
			break
		}
		slot++
	}
	return slot
}

func has(c *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return true
		}
	}
	return false
}

// Team is the team identifier in a certificate that Apple issued for signing code:
// its organizational unit. It is "" for others.
func Team(c *x509.Certificate) string {
	for _, e := range c.Extensions {
		if len(e.Id) > len(appleLeaf) && e.Id[:len(appleLeaf)].Equal(appleLeaf) && len(c.Subject.OrganizationalUnit) == 1 {
			if t := c.Subject.OrganizationalUnit[0]; len(t) <= maxText && printable(t) {
				return t
			}
		}
	}
	return ""
}

// CheckRequirements refuses what is no requirement set: an index of requirements,
// as csreq writes it. The expressions in it are not looked at.
func CheckRequirements(b []byte) error {
	if len(b) > MaxRequirements {
		return malformed("requirements of %d bytes: at most %d", len(b), MaxRequirements)
	}
	ps, rest, err := readIndex(b, magicRequirements)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return malformed("%d bytes after the requirements", len(rest))
	}
	for _, p := range ps {
		if be.Uint32(p.blob) != magicRequirement || p.number == 0 || p.number > 5 {
			return malformed("requirement %d is none", p.number)
		}
	}
	return nil
}
