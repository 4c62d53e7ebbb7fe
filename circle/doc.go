// Package circle keeps what a protected instance, or an agent, believes of the
// trusted sides that it has pinned: versions of trust statements, each agreed to
// by the quorum of that side's charter (package quorum, by way of package verify),
// and freshness statements.
//
// Enforcement on and off, revocations, anchors, the root of trust: all of it is in
// a version and changes with a version alone. Who is an administrator of the
// protected instance, or of the machine between, does not matter here.
//
//	c, err := circle.New(ctx, store, roots...)   // roots: IDs of first charters
//	err = c.Apply(ctx, bundle, now)              // from a server, or from a file
//	t, err := c.Trusted(now)                     // what is believed now
//	v, err := record.NewVerifier(t.Records("prod"), …)
//
// # Invariants
//
//  1. A [Version] is made by [Judge] alone, and a [Trusted] by [Circle.Trusted]
//     alone. State that was stored is judged again when it is read: a store that
//     was written by somebody else can withhold, and cannot add.
//  2. A version replaces one with a lower number and no other (roll-back). The
//     next one names its predecessor; where versions in between are not known,
//     the charter's quorum is enough.
//  3. What has expired is not believed, nor a version whose freshness statement
//     is missing, expired or of another version (freeze, mix-and-match).
//  4. The signatures under one side's charter say nothing of another side's
//     instances: of every name, the side that was pinned first speaks. Revocations
//     and "enforcement on" of every side count everywhere.
//  5. Time does not go back: a clock that is behind the latest time at which trust
//     was given is refused.
//  6. A key that serves without a quorum — of freshness, of orders, of records —
//     changes no trust: purpose, predicate type and quorum are judged here.
//  7. Everything has a limit before it is read: updates, bundles, state.
//
// # What a caller may not conclude
//
// Trusted is the newest that this machine has seen. A network that withholds
// newer versions is noticed when the freshness statement, or where none is asked
// for the version itself, expires; not before. Whoever restores the state file of
// an earlier day and turns back the clock as well has the trust of that day, until
// the next update: what is kept on the machine does not defend itself against whom
// the machine obeys. A state file restored under an honest clock costs nothing
// where freshness statements are short.
package circle
