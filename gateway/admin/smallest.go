package admin

import "slices"

// smallest keeps the smallest of many values, in memory for twice as many as it keeps.
type smallest[T any] struct {
	most    int
	compare func(a, b T) int
	kept    []T
	// full: the first of kept, as many as most, are in order, so that the last of those is what others must be below.
	full bool
}

func (s *smallest[T]) add(v T) {
	if s.full && s.compare(v, s.kept[s.most-1]) >= 0 {
		return
	}
	if s.kept = append(s.kept, v); len(s.kept) >= 2*s.most {
		s.sorted()
	}
}

// sorted are those kept, in order.
func (s *smallest[T]) sorted() []T {
	slices.SortFunc(s.kept, s.compare)
	if s.full = len(s.kept) >= s.most; s.full {
		s.kept = s.kept[:s.most]
	}
	return s.kept
}
