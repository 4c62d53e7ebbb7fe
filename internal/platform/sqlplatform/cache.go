package sqlplatform

// cache keeps values up to a number of bytes; what came first goes first.
type cache[K comparable, V ~[]byte] struct {
	room, used int
	values     map[K]V
	order      []K
}

func (c *cache[K, V]) get(k K) (V, bool) {
	v, ok := c.values[k]
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	if _, ok := c.values[k]; ok || len(v) > c.room {
		return
	}
	if c.values == nil {
		c.values = map[K]V{}
	}
	for c.used+len(v) > c.room {
		old := c.order[0]
		c.order = c.order[1:]
		c.used -= len(c.values[old])
		delete(c.values, old)
	}
	c.values[k], c.used, c.order = v, c.used+len(v), append(c.order, k)
}
