package web

// Mark is what stands for a call's token until a page is sent.
func (s *Site) Mark() string { return s.mark }
