package charters

import "sync"

// kept are things that never change once they are there, and that take long to make:
// the most of them that are remembered, by what they are of.
type kept[K comparable, V any] struct {
	most int
	mu   sync.Mutex
	all  map[K]V
}

// get is the thing of k, made where it is not remembered. Its readers do not change it.
func (s *kept[K, V]) get(k K, fresh func() (V, error)) (V, error) {
	s.mu.Lock()
	v, ok := s.all[k]
	s.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := fresh()
	if err != nil {
		return v, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil || len(s.all) >= s.most {
		s.all = map[K]V{}
	}
	s.all[k] = v
	return v, nil
}
