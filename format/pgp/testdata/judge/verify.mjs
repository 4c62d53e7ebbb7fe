// verify.mjs LIBRARY KEY MODE FILE [SIGNATURE]: exits with 0 when OpenPGP.js takes every
// signature. MODE is detached, text, inline or cleartext.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [library, keyFile, mode, file, signatureFile] = process.argv.slice(2);
const openpgp = createRequire(library + '/')('openpgp');
const date = new Date('2026-06-02T00:00:00Z');
const verificationKeys = await openpgp.readKeys({ binaryKeys: new Uint8Array(readFileSync(keyFile)) });
const content = readFileSync(file);
let result;
if (mode === 'cleartext') {
  const message = await openpgp.readCleartextMessage({ cleartextMessage: content.toString('utf8') });
  result = await openpgp.verify({ message, verificationKeys, date });
} else if (mode === 'inline') {
  const message = await openpgp.readMessage({ binaryMessage: new Uint8Array(content) });
  result = await openpgp.verify({ message, verificationKeys, date, format: 'binary' });
} else {
  const message = mode === 'text'
    ? await openpgp.createMessage({ text: content.toString('utf8') })
    : await openpgp.createMessage({ binary: new Uint8Array(content) });
  const signature = await openpgp.readSignature({ binarySignature: new Uint8Array(readFileSync(signatureFile)) });
  result = await openpgp.verify({ message, signature, verificationKeys, date, format: mode === 'text' ? 'utf8' : 'binary' });
}
if (result.signatures.length === 0) throw new Error('no signature');
for (const s of result.signatures) await s.verified;
