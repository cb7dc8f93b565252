package limits

import (
	"errors"
	"testing"

	"usher/actors/session"
)

// TestDecode_Malformed reads no stream with a state that no version has, none that is cut off, and no other layout.
func TestDecode_Malformed(t *testing.T) {
	t.Parallel()
	encoded := func(state session.StreamState, streams int) string {
		s := storedSet{epoch: 1, writes: 2, restored: 3}
		for i := range streams {
			s.streams = append(s.streams, stream{facts: plays(i, 100, 2).on("box").facts, State: state})
		}
		return s.encode()
	}
	isWhole := map[int]bool{}
	for streams := range 3 {
		for _, state := range []session.StreamState{session.StreamActive, session.StreamEvicted, session.StreamSuperseded} {
			text := encoded(state, streams)
			isWhole[len(text)] = true
			if set, err := decode(text); err != nil || len(set.streams) != streams {
				t.Errorf("%v: read %+v, error %v; want %d streams", state, set, err, streams)
			}
		}
	}
	two := encoded(session.StreamSuperseded, 2)
	malformed := map[string]string{
		"an unknown state": encoded(session.StreamSuperseded+1, 2), "another layout": "\x02" + two[1:], "more than streams": two + "x",
	}
	for end := range two {
		if !isWhole[end] {
			malformed["cut off: "+two[:end]] = two[:end]
		}
	}
	for name, text := range malformed {
		if set, err := decode(text); !errors.Is(err, errLayout) || len(set.streams) != 0 {
			t.Errorf("%q: read %+v, error %v", name, set, err)
		}
	}
}
