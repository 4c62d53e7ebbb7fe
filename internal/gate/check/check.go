// Package check is what the checks of gates have in common: what they see of a file,
// what they answer, and the external programs that some of them run.
//
// Invariants:
//
//  1. An opinion for a file is a value that says so; the zero Opinion disapproves.
//  2. An error is no opinion.
//  3. A program gets an environment of its own, a limited time and a limited output,
//     and is ended with everything that it started.
package check

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// File is one file of a request.
type File struct {
	ID      statement.ID // of the request
	Request *statement.Request
	Index   int
	Item    *format.Item
	Plan    *format.Plan
	Path    string // of the bytes whose plan is exactly Item.Plan; "": only the plan is known
}

// Opinion is what a check says of a file.
type Opinion struct {
	Endorse bool
	Reason  string // for the requester; one line
}

// Check judges files. It is safe for concurrent use.
type Check interface {
	// File judges one file.
	File(ctx context.Context, f *File) (Opinion, error)
	// Bytes reports whether File wants the file's bytes.
	Bytes() bool
}

// Ready is a check that can say, before a request is looked at, that it cannot judge
// at all.
type Ready interface {
	Ready(ctx context.Context) error
}

// Against is an opinion that disapproves.
func Against(reason string) Opinion { return Opinion{Reason: reason} }

// For is an opinion that endorses.
func For(reason string) Opinion { return Opinion{Endorse: true, Reason: reason} }

// Description is what a program reads of a file, as JSON.
type Description struct {
	Request   string            `json:"request"`
	Requester string            `json:"requester"`
	Policy    string            `json:"policy"`
	Purpose   string            `json:"purpose,omitzero"`
	Reason    string            `json:"reason,omitzero"`
	Origin    map[string]string `json:"origin"` // the requester's word
	Created   time.Time         `json:"created"`
	Index     int               `json:"index"`
	Count     int               `json:"count"`
	Name      string            `json:"name"`   // the requester's word
	Claims    map[string]string `json:"claims"` // the requester's word
	Format    string            `json:"format"`
	Digest    string            `json:"digest"`  // name of the hash
	Content   string            `json:"content"` // hexadecimal
	Size      int64             `json:"size"`
	Params    map[string]string `json:"params"`
	Facts     []Fact            `json:"facts"` // findings where artifact is set, else the requester's word
	Plan      []byte            `json:"plan"`  // encoded, in base64
	Artifact  string            `json:"artifact,omitzero"`
}

// Fact is a format.Fact in JSON.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Describe is the description of a file.
func (f *File) Describe() *Description {
	args := f.Request.Command.Sign
	d := &Description{
		Request: f.ID.String(), Requester: f.Request.Requester, Policy: args.Policy, Purpose: args.Purpose, Reason: f.Request.Reason,
		Origin: map[string]string{}, Created: f.Request.Created, Index: f.Index, Count: args.Count,
		Name: f.Item.Name, Claims: mapOf(f.Item.Claims), Format: f.Plan.Format, Digest: f.Plan.Digest, Content: hex.EncodeToString(f.Plan.Content),
		Size: f.Plan.Size, Params: mapOf(f.Plan.Params), Facts: []Fact{}, Plan: f.Item.Plan, Artifact: f.Path,
	}
	for _, o := range f.Request.Origin {
		d.Origin[o.Name] = o.Value
	}
	for _, x := range f.Plan.Facts {
		d.Facts = append(d.Facts, Fact(x))
	}
	return d
}

func mapOf(fs []format.Fact) map[string]string {
	m := map[string]string{}
	for _, f := range fs {
		m[f.Name] = f.Value
	}
	return m
}

// Claim is what the requester claims of the file under a name.
func (f *File) Claim(name string) (string, bool) {
	for _, c := range f.Item.Claims {
		if c.Name == name {
			return c.Value, true
		}
	}
	return "", false
}
