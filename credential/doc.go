// Package credential is the public half of what people and machines sign
// endorsements and requests with, and the offline check of their signatures.
//
// There are four kinds. Each has a text form, which charters carry; an [ID],
// which is a fingerprint; and a signature form, which endorsements carry. All
// three forms are strict: what is accepted re-encodes to itself.
//
// # SSH keys
//
// Text: the key type, one space, and the base64 of the key blob, as in an
// authorized_keys file without options ("ssh-ed25519 AAAA…"). [Parse] drops a
// comment. Types: ssh-ed25519, ecdsa-sha2-nistp256, -nistp384, -nistp521,
// ssh-rsa of 3072 to 8192 bits, sk-ssh-ed25519@openssh.com and
// sk-ecdsa-sha2-nistp256@openssh.com.
//
// ID: "ssh:" and the fingerprint that ssh-keygen -l prints.
//
// Signature: the binary SSHSIG blob of OpenSSH's PROTOCOL.sshsig, version 1,
// without armour, in the namespace "statement@greatseal.io" or
// "login@greatseal.io", hash sha256 or sha512, nothing reserved, nothing after
// it. RSA signs with rsa-sha2-256 or rsa-sha2-512. FIDO keys must assert user
// presence.
//
// # X.509 keys
//
// Text: base64 of the SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7), on
// one line. Parse also takes a PEM certificate, of which it keeps the key alone:
// names, dates and issuer mean nothing here. RSA of 3072 to 8192 bits, P-256,
// P-384, P-521, Ed25519.
//
// ID: "x509:" and the SHA-256 of that DER in lower-case hexadecimal.
//
// Signature: one byte n, n bytes that name a [sigalg.Scheme], and the signature
// of that scheme over
//
//	"greatseal x509 " purpose "\n" message
//
// so that 0x07 "ed25519" and 64 bytes are a signature by an Ed25519 key.
//
// # Passkeys
//
// Text: unpadded base64url of the deterministic CBOR (RFC 8949 section 4.2.1) of
//
//	{1: credential id, 2: COSE_Key as a byte string, 3: relying party id,
//	 4: [allowed origins, sorted], 5: backup eligible}
//
// with an ES256, EdDSA (Ed25519) or RS256 (3072 to 8192 bits) key, itself in
// deterministic CBOR.
//
// ID: "passkey:" and the unpadded base64url of the credential id's SHA-256.
//
// Signature: deterministic CBOR {1: authenticatorData, 2: clientDataJSON,
// 3: signature}, the three parts of a WebAuthn assertion as the browser returned
// them. The challenge is SHA-256(message) for statements and
// SHA-256("login\n" message) for logins.
//
// # Workloads
//
// Text: the JSON of a [Workload], which has the issuer's public keys in it. Charters
// carry the rest, and the keys beside it: package charter makes one of the two.
//
// ID: "oidc:" and the SHA-256 of that JSON without the keys in lower-case hexadecimal.
//
// Signature: an ID token as a compact JWS (RFC 7515 section 7.1), for an audience
// that names the message; see [OIDC]. It signs requests, and nothing else that is
// a statement.
//
// # Invariants
//
//  1. A signature for one [Purpose] never verifies for another one.
//  2. What is accepted re-encodes to itself: text forms (after Parse has dropped
//     the comment or the certificate around the key) and signatures.
//  3. Keys that are weak are refused when parsed: DSA, RSA below 3072 bits or with
//     an exponent below 65537, Ed25519 points of small order, certificates in
//     place of SSH keys. Of issuers, RSA keys from 2048 bits are taken.
//  4. A signature by a FIDO key or passkey without a person's presence is refused,
//     by a passkey also one without user verification.
//  5. A passkey signs for its relying party, from the origins in its text, outside
//     of frames of other origins; an assertion whose backup-eligible flag is not
//     the registered one is refused.
//  6. A workload's token verifies for requests made while it was valid, which is an
//     hour at the most, and with the pinned key that it names; nothing in it chooses
//     a key or an algorithm. Where it is bound it verifies for one message.
//  7. Parsers and verifiers allocate in proportion to their input, refuse what is
//     too long, and never panic, whatever the input.
//
// The package is pure: no files, no network, no clock, no randomness.
//
// # What a caller may not conclude
//
// A valid signature does not say that the credential belongs to anybody: charters
// say that. It does not say when it was made. The counters of FIDO keys and
// passkeys are not compared, for want of a state to compare them with.
//
// Signatures are not unique: ECDSA signatures (r, s) and (r, n-s) both verify,
// because ssh, TLS libraries and authenticators make either one, and every
// signature scheme here but RSA PKCS #1 v1.5 lets its signer make several. Nothing
// may be keyed or deduplicated by the bytes of a signature.
//
// The ID of a passkey is made from its credential id, not from its public key:
// it identifies within one charter and commits to nothing. Compare Text where
// sameness of the key matters.
//
// [Credential.Hardware] is what the public key says of itself. A person who makes
// a FIDO key in software can lie; only attestation at enrolment tells.
package credential
