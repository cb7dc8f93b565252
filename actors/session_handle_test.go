package actors

import (
	"strings"
	"testing"
	"time"

	"usher/backends"
)

// TestSession_Seen_BeginsToPlay: a viewer plays from their first segment or second playlist on, and that is told once, if their
// user has a limit.
func TestSession_Seen_BeginsToPlay(t *testing.T) {
	t.Parallel()
	const playlist, segment = true, false
	for name, test := range map[string]struct {
		requests  []bool
		isLimited bool
		isPlaying bool
		told      int
	}{
		"a first playlist":                    {[]bool{playlist}, true, false, 0},
		"a second playlist":                   {[]bool{playlist, playlist}, true, true, 1},
		"a segment":                           {[]bool{segment}, true, true, 1},
		"a playlist and a segment":            {[]bool{playlist, segment}, true, true, 1},
		"many segments":                       {[]bool{segment, segment, segment}, true, true, 1},
		"many playlists":                      {[]bool{playlist, playlist, playlist, playlist}, true, true, 1},
		"a segment of a user without a limit": {[]bool{segment, segment}, false, true, 0},
	} {
		s, told := bareSession(idOf(1)), 0
		s.policy().onPlaying = func(*Session) { told++ }
		if test.isLimited {
			s.stream.Store(new(userStream))
		}
		for i, isPlaylist := range test.requests {
			s.Seen(in(time.Duration(i)*time.Second), isPlaylist)
		}
		if got := s.flags.has(flagPlaying); got != test.isPlaying || told != test.told {
			t.Errorf("%s: plays %t, told %d times; want %t and %d", name, got, told, test.isPlaying, test.told)
		}
		if got := s.Requests(); got != int64(len(test.requests)) {
			t.Errorf("%s: %d requests counted", name, got)
		}
	}
}

func TestSession_SetTargetDuration(t *testing.T) {
	t.Parallel()
	s := bareSession(idOf(1))
	l := newStreamLimits(core{}, PerUserConfig{})
	for _, target := range []time.Duration{6 * time.Second, 6 * time.Second, 10 * time.Second} {
		s.SetTargetDuration(target, false)
		if got, want := l.zapTimeout(s), target*3/2; got != want {
			t.Errorf("target duration %v: silent for %v at most, want %v", target, got, want)
		}
	}
}

func TestSession_History(t *testing.T) {
	t.Parallel()
	allowed, denied, cached := allowedDecision(), deniedDecision(), cachedDecision()
	for name, test := range map[string]struct {
		decisions []*backends.Decision
		want      string
	}{
		"none":                {nil, ""},
		"one":                 {[]*backends.Decision{&allowed}, "allowed/backend"},
		"one that is renewed": {[]*backends.Decision{&allowed, &allowed, &allowed}, "allowed/backend"},
		"three":               {[]*backends.Decision{&allowed, &cached, &denied}, "allowed/backend,allowed/cached,denied/backend"},
		"there and back":      {[]*backends.Decision{&allowed, &cached, &allowed}, "allowed/backend,allowed/cached,allowed/backend"},
		"the last eight of nine": {
			[]*backends.Decision{&denied, &allowed, &cached, &allowed, &cached, &allowed, &cached, &allowed, &cached},
			strings.Repeat(",allowed/backend,allowed/cached", 4)[1:],
		},
	} {
		s := bareSession(idOf(1))
		for _, d := range test.decisions {
			s.addToHistory(d)
		}
		if got := s.History(); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestSession_SetCredentials_Once keeps the first credentials, whether the opening, a later request or the root of a sibling
// had them.
func TestSession_SetCredentials_Once(t *testing.T) {
	t.Parallel()
	with := func(token string) *backends.Request {
		r := openRequest(1).Request
		r.Query = token
		return r
	}
	set := func(s *Session, token string) bool { return s.setCredentials(with(token)) }
	inherit := func(s *Session, token string) bool { return s.inherit(with(token)) }
	for name, test := range map[string]struct {
		isOpenedWith  bool
		first, second func(*Session, string) bool
		want          string
	}{
		"a later request":                        {false, set, set, "first"},
		"a later request of a sibling":           {false, set, inherit, "first"},
		"the root of a sibling":                  {false, inherit, set, "first"},
		"the root of a sibling, twice":           {false, inherit, inherit, "first"},
		"the opening, and another request later": {true, set, set, "opening"},
	} {
		s := bareSession(idOf(1))
		s.request.Store(with("opening"))
		s.flags.set(flagCredentials, test.isOpenedWith)
		if got := test.first(s, "first"); got == test.isOpenedWith {
			t.Errorf("%s: the first are taken: %t", name, got)
		}
		if test.second(s, "second") {
			t.Errorf("%s: the second replace the first", name)
		}
		if got := s.Request().Query; got != test.want || !s.flags.has(flagCredentials) {
			t.Errorf("%s: the session has those of %q, want of %q", name, got, test.want)
		}
	}
}

// TestSession_addUnverified counts no less after 49 days, where the milliseconds are more than 32 bits.
func TestSession_addUnverified(t *testing.T) {
	t.Parallel()
	const most = (1<<32 - 1) * time.Millisecond
	s := new(Session)
	for _, step := range []struct{ add, want time.Duration }{
		{time.Second, time.Second},
		{40 * 24 * time.Hour, 40*24*time.Hour + time.Second},
		{10 * 24 * time.Hour, most},
		{100 * 24 * time.Hour, most},
	} {
		s.addUnverified(step.add)
		if got := time.Duration(s.unverified.Load()) * time.Millisecond; got != step.want {
			t.Errorf("after %v more: %v, want %v", step.add, got, step.want)
		}
	}
}
