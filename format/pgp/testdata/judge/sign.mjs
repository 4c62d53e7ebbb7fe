// sign.mjs LIBRARY MODE FILE KEY SIGNED: makes a version 6 key and signs FILE with it:
// MODE is detached, inline or cleartext.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [library, mode, file, keyFile, signed] = process.argv.slice(2);
const openpgp = createRequire(library + '/')('openpgp');
const config = { v6Keys: true };
const { privateKey, publicKey } = await openpgp.generateKey({ type: 'curve25519', userIDs: [{ name: 'A', email: 'a@example.com' }], format: 'object', config });
writeFileSync(keyFile, publicKey.write());
const content = readFileSync(file);
let out;
if (mode === 'cleartext') {
  out = await openpgp.sign({ message: await openpgp.createCleartextMessage({ text: content.toString('utf8') }), signingKeys: privateKey, config });
} else {
  out = await openpgp.sign({ message: await openpgp.createMessage({ binary: new Uint8Array(content) }), signingKeys: privateKey, detached: true, format: 'binary', config });
}
writeFileSync(signed, out);
