// An OpenID provider for tests: oidc-provider with the people and clients of a file.
// Its own pages for development let in whoever writes a name, with any password.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const key = (alg, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), use: 'sig', alg, kid: alg,
});
const keys = {
  RS256: () => key('RS256', 'rsa', { modulusLength: 2048 }),
  PS256: () => key('PS256', 'rsa', { modulusLength: 2048 }),
  ES256: () => key('ES256', 'ec', { namedCurve: 'P-256' }),
  EdDSA: () => key('EdDSA', 'ed25519'),
};
const provider = new Provider(config.issuer, {
  clients: config.clients,
  jwks: { keys: [keys[config.algorithm]()] },
  enabledJWA: { idTokenSigningAlgValues: [config.algorithm] },
  findAccount: (ctx, id) => config.users[id] && {
    accountId: id, claims: async () => ({ sub: id, ...config.users[id] }),
  },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username'], groups: ['groups'] },
  conformIdTokenClaims: config.thin, // true: they come from userinfo alone
  features: {
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
  },
  pkce: { required: () => true },
  // Without the guard that keeps it from calling its own machine, where tests are.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  cookies: { keys: ['of a test'] },
});
provider.on('server_error', (ctx, err) => console.error(err));
provider.on('backchannel.error', (ctx, err) => console.error(err));
createServer({ key: readFileSync(config.key), cert: readFileSync(config.cert) }, provider.callback())
  .listen(config.port, '127.0.0.1');
