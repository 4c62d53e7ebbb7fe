// Package verify judges what Greatseal has done, for people who trust neither its
// server nor its database: it starts from one pinned value, the ID of the first
// charter, and from bytes that anybody may have handed over.
//
// [Judge] takes an evidence document, the proof that travels with one signed
// file. [File] binds the file itself to it. [Log] reads a whole transparency log
// and judges all that the keeper ever executed.
//
// docs/spec/evidence.md and docs/spec/receipts-and-log.md describe both
// algorithms for those who write another verifier.
//
// # Invariants
//
//  1. An [Approval] and a [Verified] are made by [Judge] and [File] alone. Their
//     zero values say nothing: every method of theirs returns nothing.
//  2. A document that [DecodeEvidence] accepts re-encodes to itself.
//  3. Every byte of a document that Judge has accepted was used: there is none
//     that could be another one and the judgement still the same. Three things
//     are nobody's signed word and may differ: the order of the founders'
//     signatures, the times at which charters before that of the receipt came
//     into force (that they did, the receipt says, by the charter that it names),
//     and how many endorsements stand in it that were not needed.
//  4. Judge asks for the same as the keeper, of the same code: the charter chain
//     from the root, the quorum under the charter of the receipt and at its time,
//     the item among the items that were endorsed, what the format signs.
//  5. File fails closed: the format's own verifier passes the file, and one of the
//     signatures in it is that of the document, by its key, over the content of
//     the plan.
//  6. Log needs memory for the requests, some 250 bytes each, and a bounded number
//     of bodies; never for the log. It stops at [MaxProblems].
//  7. The package has no clock and no network, and reads no files but the
//     Artifact and the log that it is given.
//
// # What a caller may not conclude
//
// An Approval does not say that a file is harmless: it says who approved it. It
// does not say that the key is still in good standing today, nor that the
// checkpoint in it is the newest or the one that others see. That nothing was
// executed beside the log follows from Log, whose report ends at the head that
// was read. Names, reasons and claims in requests are the requester's word.
package verify
