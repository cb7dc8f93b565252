package admin

import "slices"

// smallest keeps the smallest of many values. It uses memory for twice as many as it keeps.
type smallest[T any] struct {
	limit   int
	compare func(a, b T) int
	kept    []T
	// isFull reports that the first limit values of kept are in order. Further values must be smaller than the last of
	// these.
	isFull bool
}

func (s *smallest[T]) add(v T) {
	if s.isFull && s.compare(v, s.kept[s.limit-1]) >= 0 {
		return
	}
	if s.kept = append(s.kept, v); len(s.kept) >= 2*s.limit {
		s.sorted()
	}
}

// sorted returns the smallest values in order.
func (s *smallest[T]) sorted() []T {
	slices.SortFunc(s.kept, s.compare)
	if s.isFull = len(s.kept) >= s.limit; s.isFull {
		s.kept = s.kept[:s.limit]
	}
	return s.kept
}
