package cluster

import (
	"strings"

	"usher/actors/session"
)

// maxHistorySize bounds the history of a session, in bytes: a viewer whose backend flaps all night is one log line. The oldest entries are
// dropped, since the last one says how the session ended.
const maxHistorySize = 512

// sumCounters adds what two nodes counted, or one node twice.
func sumCounters(a, b session.Counters) session.Counters {
	since := a.Since
	if since.IsZero() || !b.Since.IsZero() && b.Since.Before(since) {
		since = b.Since
	}
	return session.Counters{
		Since:    since,
		Requests: a.Requests + b.Requests, Bytes: a.Bytes + b.Bytes, Unverified: a.Unverified + b.Unverified,
		History: joinHistory(a.History, b.History),
	}
}

// joinHistory appends a history to another one. An entry that ends the first and begins the second appears once. Where both end alike,
// and one has all entries of the other in their order, that one is both: nodes that knew a session at once saw the same decisions.
// add_counters.lua does the same.
func joinHistory(before, next string) string {
	last := before[strings.LastIndexByte(before, ',')+1:]
	endAlike := last == next[strings.LastIndexByte(next, ',')+1:]
	first, rest, _ := strings.Cut(next, ",")
	switch {
	case endAlike && isWithin(next, before):
		next = ""
	case endAlike && isWithin(before, next):
		before = ""
	case before != "" && last == first:
		next = rest
	}
	if before != "" && next != "" {
		before += ","
	}
	joined := before + next
	if excess := len(joined) - maxHistorySize; excess > 0 {
		_, joined, _ = strings.Cut(joined[excess-1:], ",")
	}
	return joined
}

// isWithin reports whether one history has all entries of another one, in their order.
func isWithin(part, whole string) bool {
	for entry := range strings.SplitSeq(part, ",") {
		_, rest, found := strings.Cut(","+whole+",", ","+entry+",")
		if !found {
			return false
		}
		whole = strings.TrimSuffix(rest, ",")
	}
	return true
}
