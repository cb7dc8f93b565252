package smallset

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSet_AsMap does to a set what it does to a map.
func TestSet_AsMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s Set[int]
		want := map[int]struct{}{}
		value := rapid.IntRange(0, 3*maxFew)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				v := value.Draw(t, "value")
				s.Add(v)
				want[v] = struct{}{}
			},
			"remove": func(t *rapid.T) {
				v := value.Draw(t, "value")
				s.Remove(v)
				delete(want, v)
			},
			"remove some of all": func(t *rapid.T) {
				odd := rapid.IntRange(0, 1).Draw(t, "odd")
				for v := range s.All() {
					if v%2 == odd {
						s.Remove(v)
						delete(want, v)
					}
				}
			},
			"": func(t *rapid.T) {
				if got := slices.Sorted(s.All()); !slices.Equal(got, slices.Sorted(maps.Keys(want))) || s.Len() != len(want) {
					t.Fatalf("%d values %v, want %v", s.Len(), got, slices.Sorted(maps.Keys(want)))
				}
				for v := range 3 * maxFew {
					if _, isIn := want[v]; s.Has(v) != isIn {
						t.Fatalf("has %d: %t", v, !isIn)
					}
				}
				if s.Len() == 0 && (s.few != nil || s.many != nil) {
					t.Fatal("an empty set holds memory")
				}
			},
		})
	})
}

func TestSet_All_StopsWithItsCaller(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 3 * maxFew} {
		var s Set[int]
		for v := range size {
			s.Add(v)
		}
		n := 0
		for range s.All() {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("of %d values %d were yielded after the end", size, n-2)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	s := Of(1, 2, 1)
	if got := slices.Sorted(s.All()); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got %v", got)
	}
}
