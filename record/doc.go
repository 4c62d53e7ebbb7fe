// Package record is what is said, signed and judged of records that execute:
// scripts, SQL of data sources, business rules and their attachments.
//
// A [Configuration] says which fields of a table's records are signed, and for what
// purpose. A [Statement] says of one record, by a digest for each of its fields,
// what was signed. The statements of a job are the leaves of a Merkle tree (package
// merkle, domain Records); the [Job] describes them as a whole, and a [SignedRoot]
// is the job with one signature by a key. A [Signature] is what a record carries: its
// statement, the path to the root, and the signed root. docs/spec/records.md gives
// every byte.
//
// A [Verifier] judges with a [Trust]: what is believed now. Each of its checks is a
// step with a name (steps.go). [Trusted] and [Deletion] are its verdicts.
//
// Invariants:
//
//  1. Whatever Decode… accepts re-encodes to itself.
//  2. A Trusted comes from [Verifier.Verify] alone and holds what was verified and
//     nothing else: a field that no statement covers is not in it.
//  3. A refusal is a *rejection.Error that names what failed, never a value.
//  4. A statement counts only where its job says so too: purpose, table, issuer,
//     audience, configuration and number, which the people who endorsed the job saw.
//  5. What is cached is a signed root as one trust judges it ([Roots]), never what
//     was decided of a record.
//  6. Of one certificate's statements on a record only the newest counts, and no
//     revision below the highest that is known counts at all.
//
// A caller may not conclude from a Trusted that the record meets its
// configuration's condition, nor use anything but the Trusted's own values: the
// record that was handed in may have changed since.
package record
