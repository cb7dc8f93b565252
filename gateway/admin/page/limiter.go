package page

import (
	"net/netip"
	"sync"
	"time"

	"usher/backends"
)

const (
	// loginWindow is the time over which failed logins are counted.
	loginWindow = time.Minute
	// maxFailures is how many logins of one subscriber prefix may fail in a window, and maxAllFailures of all.
	maxFailures    = 10
	maxAllFailures = 100
)

// limiter bounds how many wrong tokens are answered and recorded as such. It keeps at most maxAllFailures addresses. The zero value is ready.
// It is safe for concurrent use.
type limiter struct {
	mu       sync.Mutex
	began    time.Time // when the window began
	all      int
	failures map[netip.Prefix]int
	// refused are those who were refused in the window; the zero prefix is all.
	refused map[netip.Prefix]bool
}

// fail counts a failed attempt. If there were too many, it returns how long to wait, and whether that is so for the first time in a window.
func (l *limiter) fail(from netip.Addr, now time.Time) (wait time.Duration, isFirst bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.began) >= loginWindow || now.Before(l.began) {
		l.began, l.all, l.failures, l.refused = now, 0, map[netip.Prefix]int{}, map[netip.Prefix]bool{}
	}
	prefix := backends.SubscriberPrefix(from)
	if areAll := l.all >= maxAllFailures; areAll || l.failures[prefix] >= maxFailures {
		if areAll {
			prefix = netip.Prefix{}
		}
		isFirst, l.refused[prefix] = !l.refused[prefix], true
		return l.began.Add(loginWindow).Sub(now), isFirst
	}
	l.all++
	l.failures[prefix]++
	return 0, false
}
