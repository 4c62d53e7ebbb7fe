// Package records signs the records of an application's database, and protects
// them where they run: security jobs, import, scan, tamper watch, moving.
//
// Nothing here uses a key. A job makes a plan of what is to be signed and hands it
// in as an ordinary request ([Signer]); the quorum endorses it and the keeper signs.
//
// Invariants:
//
//  1. On a protected instance nothing is signed, whoever asks: every way to a
//     [Signer] goes through [Instance.MaySign], when a job is made and again before
//     each of its steps.
//  2. What is signed is what was planned. A job's statements are written to the
//     platform before their root is submitted, and can be read as signatures only
//     when that root is signed. A record that changed meanwhile does not verify.
//  3. A job may be killed at any point. Its next worker goes on behind what the
//     platform holds, and ends with the same root over the same records.
//  4. One worker at a time moves a job: whoever is late changes nothing
//     ([store.SecurityJobs]).
//  5. What is believed of others comes from the circle of trust alone ([Belief]):
//     whether it is enforced, whose signatures count, what is revoked. No option and
//     no role of an instance's own makes it believe more.
//  6. An import is one transaction. An operation that does not verify is in no
//     import, accepted or not; malformed input changes nothing.
//  7. A build in which a record that a configuration asks for has no signature, or
//     a table that was named has no record, fails.
//
// A caller may not conclude from a job that is Done that every record of a table is
// signed: records come and change. Scan says what is.
package records
