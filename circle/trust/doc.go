// Package trust is what the trusted side of a circle says: which instances there
// are, whose signatures of records are believed, under which configurations, what
// is revoked, and where signatures are enforced. Everything that changes trust is
// a [Statement], a new version of the whole; a [Freshness] statement says only
// that a version is still the newest.
//
// Both are in-toto statements, encoded as package statement encodes: JSON without
// insignificant white space, members in the order of the structs here, maps sorted
// by key. [Decode] and [DecodeFreshness] encode what they have read and refuse
// bytes that differ. docs/spec/circle.md describes them for another implementation.
//
// Invariants:
//
//  1. What a Decode accepts has passed Check and re-encodes to itself.
//  2. A Statement is whole: it replaces the one before and inherits nothing.
//  3. A Statement and a Freshness are never taken for each other: the predicate
//     type is in the signed bytes.
//  4. Lists that are sets are sorted and without doubles; what a list says twice
//     is refused.
//  5. No anchor is believed for statements of circles: these are judged by the
//     charter (package circle) and by nothing that they say of themselves.
//  6. Nothing here reads a clock, a file or a network.
//
// A caller may not conclude from a Statement that anybody has agreed to it: that
// is package circle's Judge to say.
package trust
