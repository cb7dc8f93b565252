package actors

import (
	"sync"
	"testing"
	"time"
)

func TestAddressSet_AdmitsFirstPrefixes(t *testing.T) {
	t.Parallel()
	type use struct {
		prefix int
		at     int64
		want   bool
	}
	cases := map[string][]use{
		"one prefix many times":                 {{1, 100, true}, {1, 100, true}, {1, 159, true}, {1, 9999, true}},
		"from Wi-Fi to mobile and back":         {{1, 100, true}, {2, 101, true}, {1, 102, true}, {2, 103, true}},
		"the fourth address is one too many":    {{1, 100, true}, {2, 100, true}, {3, 100, true}, {4, 100, false}, {1, 101, true}, {4, 101, false}},
		"a refused prefix takes no slot":        {{1, 100, true}, {2, 100, true}, {3, 100, true}, {4, 150, false}, {4, 161, true}},
		"a slot is free after the idle timeout": {{1, 100, true}, {2, 150, true}, {3, 150, true}, {4, 160, false}, {4, 161, true}, {1, 162, false}},
		"a prefix in use keeps its slot":        {{1, 100, true}, {2, 100, true}, {3, 100, true}, {1, 160, true}, {2, 160, true}, {3, 160, true}, {4, 161, false}},
		"prefixes at the node's start":          {{7, 0, true}, {8, 0, true}, {9, 0, true}, {10, 0, false}},
	}
	for name, uses := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c addressSet
			for i, u := range uses {
				if got := c.admit(prefixOf(u.prefix), u.at, 60, 3); got != u.want {
					t.Errorf("use %d, of prefix %d at %d: admitted %v, want %v", i, u.prefix, u.at, got, u.want)
				}
			}
			if len(c.uses) > 3 {
				t.Errorf("remembers %d addresses, want at most 3", len(c.uses))
			}
		})
	}
}

func TestAddressSet_Concurrent_KeepsLimit(t *testing.T) {
	t.Parallel()
	var c addressSet
	var admitted [8]bool
	var all sync.WaitGroup
	for p := range admitted {
		all.Go(func() {
			for range 100 {
				admitted[p] = c.admit(prefixOf(p+1), 100, 60, 3)
			}
		})
	}
	all.Wait()
	in := 0
	for _, ok := range admitted {
		if ok {
			in++
		}
	}
	if in != 3 {
		t.Errorf("%d addresses admitted, want 3", in)
	}
}

func TestSession_Admit_UsesIdleTimeout(t *testing.T) {
	t.Parallel()
	s := bareSession(idOf(1))
	for _, u := range []struct {
		prefix int
		at     time.Duration
		want   bool
	}{
		{1, 0, true},
		{2, time.Second, false},
		{2, 61 * time.Second, true},
	} {
		if got := s.Admit(prefixOf(u.prefix), in(u.at), 1); got != u.want {
			t.Errorf("prefix %d at %v: admitted %v, want %v", u.prefix, u.at, got, u.want)
		}
	}
}
