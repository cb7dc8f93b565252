// Package smallset has sets that are mostly tiny: of the sessions of one user, of whom most have one.
package smallset

import (
	"iter"
	"slices"
)

// maxFew is how many values are searched one by one. Beyond it a map finds them, so that a user with thousands costs no search.
const maxFew = 8

// Set is a set of values. With few of them it is a slice, which takes a tenth of a map's memory. The zero value is empty. It is not
// safe for concurrent use.
type Set[T comparable] struct {
	few  []T
	many map[T]struct{} // nil: few holds all
}

// Of returns a set of the values.
func Of[T comparable](values ...T) (s Set[T]) {
	for _, v := range values {
		s.Add(v)
	}
	return s
}

// Has reports whether the value is in the set.
func (s *Set[T]) Has(v T) bool {
	if s.many != nil {
		_, has := s.many[v]
		return has
	}
	return slices.Contains(s.few, v)
}

// Add adds the value.
func (s *Set[T]) Add(v T) {
	switch {
	case s.Has(v):
	case s.many != nil:
		s.many[v] = struct{}{}
	case len(s.few) < maxFew:
		s.few = append(s.few, v)
	default:
		s.many = make(map[T]struct{}, 2*maxFew)
		for _, w := range append(s.few, v) {
			s.many[w] = struct{}{}
		}
		s.few = nil
	}
}

// Remove removes the value. A set that was emptied holds no memory.
func (s *Set[T]) Remove(v T) {
	if s.many != nil {
		if delete(s.many, v); len(s.many) == 0 {
			s.many = nil
		}
		return
	}
	if i := slices.Index(s.few, v); i >= 0 {
		if s.few = slices.Delete(s.few, i, i+1); len(s.few) == 0 {
			s.few = nil
		}
	}
}

// Len returns the number of values.
func (s *Set[T]) Len() int { return len(s.few) + len(s.many) }

// All yields the values in no order. A value may be removed when it was yielded; none may be added meanwhile.
func (s *Set[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range slices.Clone(s.few) {
			if !yield(v) {
				return
			}
		}
		for v := range s.many {
			if !yield(v) {
				return
			}
		}
	}
}
