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

func TestCallHistory_IsNewPossibleDenial_OncePerSessionAndBounded(t *testing.T) {
	t.Parallel()
	h := newTestHistory()
	requestOf := func(n int) *backends.Request {
		r := openingFrom(1)
		r.Session = backends.SessionID{byte(n), byte(n >> 8), byte(n >> 16), 1}
		return r
	}
	if !h.isNewPossibleDenial(requestOf(0)) || h.isNewPossibleDenial(requestOf(0)) {
		t.Error("a session's first wrong path is not new, or its second one is")
	}
	h.recordAnswer(openingFrom(2), 0, time.Now())
	if !h.isNewPossibleDenial(requestOf(0)) {
		t.Error("a session's first wrong path after an answer is not new")
	}
	for i := range maxRemembered + 10 {
		h.isNewPossibleDenial(requestOf(i))
	}
	if len(h.possibleDenials) != maxRemembered {
		t.Errorf("%d sessions are remembered, want maxRemembered=%d", len(h.possibleDenials), maxRemembered)
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
			if got := h.isWide(&h.failed, now); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

// TestCallHistory_IsWide_SinceTheLastAnswer has three addresses fail more slowly than the window of ten seconds.
func TestCallHistory_IsWide_SinceTheLastAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answered time.Duration // after the first failure
		want     bool
	}{
		"answered before all":      {-time.Second, true},
		"answered after the first": {time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, start := newTestHistory(), time.Now()
			for i := range wideOutage {
				at := time.Duration(i) * 2 * h.window
				if at > test.answered && !h.latest[0].isSet {
					h.recordAnswer(openingFrom(9), 0, start.Add(test.answered))
				}
				h.recordFailure(&backends.Failure{Kind: backends.FailureTimeout, WasSent: true}, openingFrom(i), false, start.Add(at))
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if got := h.isWide(&h.failed, start.Add((wideOutage-1)*2*h.window)); got != test.want {
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
	if !h.isWide(&h.failed, now) {
		t.Error("two failures to connect are not wide where two open the breaker")
	}
}

// TestCallHistory_TakeEarlyOpinion_OnceOverdueCallsWouldOpen counts the overdue calls up to the threshold of three.
func TestCallHistory_TakeEarlyOpinion_OnceOverdueCallsWouldOpen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failures int
		answered time.Duration // relative to the call's start
		want     []bool        // of one overdue call after another
	}{
		"no failure yet":              {0, -time.Minute, []bool{false, false, true}},
		"one failure before":          {1, -time.Minute, []bool{false, true}},
		"enough failures before":      {3, -time.Minute, []bool{true}},
		"an answer as the call began": {0, 0, []bool{false, false, true}},
		"an answer since":             {0, 1, []bool{false, false, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, start := newTestHistory(), time.Now()
			h.recordAnswer(openingFrom(2), 0, start.Add(test.answered))
			for range test.failures {
				h.recordFailure(&backends.Failure{Kind: backends.FailureTimeout, WasSent: true}, openingFrom(1), false, start)
			}
			for i, want := range test.want {
				if _, got := h.takeEarlyOpinion(start, start.Add(time.Second)); got != want {
					t.Errorf("overdue call %d: an opinion is wanted: %t, want %t", i+1, got, want)
				}
			}
			if h.overdue != len(test.want) {
				t.Errorf("got %d overdue calls, want %d", h.overdue, len(test.want))
			}
			h.endOverdue()
			if h.overdue != len(test.want)-1 {
				t.Errorf("got %d overdue calls after the end of one, want %d", h.overdue, len(test.want)-1)
			}
		})
	}
}

// TestCallHistory_StartOpinion_Once shows when there is no second opinion to be had, and whose request is asked again.
func TestCallHistory_StartOpinion_Once(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		answered []int // viewers, one after another
		change   func(*callHistory)
		want     int // the viewer whose request is asked again; zero: none
	}{
		"one answer":        {[]int{2}, func(*callHistory) {}, 2},
		"the newest answer": {[]int{2, 3}, func(*callHistory) {}, 3},
		"the other one's, if the newest fails now": {[]int{2, 1}, func(*callHistory) {}, 2},
		"the only one's, even if they fail now":    {[]int{1}, func(*callHistory) {}, 1},
		"nobody was answered":                      {nil, func(*callHistory) {}, 0},
		"one is in flight":                         {[]int{2}, func(h *callHistory) { h.opinionInFlight = true }, 0},
		"one was a failure in the window":          {[]int{2}, func(h *callHistory) { h.confirmedAt = now.Add(-h.window + 1) }, 0},
		"one was a failure before the window":      {[]int{2}, func(h *callHistory) { h.confirmedAt = now.Add(-h.window) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestHistory()
			for _, viewer := range test.answered {
				h.recordAnswer(openingFrom(viewer), 0, now.Add(-time.Minute))
			}
			h.recordFailure(&backends.Failure{Kind: backends.FailureMalformed}, openingFrom(1), false, now)
			test.change(h)
			h.wantsOpinion = true
			got, ok := h.takeOpinion(now)
			if ok != (test.want > 0) || ok && got.request.Address != openingFrom(test.want).Address {
				t.Errorf("got %+v, %t, want the request of viewer %d", got, ok, test.want)
			}
		})
	}
}

// TestCallHistory_Confirm_CountsWhereTheFailuresWouldOpen has a second opinion fail, with each reason to count it alone.
func TestCallHistory_Confirm_CountsWhereTheFailuresWouldOpen(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for name, test := range map[string]struct {
		change                     func(*callHistory)
		wantCounts, wantsConfirmed bool
	}{
		"the failures before it would open":     {func(h *callHistory) { h.opinionDecides = true }, true, true},
		"those during it would open":            {func(h *callHistory) { h.wantsOpinion = true }, true, true},
		"as many as the threshold in a row":     {func(h *callHistory) { h.streak = 3 }, true, true},
		"one too few in a row":                  {func(h *callHistory) { h.streak = 2 }, false, true},
		"another call was answered meanwhile":   {func(h *callHistory) { h.opinionDecides, h.lastAnswer = true, start.Add(1) }, false, false},
		"another call was answered as it began": {func(h *callHistory) { h.opinionDecides, h.lastAnswer = true, start }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestHistory()
			test.change(h)
			now := start.Add(time.Second)
			if got := h.confirm(start, now); got != test.wantCounts {
				t.Errorf("the opinion counts: %t, want %t", got, test.wantCounts)
			}
			if got := h.isConfirmed(now); got != test.wantsConfirmed {
				t.Errorf("the failure is confirmed: %t, want %t", got, test.wantsConfirmed)
			}
		})
	}
}

// TestCallHistory_Opens_OnceConfirmedOrWide has a breaker that opens after three failures in a row.
func TestCallHistory_Opens_OnceConfirmedOrWide(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		change      func(*callHistory)
		isOver      bool
		wantOpen    bool
		wantOpinion bool
	}{
		"confirmed, gobreaker's counts":       {func(h *callHistory) { h.confirmedAt = now }, true, true, false},
		"confirmed, three in a row":           {func(h *callHistory) { h.confirmedAt, h.streak = now, 3 }, false, true, false},
		"confirmed, two in a row":             {func(h *callHistory) { h.confirmedAt, h.streak = now, 2 }, false, false, false},
		"three in a row, unconfirmed":         {func(h *callHistory) { h.streak = 3 }, false, false, false},
		"gobreaker's counts, nobody answered": {func(*callHistory) {}, true, true, false},
		"gobreaker's counts, one answered":    {func(h *callHistory) { h.latest[0].isSet = true }, true, false, true},
		"gobreaker's counts, three addresses": {func(h *callHistory) {
			h.latest[0].isSet = true
			for i := range wideOutage {
				h.recordFailure(&backends.Failure{Kind: backends.FailureStatus, Status: 500}, openingFrom(i), false, now)
			}
			h.wantsOpinion = false
		}, true, true, false},
		"gobreaker's counts, possible denials of three addresses": {func(h *callHistory) {
			h.latest[0].isSet = true
			for i := range wideOutage {
				h.recordFailure(&backends.Failure{Kind: backends.FailureStatus, Status: 401, MayBeDenial: true}, openingFrom(i), false, now)
			}
		}, true, false, true},
		"gobreaker's counts, two addresses": {func(h *callHistory) {
			h.latest[0].isSet = true
			for i := range wideOutage - 1 {
				h.failed.record(backends.SubscriberPrefix(openingFrom(i).Address), now)
			}
		}, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestHistory()
			test.change(h)
			if got := h.opens(test.isOver, now); got != test.wantOpen || h.wantsOpinion != test.wantOpinion {
				t.Errorf("it opens: %t, and wants an opinion: %t; want %t, %t", got, h.wantsOpinion, test.wantOpen, test.wantOpinion)
			}
		})
	}
}
