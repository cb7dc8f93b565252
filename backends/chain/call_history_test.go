package chain

import (
	"net/http"
	"testing"
	"time"

	"usher/backends"
)

// newTestHistory returns a history of ten seconds, whose breaker opens after three failures in a row.
func newTestHistory() *callHistory { return newCallHistory(10*time.Second, 3) }

func TestCallHistory_RecordAnswer_KeepsTwoAddresses(t *testing.T) {
	t.Parallel()
	h, now := newTestHistory(), time.Now()
	for _, viewer := range []int{1, 2, 2, 2} {
		h.recordAnswer(openingFrom(viewer), time.Second, now)
	}
	for i, viewer := range []int{2, 1} {
		want := backends.SubscriberPrefix(openingFrom(viewer).Address)
		if got := h.latest[i]; !got.isSet || got.address != want || got.took != time.Second {
			t.Errorf("answer %d: got %+v, want that of %v", i, got, want)
		}
	}
}

func TestCallHistory_RecordFailure_ConnectFailuresAreAStreak(t *testing.T) {
	t.Parallel()
	h, now := newTestHistory(), time.Now()
	for i := range 3 {
		refused := &backends.Failure{Kind: backends.FailureTransport, Backend: "b"}
		if !refused.IsConnect() {
			t.Fatal("a failure before the request was sent is none of connecting")
		}
		if !h.recordFailure(refused, openingFrom(1), false, now) || h.streak != i+1 {
			t.Errorf("after %d failures to connect of one viewer: a streak of %d, want all counted", i+1, h.streak)
		}
	}
	h.recordAnswer(openingFrom(1), 0, now)
	if h.streak != 0 {
		t.Errorf("an answer leaves a streak of %d, want none", h.streak)
	}
}

// TestCallHistory_RecordFailure_OfOneAddress_CountsOnceBesideAnswers shows when a second failure of one address counts.
func TestCallHistory_RecordFailure_OfOneAddress_CountsOnceBesideAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answered time.Duration // before the failures; zero: never
		want     bool
	}{
		"another address was answered in the window": {9 * time.Second, false},
		"another address was answered before it":     {11 * time.Second, true},
		"nobody was answered":                        {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, now := newTestHistory(), time.Now()
			if test.answered > 0 {
				h.recordAnswer(openingFrom(2), 0, now.Add(-test.answered))
			}
			failure := &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: http.StatusBadGateway}
			if !h.recordFailure(failure, openingFrom(1), false, now) {
				t.Error("the first failure does not count")
			}
			if got := h.recordFailure(failure, openingFrom(1), false, now); got != test.want {
				t.Errorf("the second failure counts: %t, want %t", got, test.want)
			}
		})
	}
}

func TestCallHistory_IsNewWrongPath_OncePerSessionAndBounded(t *testing.T) {
	t.Parallel()
	h := newTestHistory()
	requestOf := func(n int) *backends.Request {
		r := openingFrom(1)
		r.Session = backends.SessionID{byte(n), byte(n >> 8), byte(n >> 16), 1}
		return r
	}
	if !h.isNewWrongPath(requestOf(0)) || h.isNewWrongPath(requestOf(0)) {
		t.Error("a session's first wrong path is not new, or its second one is")
	}
	for i := range maxRemembered + 10 {
		h.isNewWrongPath(requestOf(i))
	}
	if len(h.wrongPaths) != maxRemembered {
		t.Errorf("%d sessions are remembered, want maxRemembered=%d", len(h.wrongPaths), maxRemembered)
	}
}

// TestCallHistory_IsWide_ByFailuresToConnect shows how many failures to connect no single viewer can have caused.
func TestCallHistory_IsWide_ByFailuresToConnect(t *testing.T) {
	t.Parallel()
	least := min(wideOutage, 3)
	for name, test := range map[string]struct {
		inWindow, before int
		want             bool
	}{
		"enough in the window":        {least, 0, true},
		"one too few":                 {least - 1, 0, false},
		"one too few, and older ones": {least - 1, 1, false},
		"none":                        {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, now := newTestHistory(), time.Now()
			h.recordAnswer(openingFrom(1), 0, now.Add(-9*time.Second))
			refused := &backends.Failure{Kind: backends.FailureTransport, Backend: "b"}
			for range test.before {
				h.recordFailure(refused, openingFrom(1), false, now.Add(-11*time.Second))
			}
			for range test.inWindow {
				h.recordFailure(refused, openingFrom(1), false, now)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if got := h.isWide(now); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

// TestCallHistory_IsWide_LowThreshold has a breaker that opens after two failures, which no third one must follow.
func TestCallHistory_IsWide_LowThreshold(t *testing.T) {
	t.Parallel()
	h, now := newCallHistory(10*time.Second, 2), time.Now()
	h.recordAnswer(openingFrom(1), 0, now)
	for range 2 {
		h.recordFailure(&backends.Failure{Kind: backends.FailureTransport, Backend: "b"}, openingFrom(1), false, now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isWide(now) {
		t.Error("two failures to connect are not wide where two open the breaker")
	}
}
