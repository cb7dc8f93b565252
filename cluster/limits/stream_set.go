package limits

import (
	"slices"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxTracked bounds the streams of a set, so that no call takes long.
	maxTracked = 128
	// reportInterval is how often each node reports while a limit is exceeded.
	reportInterval = time.Second
	// reportDelayMS is how late the nodes may learn that two streams fell silent, one after the other.
	reportDelayMS = 2000
	// jitterMS is how far apart two reports of the same request may be.
	jitterMS = 1000
	// unknownZapMS is the zap timeout of a stream of which no node has seen a media playlist.
	unknownZapMS = 10_000
)

// rules are session.LimitRules in milliseconds.
type rules struct {
	// isBound: a stream beyond the limit does not join, and none is evicted.
	isBound                                                  bool
	policy                                                   session.LimitPolicy
	gracePeriod, evictionTTL, idleTimeout, heartbeatInterval int64
}

func rulesInMillis(r session.LimitRules) rules {
	return rules{
		policy: r.Policy, gracePeriod: r.GracePeriod.Milliseconds(), evictionTTL: r.EvictionTTL.Milliseconds(),
		idleTimeout:       r.IdleTimeout.Milliseconds(),
		heartbeatInterval: r.HeartbeatInterval.Milliseconds(),
	}
}

// addressRules are the rules of the addresses that use a ticket: one plays if it asked within the idle timeout.
func addressRules(r session.LimitRules) rules {
	return rules{
		isBound: true, idleTimeout: r.IdleTimeout.Milliseconds(), heartbeatInterval: r.HeartbeatInterval.Milliseconds(),
	}
}

// report is what a node says of one stream.
type report struct {
	// isLeaving: the stream has ended. Only its id is set.
	isLeaving bool
	// isJoin: the stream was just opened.
	isJoin bool
	// isAssumed: the stream is only believed to play, so that a report of its own counts more.
	isAssumed bool
	id        backends.SessionID
	group     backends.SessionID
	isIPv6    bool
	opened    int64
	// age is how long ago the viewer last asked.
	age        int64
	isPlaying  bool
	zapTimeout int64 // 0: unknown
	maxStreams int
	device     string
}

// stream is one stream of a user. Its times are ms of one clock, Redis' or the process's, except opened, which is in
// seconds as in tickets.
type stream struct {
	id     backends.SessionID
	group  backends.SessionID
	isIPv6 bool
	opened int64
	// lastSeen is when the viewer last asked; an evicted stream asks too.
	lastSeen int64
	// reportedAt is when the node that saw the viewer last reported the stream.
	reportedAt int64
	// countedSince is since when the stream counts without a break; 0: it does not count.
	countedSince int64
	// zapTimeout is the longest silence of a stream that counts.
	zapTimeout int64
	maxStreams int
	state      session.StreamState
	isPlaying  bool
	device     string
}

// counts reports whether the stream counts at now: its viewer was not silent when last reported, and that report is not
// older than a node that lives lets it become.
func (s *stream) counts(now int64, r *rules) bool {
	return s.state == session.StreamActive && s.isPlaying && s.reportedAt-s.lastSeen <= s.zapTimeout &&
		now-s.lastSeen <= r.heartbeatInterval+s.zapTimeout
}

// ttl is after which silence a stream is forgotten.
func (s *stream) ttl(r *rules) int64 {
	if s.state == session.StreamEvicted {
		return r.evictionTTL
	}
	return max(r.idleTimeout, r.heartbeatInterval+s.zapTimeout)
}

// streamSet is the streams of a user, in the order in which they were opened as far as the store learns it: times are in
// seconds, so that it decides among those of one second. It is not changed: apply makes another one.
type streamSet []stream

// result is what a set says of the reports of a call.
type result struct {
	session.LimitResult
	// isExceeded: the limit is exceeded since this call.
	isExceeded bool
	// isFull: a reported stream found no room.
	isFull bool
	// ttl is for how long the set must be kept.
	ttl time.Duration
}

// apply returns the set after reports at a time in ms.
func (s streamSet) apply(reports []report, now int64, r *rules) (streamSet, result) {
	u := update{rules: r, now: now, streams: make(streamSet, 0, len(s)+len(reports))} // pointers into it stay valid
	for i := range s {
		if one := s[i].clamped(now); now-one.lastSeen < one.ttl(r) {
			u.streams = append(u.streams, one)
		}
	}
	wasExceeded := u.isExceeded()
	u.result.States = make([]session.StreamState, len(reports))
	for i := range reports {
		u.result.States[i] = u.applyReport(&reports[i])
	}
	for i := range reports {
		u.readmit(&reports[i])
	}
	u.evict()
	isExceeded := u.isExceeded()
	u.result.isExceeded = isExceeded && !wasExceeded && !r.isBound
	if isExceeded && !r.isBound {
		u.result.RecheckIn = reportInterval
	}
	for i := range reports {
		if one := u.find(reports[i].id); one != nil { // a later report, or the limit, may have changed its state
			u.result.States[i] = one.state
		}
	}
	for i := range u.streams {
		u.result.ttl = max(u.result.ttl, 2*time.Duration(u.streams[i].ttl(r))*time.Millisecond)
	}
	return u.streams, u.result
}

// resumed returns the set as if the store's last outage had taken no time, unless a stream was reported since it ended. While no
// node could report, silence says nothing: the stream that is reported first, perhaps an evicted one, must not find all others
// silent.
func (s streamSet) resumed(outage func() (length, ago int64), now int64) streamSet {
	length, ago := outage()
	newest := int64(0)
	for i := range s {
		newest = max(newest, s[i].reportedAt)
	}
	if length <= 0 || newest == 0 || newest > now-ago {
		return s
	}
	resumed := slices.Clone(s)
	for i := range resumed {
		resumed[i].delay(min(length, now-newest))
	}
	return resumed
}

// delay makes the stream's times that much later.
func (s *stream) delay(ms int64) {
	s.lastSeen, s.reportedAt = s.lastSeen+ms, s.reportedAt+ms
	if s.countedSince > 0 {
		s.countedSince += ms
	}
}

// clamped returns the stream with no time after now: a clock that was set back must not keep a stream for longer.
func (s stream) clamped(now int64) stream {
	s.lastSeen, s.reportedAt, s.countedSince = min(s.lastSeen, now), min(s.reportedAt, now), min(s.countedSince, now)
	return s
}

// restoredWith returns the set as it was before the store lost it, with what was reported since. A denied stream stays denied,
// unless it was superseded and is opened anew. The reports are of streams that are denied again; each plays if it may.
func (s streamSet) restoredWith(since streamSet, now int64, r *rules) (set streamSet, deniedAgain []report) {
	set = slices.Clone(s)
	for _, one := range since {
		i := slices.IndexFunc(set, func(o stream) bool { return o.id == one.id })
		if i < 0 {
			if len(set) < maxTracked {
				set = append(set, one)
			}
			continue
		}
		old, isReopened := set[i], one.opened > set[i].opened
		if old.state == session.StreamSuperseded && isReopened {
			set[i] = one
		} else {
			set[i] = old.continuedBy(&one, r)
		}
		if one.state == session.StreamActive && set[i].state != session.StreamActive {
			deniedAgain = append(deniedAgain, one.assumed(now))
		}
		if isReopened {
			set.moveLast(i)
		}
	}
	return set, deniedAgain
}

// moveLast moves a stream to the end of the set.
func (s streamSet) moveLast(i int) {
	moved := s[i]
	copy(s[i:], s[i+1:])
	s[len(s)-1] = moved
}

// continuedBy returns the stream with what was reported of it since the store lost it.
func (s stream) continuedBy(since *stream, r *rules) stream {
	if hadBreak := since.countedSince-s.lastSeen > r.heartbeatInterval+s.zapTimeout; s.countedSince == 0 || hadBreak {
		s.countedSince = since.countedSince
	}
	if since.lastSeen >= s.lastSeen {
		s.reportedAt, s.zapTimeout, s.maxStreams, s.device = since.reportedAt, since.zapTimeout, since.maxStreams, since.device
		s.group, s.isIPv6 = since.group, since.isIPv6
	}
	s.lastSeen, s.opened, s.isPlaying = max(s.lastSeen, since.lastSeen), max(s.opened, since.opened), s.isPlaying || since.isPlaying
	return s
}

// assumed returns a report that changes nothing of the stream, unless it is evicted and may play.
func (s *stream) assumed(now int64) report {
	return report{
		isAssumed: true, id: s.id, group: s.group, isIPv6: s.isIPv6, opened: s.opened, age: max(now-s.lastSeen, 0),
		zapTimeout: s.zapTimeout, maxStreams: s.maxStreams,
	}
}
