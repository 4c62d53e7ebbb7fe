package quorum

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/greatseal-io/greatseal/credential"
)

// Cache remembers signatures that verified, so that a request that is judged again
// costs no public-key operation. Signatures that did not verify are not kept. It
// is safe for concurrent use, and holds no more than it was made for: the oldest
// entry makes room.
//
// Whether a signature verifies is a function of credential, purpose, message and
// signature, so that what is remembered is what another verification would say;
// who has a seat, when, and for what is never remembered. Sharing a cache is
// trusting whoever else holds it with one's own memory: it is for parts of one
// process.
//
// An entry is SHA-256 over the credential's kind and text (a passkey's ID does not
// commit to its key), the purpose, the message and the signature, each with its
// length.
//
// It also remembers what envelopes say (see [Cache.Endorsement]), up to a number of
// bytes: reading one strictly costs more than finding it by its SHA-256.
type Cache struct {
	mu   sync.Mutex
	set  map[[sha256.Size]byte]struct{}
	ring [][sha256.Size]byte
	next int
	read readings
}

// NewCache makes a cache for n signatures, at least one.
func NewCache(n int) *Cache {
	n = max(1, n)
	return &Cache{set: make(map[[sha256.Size]byte]struct{}, n), ring: make([][sha256.Size]byte, 0, n)}
}

// Len is the number of signatures remembered.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.set)
}

func (c *Cache) key(cred *cred, p credential.Purpose, message, sig []byte) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{cred.mark[:], []byte(p), message, sig} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// verify checks a signature, or finds that it was checked before. A nil cache
// checks every time.
func (c *Cache) verify(cr *cred, p credential.Purpose, message, sig []byte) error {
	if c == nil {
		return cr.Verify(p, message, sig)
	}
	k := c.key(cr, p, message, sig)
	c.mu.Lock()
	_, known := c.set[k]
	c.mu.Unlock()
	if known {
		return nil
	}
	if err := cr.Verify(p, message, sig); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.set[k]; known {
		return nil
	}
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, k)
	} else {
		delete(c.set, c.ring[c.next])
		c.ring[c.next] = k
		c.next = (c.next + 1) % len(c.ring)
	}
	c.set[k] = struct{}{}
	return nil
}
