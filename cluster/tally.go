package cluster

import (
	"strings"

	"usher/actors/session"
)

// mostHistory bounds what is kept of what a session stood on: a viewer whose backend flaps all night is one line.
const mostHistory = 512

// sumTally adds up what two nodes counted, or one node twice.
func sumTally(a, b session.Counters) session.Counters {
	return session.Counters{
		Requests: a.Requests + b.Requests, Bytes: a.Bytes + b.Bytes, Unverified: a.Unverified + b.Unverified,
		History: joinHistory(a.History, b.History),
	}
}

// joinHistory puts one after the other. What a session went on standing on is said once. flush.lua does the same.
func joinHistory(before, next string) string {
	last := before[strings.LastIndexByte(before, ',')+1:]
	if first, rest, _ := strings.Cut(next, ","); before != "" && first == last {
		next = rest
	}
	switch {
	case next == "":
		return before
	case before == "":
		return next
	case len(before)+1+len(next) > mostHistory:
		return before
	default:
		return before + "," + next
	}
}
