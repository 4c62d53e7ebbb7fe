// Package bundle is code signing for folders of Apple's systems: applications,
// frameworks, plug-ins and other bundles of macOS ("Code Signing Guide"; TN2206).
// A bundle is one artifact, a format.Tree; package macho signs the code in it.
//
// Each bundle has a list, _CodeSignature/CodeResources, of its files with their
// digests and of the code in it with its code hashes; the digests of the list and
// of Info.plist stand in the signature of the bundle's program:
//
//	A.app/Contents/Info.plist, MacOS/A, _CodeSignature/CodeResources
//	    └ Frameworks/B.framework/Versions/A/B, Resources/Info.plist, _CodeSignature/…
//	    └ MacOS/helper                  a program of its own
//
// Code inside is signed before what contains it. That needs no rounds: code is
// named by the digest of its CodeDirectory, which does not depend on the signature
// over it. All slices of all code in a bundle are signed in one round.
//
// Invariants:
//
//  1. Plan reads each file once, in the order of the tree.
//  2. The lists follow from the plan and the identity alone; Assemble writes them.
//  3. Every program, library and bundle in the places for code has a signature of
//     its own, and Verify wants that.
//  4. Verify accepts a bundle only when its lists have the standard rules, name what
//     is there and nothing else, and are sealed by the program's signature; what the
//     rules leave out (PkgInfo, .DS_Store, locversion.plist) is reported.
//  5. Attach changes programs and lists, and nothing else.
//
// Bundles of iOS, whose lists have digests of signed code, are package ipa's.
//
// What is refused although it exists: lists with rules of their own; scripts in the places for code;
// anything beside Contents, and beside Versions but links into it.
//
// A caller may not conclude anything about permissions of files, which nothing
// covers, or about code that stands among the resources, which is sealed as any file.
package bundle

import (
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read.
const (
	maxInfo  = 512 << 10
	maxList  = 16 << 20
	maxCode  = 256 // pieces of code
	maxDepth = 8   // bundles in bundles
)

// What callers branch on.
var (
	ErrNotBundle = errors.New("bundle: not a bundle of macOS")
	ErrMalformed = errors.New("bundle: malformed bundle")
	ErrUnsigned  = fmt.Errorf("bundle: not signed: %w", format.ErrUnsigned)
	ErrSealed    = errors.New("bundle: files are not those that were signed")
	ErrChanged   = errors.New("bundle: it is not the one that was planned")
	ErrPlan      = errors.New("bundle: plan contradicts itself")
)

var errDetached = errors.New("bundle: signatures stand in the bundle, not beside it")

const name = "bundle"

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Format implements format.Format and its optional interfaces.
type Format struct{ format.OneRound }

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "bundle".
func (Format) Name() string { return name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	yes := []string{"true", "false"}
	return []format.Option{
		{Name: "entitlements", Help: "entitlements of the main program: an XML property list on one line, or the base64 of one"},
		{Name: "flags", Help: "flags of all signatures, joined by commas: runtime, library, kill, hard, expires, restrict, enforcement, host; or none", Default: "runtime"},
		{Name: "replace", Help: "replace signatures that somebody made", Values: yes, Default: "false"},
		{Name: "reserve", Help: "bytes to reserve for the certificates, the signature and its timestamp, in each program", Default: "24576"},
		{Name: "signing-time", Help: "claim the time of signing in the signatures", Values: yes, Default: "true"},
		{Name: "team", Help: "team identifier; without it that of a certificate that Apple issued"},
	}
}

// Detect says whether a is a folder with the Info.plist of a bundle.
func (Format) Detect(a format.Artifact) bool {
	if !format.IsTree(a) {
		return false
	}
	t, err := format.ReadTree(a)
	if err != nil {
		return false
	}
	_, err = rootOf(t, "")
	return err == nil
}
