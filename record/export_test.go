package record

// Without is the verifier with one of its Steps taken out: what a test shows to be
// accepted then is what the step is for.
func (v *Verifier) Without(step string) *Verifier {
	c := *v
	c.without = step
	return &c
}

// Append is the encoding of a statement that was not checked.
func (s *Statement) Append() []byte { return s.append(nil) }

// WithoutCache is the verifier with an empty cache.
func (v *Verifier) WithoutCache() *Verifier {
	c := *v
	c.roots = NewRoots(1)
	return &c
}
