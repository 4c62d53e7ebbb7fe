package circle

import "github.com/greatseal-io/greatseal/circle/trust"

// Role is what an instance is by what is known, current or not; "" for one that
// nobody names. An instance does not stop being protected when trust runs out.
func (c *Circle) Role(instance string) trust.Role {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sides {
		if s.version == nil {
			continue
		}
		if i, ok := s.version.statement.Instances[instance]; ok {
			return i.Role
		}
	}
	return ""
}
