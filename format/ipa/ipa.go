// Package ipa is code signing for applications of iOS and the systems like it: the
// archive (.ipa, a ZIP with Payload/X.app) or the bundle in it as a folder. Package
// macho signs the code, package bundle is for macOS.
//
//	Payload/A.app/A, Info.plist, embedded.mobileprovision, _CodeSignature/CodeResources
//	    └ Frameworks/B.framework/B, Info.plist, _CodeSignature/CodeResources
//	    └ Frameworks/c.dylib
//	    └ PlugIns/E.appex/E, …, Frameworks/…
//
// These bundles are shallow: the program stands beside the resources. The list of a
// bundle names everything in it by digests of files, the signed code of other bundles
// too. So what is inside is signed first, and the list of what contains it follows from
// those signatures: signing takes as many rounds as bundles are nested. Of the code
// inside, plans carry the state of the hashes up to where its signature will stand
// (package hashstate); the keeper writes the signature itself and finishes them.
//
// Invariants:
//
//  1. Plan reads each file once; programs are held in memory, of limited size.
//  2. The lists follow from the plan, the identity and the signatures of earlier rounds
//     alone; Assemble writes them.
//  3. Every program and library in the application is signed, and Verify wants that.
//  4. Verify accepts an application only when its lists have the standard rules, name
//     what is there and nothing else, and are sealed by the programs' signatures; what
//     the rules leave out, and what stands beside the application, is reported.
//  5. Where a bundle has a provisioning profile, its entitlements are within what the
//     profile grants and the certificate that signs is one of the profile's: neither is
//     signed otherwise, nor verified.
//  6. Attach changes programs and lists, and nothing else. In an archive they are
//     written anew with the compression that they had, and lists that were not there
//     stand behind all others; other entries stay as they are, byte for byte.
//  7. Code inside has no timestamp: it would change what contains it.
//
// What is refused although it exists: universal files inside, where the second slice
// follows a signature (lipo -thin); more than four levels of code; bundles of macOS
// inside; lists with rules of their own; the link CodeResources of old systems.
//
// A caller may not conclude that Apple made a provisioning profile, whose signature is
// not judged, nor anything about permissions of files, or about the stub that watchOS
// gives to applications (_WatchKitStub), which is sealed as any file.
package ipa

import (
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read.
const (
	maxInfo     = 512 << 10
	maxProfile  = 256 << 10
	maxList     = 16 << 20
	maxSmall    = 64 << 20  // bytes of all of these
	maxProgram  = 256 << 20 // bytes of one program: a patch holds no more
	maxPrograms = 512 << 20 // bytes of all programs
	maxCode     = 256       // pieces of code
)

// What callers branch on.
var (
	ErrNotApplication = errors.New("ipa: not an application of iOS")
	ErrMalformed      = errors.New("ipa: malformed application")
	ErrUnsigned       = fmt.Errorf("ipa: not signed: %w", format.ErrUnsigned)
	ErrSealed         = errors.New("ipa: files are not those that were signed")
	ErrChanged        = errors.New("ipa: it is not the one that was planned")
	ErrPlan           = errors.New("ipa: plan contradicts itself")
	ErrProfile        = errors.New("ipa: provisioning profile does not allow it")
	ErrUniversal      = errors.New("ipa: universal file inside an application: take one slice of it with lipo -thin")
)

var (
	errDetached = errors.New("ipa: signatures stand in the application, not beside it")
	errStamped  = errors.New("ipa: only the application's own program takes timestamps")
)

const name = "ipa"

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Format implements format.Format and its optional interfaces.
type Format struct{}

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "ipa".
func (Format) Name() string { return name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	yes := []string{"true", "false"}
	return []format.Option{
		{Name: "entitlements", Help: "entitlements of the application: an XML property list on one line, or the base64 of one"},
		{Name: "flags", Help: "flags of all signatures, joined by commas: runtime, library, kill, hard, expires, restrict, enforcement, host; or none", Default: "none"},
		{Name: "nested-entitlements", Help: "entitlements of bundles inside: a dictionary by their paths, PlugIns/E.appex, of dictionaries, as an XML property list or the base64 of one"},
		{Name: "replace", Help: "replace signatures that somebody made", Values: yes, Default: "false"},
		{Name: "reserve", Help: "bytes to reserve for the certificates, the signature and its timestamp, in each program", Default: "24576"},
		{Name: "signing-time", Help: "claim the time of signing in the signatures", Values: yes, Default: "true"},
		{Name: "team", Help: "team identifier; without it that of a certificate that Apple issued"},
	}
}

// Detect says whether a is an archive with an application, or a folder that is one.
func (Format) Detect(a format.Artifact) bool {
	_, err := open(a)
	return err == nil
}
