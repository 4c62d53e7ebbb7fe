// SHA-256 (FIPS 180-4) piece by piece: WebCrypto takes a file only as a whole.
"use strict";
(function (global) {
  const K = new Int32Array(64);
  const H = new Int32Array(8);
  // The constants are the fractions of roots of primes, cut to 32 bits.
  (function () {
    let n = 0;
    for (let p = 2; n < 64; p++) {
      let prime = true;
      for (let d = 2; d * d <= p; d++) if (p % d === 0) { prime = false; break; }
      if (!prime) continue;
      const cut = (x) => ((x - Math.floor(x)) * 4294967296) | 0;
      if (n < 8) H[n] = cut(Math.pow(p, 1 / 2));
      K[n++] = cut(Math.pow(p, 1 / 3));
    }
  })();

  class SHA256 {
    constructor() {
      this.h = new Int32Array(H);
      this.w = new Int32Array(64);
      this.block = new Uint8Array(64);
      this.filled = 0;
      this.length = 0;
    }

    update(bytes) {
      this.length += bytes.length;
      let at = 0;
      if (this.filled > 0) {
        const n = Math.min(64 - this.filled, bytes.length);
        this.block.set(bytes.subarray(0, n), this.filled);
        this.filled += n;
        at = n;
        if (this.filled < 64) return this;
        this.compress(this.block, 0);
        this.filled = 0;
      }
      for (; at + 64 <= bytes.length; at += 64) this.compress(bytes, at);
      if (at < bytes.length) {
        this.block.set(bytes.subarray(at), 0);
        this.filled = bytes.length - at;
      }
      return this;
    }

    compress(b, at) {
      const w = this.w, h = this.h;
      for (let i = 0; i < 16; i++, at += 4) w[i] = (b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3];
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15], y = w[i - 2];
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let a = h[0], c1 = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
      for (let i = 0; i < 64; i++) {
        const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const t1 = (k + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const t2 = (s0 + ((a & c1) ^ (a & c) ^ (c1 & c))) | 0;
        k = g; g = f; f = e; e = (d + t1) | 0;
        d = c; c = c1; c1 = a; a = (t1 + t2) | 0;
      }
      h[0] = (h[0] + a) | 0; h[1] = (h[1] + c1) | 0; h[2] = (h[2] + c) | 0; h[3] = (h[3] + d) | 0;
      h[4] = (h[4] + e) | 0; h[5] = (h[5] + f) | 0; h[6] = (h[6] + g) | 0; h[7] = (h[7] + k) | 0;
    }

    // hex ends the hash.
    hex() {
      const length = this.length, rest = this.filled;
      const pad = new Uint8Array(rest < 56 ? 64 - rest : 128 - rest);
      pad[0] = 0x80;
      const high = Math.floor(length / 536870912), low = (length * 8) % 4294967296;
      const n = pad.length;
      for (let i = 0; i < 4; i++) {
        pad[n - 8 + i] = (high >>> (24 - 8 * i)) & 255;
        pad[n - 4 + i] = (low >>> (24 - 8 * i)) & 255;
      }
      this.update(pad);
      let out = "";
      for (let i = 0; i < 8; i++) out += (this.h[i] >>> 0).toString(16).padStart(8, "0");
      return out;
    }
  }
  global.GreatsealSHA256 = SHA256;
})(globalThis);
