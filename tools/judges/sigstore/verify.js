// sigstore_verify KEY BUNDLE: verifies a bundle that the public key of a PEM file
// made, without logs and timestamps, and prints the payload.
const { createPublicKey } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity } = require('@sigstore/verify');

const [key, file] = process.argv.slice(2);
const publicKey = createPublicKey(readFileSync(key));
const bundle = bundleFromJSON(JSON.parse(readFileSync(file)));
const trust = {
  certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
  publicKey: () => ({ publicKey, validFor: () => true }),
};
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
verifier.verify(toSignedEntity(bundle));
process.stdout.write(bundle.content.dsseEnvelope.payload);
