// Package updateset reads, signs and judges update sets: what moves configuration
// from one instance to another, as one XML file or as a folder under source control
// (docs/spec/updatesets.md).
//
//	<unload>                      one file
//	  <sys_remote_update_set>     the set: name, state, application
//	  <sys_update_xml>            one update: outer action, name, and
//	    <payload>                 a whole XML document inside the text, whose
//	      <record_update>         operations are what an import does
//
// A [Set] is a file of which every update was read and understood; nothing is handed
// out before that, and what is read again later is held against the digests of the
// first time. [Set.Seal] adds signatures as updates of the set's own kind; [Verify]
// judges every operation; only [Preview.Approve] makes an [Approved], which is what
// an importer applies.
//
// Invariants:
//
//  1. A set that holds anything that is not understood is refused as a whole, with
//     one error that says where and what to do. No DTD, no comment, no processing
//     instruction, no entity but XML's own five, no name with a colon, no element or
//     attribute twice.
//  2. Every operation of every payload is listed, in order; outer and inner action
//     and id agree or the set is refused (ACTION_MISMATCH).
//  3. Memory is bounded by one update, and by some hundred bytes for each update of
//     the set.
//  4. Sealing leaves every byte that was there, in its order; what is added has names
//     that follow from its content, so that sealing twice changes nothing.
//  5. An attachment is handed out only when its chunks are positions 0 to n-1 of one
//     gzip stream of exactly the size that is said.
//  6. An Approved holds no operation on a protected table that no valid signature
//     covers, no bulk operation that reaches one, and nothing that removes signatures.
//
// A caller may not conclude from a Set that anything in it is trusted, nor from
// payload_hash that anything is intact: it is a change detector of 32 bits.
package updateset
