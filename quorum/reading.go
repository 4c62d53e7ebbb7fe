package quorum

import (
	"crypto/sha256"
	"fmt"

	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// What is kept of what was read: maxRead bytes of envelopes in all, and nothing of
// an envelope that is larger than maxEnvelope.
const (
	maxRead     = 16 << 20
	maxEnvelope = 16 << 10
)

// readings are envelopes that were accepted, as they were read, by SHA-256 of what
// they were read as and of every byte. What an envelope says is a function of
// these. The oldest makes room.
type readings struct {
	by   map[[sha256.Size]byte]reading
	ring [][sha256.Size]byte // the oldest first
	size int
}

// reading is nobody's to change: those who judge get copies of the statement.
type reading struct {
	env  *statement.Envelope
	id   statement.ID
	says any // a statement.Request, Endorsement or Receipt
	size int
}

func readingKey(kind string, parts ...[]byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(kind))
	for _, p := range parts {
		h.Write(p)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (c *Cache) reading(k [sha256.Size]byte) (reading, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.read.by[k]
	return r, ok
}

func (c *Cache) remember(k [sha256.Size]byte, r reading) {
	if r.size > maxEnvelope {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rs := &c.read
	if _, known := rs.by[k]; known {
		return
	}
	if rs.by == nil {
		rs.by = map[[sha256.Size]byte]reading{}
	}
	rs.by[k] = r
	rs.ring = append(rs.ring, k)
	for rs.size += r.size; rs.size > maxRead; rs.ring = rs.ring[1:] {
		rs.size -= rs.by[rs.ring[0]].size
		delete(rs.by, rs.ring[0])
	}
}

// read reads an envelope with one signature around a statement of kind P, or finds
// that it was read before. A nil cache reads every time.
func read[P statement.Predicate](c *Cache, envelope []byte) (*statement.Envelope, statement.ID, P, error) {
	var says P
	var k [sha256.Size]byte
	if c != nil {
		k = readingKey(says.PredicateType()+"\x00", envelope)
		if r, ok := c.reading(k); ok {
			return r.env, r.id, r.says.(P), nil
		}
	}
	env, err := single(envelope)
	if err != nil {
		return nil, statement.ID{}, says, err
	}
	id := env.ID()
	if says, err = statement.Decode[P](env.Payload); err != nil {
		return env, id, says, err
	}
	if c != nil {
		c.remember(k, reading{env, id, says, len(envelope)})
	}
	return env, id, says, nil
}

// Endorsement reads an endorsement's envelope strictly, as judging does: one
// signature, which nobody has verified. The caller changes nothing of what it gets.
func (c *Cache) Endorsement(envelope []byte) (*statement.Envelope, statement.ID, *statement.Endorsement, error) {
	env, id, e, err := read[statement.Endorsement](c, envelope)
	return env, id, &e, err
}

// Request is Endorsement for a request's envelope.
func (c *Cache) Request(envelope []byte) (*statement.Envelope, statement.ID, *statement.Request, error) {
	env, id, r, err := read[statement.Request](c, envelope)
	return env, id, &r, err
}

// Receipt is key.Verify, or finds that the same envelope was verified with the same
// key before. The caller changes nothing of what it gets.
func (c *Cache) Receipt(key *receipt.Key, envelope []byte) (*statement.Receipt, statement.ID, error) {
	if c == nil {
		return key.Verify(envelope)
	}
	name := key.Public()
	k := readingKey(fmt.Sprintf("receipt %d\x00", len(name)), name, envelope)
	if r, ok := c.reading(k); ok {
		rc := r.says.(statement.Receipt)
		return &rc, r.id, nil
	}
	rc, id, err := key.Verify(envelope)
	if err != nil {
		return nil, id, err
	}
	c.remember(k, reading{nil, id, *rc, len(envelope)})
	return rc, id, nil
}
