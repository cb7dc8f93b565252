package origin

import (
	"cmp"
	"errors"
	"hash/maphash"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxFresh bounds the freshness that an origin can state, so that sums of times cannot overflow.
const maxFresh = 365 * 24 * time.Hour

// lifetime is what an origin's header says about caching a media object (RFC 9111).
type lifetime struct {
	isStorable bool
	// fresh is the remaining freshness; it may be zero or negative.
	fresh time.Duration
	// age is the Age of the object when it arrived.
	age time.Duration
	// isStated reports that the header states the freshness.
	isStated bool
	// mustRevalidate forbids to serve the object stale, even if the origin fails.
	mustRevalidate bool
}

// mediaLifetime reads the header as a shared cache does. fallback is the freshness if the header states none.
func mediaLifetime(h http.Header, now time.Time, fallback time.Duration) lifetime {
	d := parseDirectives(h.Values("Cache-Control"))
	l := lifetime{
		isStorable: !d.noStore && h.Get("Vary") != "*", isStated: true, mustRevalidate: d.mustRevalidate,
		age: deltaSeconds(h.Get("Age")),
	}
	switch {
	case d.noCache:
		l.fresh, l.mustRevalidate = 0, true
	case d.sharedMaxAge >= 0:
		l.fresh, l.mustRevalidate = d.sharedMaxAge-l.age, true
	case d.maxAge >= 0:
		l.fresh = d.maxAge - l.age
	case h.Get("Expires") != "":
		l.fresh = untilExpires(h, now) - l.age
	default:
		l.fresh, l.isStated = fallback, false
	}
	return l
}

// untilExpires returns the time until Expires by the origin's own clock. An unreadable date counts as past.
func untilExpires(h http.Header, now time.Time) time.Duration {
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0
	}
	return max(0, min(expires.Sub(sentAt(h, now)), maxFresh))
}

// sentAt returns when a response was sent, by the origin's own clock if it says so.
func sentAt(h http.Header, now time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return now
}

// strongDate returns the Last-Modified of a response that was sent a second later or more. Before, another version may come that has
// the same one, so that it would tell viewers, or the origin, that they have what they do not have (RFC 9110, 8.8.2.2).
func strongDate(h http.Header, now time.Time) string {
	field := h.Get("Last-Modified")
	modified, err := http.ParseTime(field)
	if err != nil || sentAt(h, now).Sub(modified) < time.Second {
		return ""
	}
	return field
}

type cacheDirectives struct {
	noStore, noCache, mustRevalidate bool
	maxAge, sharedMaxAge             time.Duration // -1: not stated
}

func parseDirectives(fields []string) cacheDirectives {
	d := cacheDirectives{maxAge: -1, sharedMaxAge: -1}
	for _, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			d.apply(strings.ToLower(strings.TrimSpace(name)), strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return d
}

func (d *cacheDirectives) apply(name, value string) {
	switch name {
	case "no-store", "private":
		d.noStore = true
	case "no-cache":
		d.noCache = true
	case "must-revalidate", "proxy-revalidate":
		d.mustRevalidate = true
	case "max-age":
		d.maxAge = deltaSeconds(value)
	case "s-maxage":
		d.sharedMaxAge = deltaSeconds(value)
	}
}

// deltaSeconds parses a number of seconds. Any other text is zero, so that the object is fetched again.
func deltaSeconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(min(n, uint64(maxFresh/time.Second))) * time.Second
}

// fallbackFreshness returns how long the media of a fetch are fresh if the origin does not state it.
func (o *Origin) fallbackFreshness(f *fetch) time.Duration {
	if f.freshFor <= 0 {
		return o.config.Cache.MediaTTL
	}
	return min(f.freshFor, o.config.Cache.MediaTTL)
}

// Listing is what one version of a playlist lists on one origin.
type Listing struct {
	// Playlist tells playlists apart. It is the same for all versions of one.
	Playlist string
	// Fetched is that of the version's Object.
	Fetched time.Time
	// TargetDuration is the playlist's.
	TargetDuration time.Duration
	// FreshFor is how long the media stay fresh after the version was fetched.
	FreshFor time.Duration
	// Window is how long after that the version is the one that is compared with the next.
	Window time.Duration
	// Media are in the order of the playlist.
	Media []ListedMedia
	// IsComplete reports that the playlist will not change any more, so that no file that it lists grows.
	IsComplete bool
}

// ListedMedia is a media object in a playlist, with the fields of the [Request] for it.
type ListedMedia struct {
	Base, Path, Query string
	// RequestVersion is the Version of the Request.
	RequestVersion uint64
	// Version changes if the playlist lists the object again for other bytes. It is not zero.
	Version uint64
	// IsKey reports a key, which the listing does not keep fresh.
	IsKey bool
	// MayGrow reports that a range of the object is listed, or that it is announced. A packager may write more of it, so that the listing
	// does not keep it fresh.
	MayGrow bool
}

// listedState is what a playlist says of a media object. It is immutable.
type listedState struct {
	playlist uint64
	versions []uint64
	// since is when the playlist began to list one of the versions. What was fetched before may be other bytes.
	since int64
	// wholeSince is when it began to list the object as one that does not grow. What was fetched before may be the beginning of it.
	wholeSince int64
	// at is when the version of the playlist was fetched. It is compared with the next one until then.
	at, until int64
	// freshUntil is until when the object stays fresh. A key is as fresh as if it were not listed.
	freshUntil int64
	isKey      bool
	// isGrowing reports that the object may get longer, without being other bytes.
	isGrowing bool
}

// isCurrent reports whether a playlist says something of the object.
func (s *listedState) isCurrent(now int64) bool { return s != nil && now < s.until }

// replaces reports whether the playlist is heeded from now on in place of a current one. No other one is: two playlists may number one object
// differently. But of a file of which that one lists ranges, as an I-frame playlist does, another one may tell that it is whole.
func (s *listedState) replaces(before *listedState) bool {
	return (s.playlist == before.playlist || s.completes(before)) && s.at >= before.at
}

// completes reports whether what grew before is listed as one that does not.
func (s *listedState) completes(before *listedState) bool { return before.isGrowing && !s.isGrowing }

// continues reports whether the playlist lists the same bytes as before. A slate may stand at several places of a playlist, one
// of which remains when others come and go. Of a key that is changed at one URI the old tag remains for a while.
func (s *listedState) continues(before *listedState) bool {
	isNew := func(v uint64) bool { return !slices.Contains(before.versions, v) }
	if s.isKey {
		return !slices.ContainsFunc(s.versions, isNew)
	}
	return slices.ContainsFunc(s.versions, func(v uint64) bool { return !isNew(v) })
}

// recentSegments is how many segments at the end of a playlist may be new in it.
const recentSegments = 3

// Listed keeps the media of a playlist fresh as long as it lists them, if the origin states no lifetime of theirs, and
// expires what it lists again for other bytes. An object that was fetched before the playlist listed it counts as other
// bytes. It is called for each version of a playlist; the order does not matter.
func (o *Origin) Listed(l *Listing) {
	playlist := maphash.String(o.cache.seed, l.Playlist)
	at := o.cache.now() - int64(time.Since(l.Fetched))
	marks := o.marksOf(l.Media)
	for len(marks) > 0 {
		n := 1
		for n < len(marks) && marks[n].hash == marks[0].hash {
			n++
		}
		m := &l.Media[marks[0].index]
		state := &listedState{
			playlist: playlist, since: at, at: at, until: at + int64(l.Window), isKey: m.IsKey, isGrowing: m.MayGrow && !l.IsComplete,
		}
		if !m.IsKey && !state.isGrowing {
			state.freshUntil = at + int64(l.FreshFor)
		}
		if m.RequestVersion != 0 { // there are no other bytes under the name
			state.since = math.MinInt64
		}
		for _, mark := range marks[:n] {
			if is := &l.Media[mark.index]; is.MayGrow == m.MayGrow { // a whole segment is not what its parts were
				state.versions = append(state.versions, is.Version)
			}
		}
		// What is listed for long was listed when its latest copy was fetched.
		trustedFrom := at - int64(l.TargetDuration)
		if marks[0].segmentsAfter < recentSegments {
			trustedFrom = math.MaxInt64
		}
		if k, ok := o.listedKey(m); ok {
			o.cache.setListed(k, state, trustedFrom)
		}
		marks = marks[n:]
	}
}

// listedMark is an occurrence of a media object in a playlist.
type listedMark struct {
	hash          uint64 // of the cache key
	index         int
	segmentsAfter int
}

// marksOf returns the occurrences of what is cached, or new in the playlist: those of one object together, the last one in the
// playlist first.
func (o *Origin) marksOf(media []ListedMedia) (marks []listedMark) {
	segments, last := 0, uint64(0)
	for i, m := range slices.Backward(media) {
		if !m.IsKey && !m.MayGrow && m.Version != last {
			if last != 0 {
				segments++
			}
			last = m.Version
		}
		if k, ok := o.listedKey(&m); ok && (segments < recentSegments || o.cache.peek(k) != nil) {
			marks = append(marks, listedMark{maphash.Comparable(o.cache.seed, k), i, segments})
		}
	}
	slices.SortStableFunc(marks, func(a, b listedMark) int { return cmp.Compare(a.hash, b.hash) })
	return marks
}

// listedKey returns the key under which a listed object is cached.
func (o *Origin) listedKey(m *ListedMedia) (cacheKey, bool) {
	base, path, err := o.locate(m.Base, m.Path)
	return cacheKey{origin: o.id, base: base, path: path, query: m.Query, version: m.RequestVersion, media: true}, err == nil
}

// setListed records what a playlist says of the key's object. What no playlist was known to list is the same bytes if it was
// fetched from trustedFrom on.
func (c *Cache) setListed(k cacheKey, s *listedState, trustedFrom int64) {
	now, e := c.now(), c.peekStored(k)
	if e == nil {
		if trustedFrom == math.MaxInt64 && s.isCurrent(now) {
			e = &entry{retention: min(time.Duration(s.until-now), c.config.MediaTTL)}
			e.listed.Store(s)
			c.entries.SetIfAbsent(k.clone(), e)
		}
		return
	}
	switch old := e.listed.Load(); {
	case !old.isCurrent(now):
		if e.started >= trustedFrom {
			s.since = e.started
		}
	case !s.replaces(old):
		return
	default:
		if s.playlist == old.playlist && s.continues(old) {
			s.since, s.wholeSince = old.since, old.wholeSince
		}
		if s.completes(old) {
			s.wholeSince = s.at
		}
	}
	e.setListed(s, now)
}

// listed returns what a playlist lists now under the key of a media object, or nil.
func (c *Cache) listed(k cacheKey) *listedState {
	if k.media {
		if e := c.peekStored(k.withoutRange()); e != nil {
			return e.listedNow(c.now())
		}
	}
	return nil
}

// listedNow returns what a playlist lists now, or nil.
func (e *entry) listedNow(now int64) *listedState {
	if s := e.listed.Load(); s.isCurrent(now) {
		return s
	}
	return nil
}

// isOf reports whether the entry can be what a playlist lists; s may be nil. If the origin states a lifetime of the bytes, it is
// believed. Where there were none, the origin may have them since: a playlist can list what is only about to be written.
func (e *entry) isOf(s *listedState) bool {
	switch {
	case s == nil, e.freshLimit == 0:
		return true
	case e.negative != nil:
		return e.started >= s.at
	default:
		return s.mayBe(e.started, e.isStreamed)
	}
}

// mayBe reports whether a response can be what a playlist lists; s may be nil. started is when its fetch began, isStreamed is as in
// responseHead.
func (s *listedState) mayBe(started int64, isStreamed bool) bool {
	return s == nil || started >= s.since && (isStreamed || started >= s.wholeSince)
}

// mayBeOther reports whether the entry has expired and nothing tells that the origin still has the same bytes: it states no
// lifetime, and no playlist lists them, or it was fetched before they were whole. Then a slow origin is waited for. One that fails is
// believed to have them.
func (e *entry) mayBeOther(now int64) bool {
	s := e.listedNow(now)
	return e.freshLimit != 0 && (s == nil || !e.isOf(s) || s.isGrowing && !e.isStreamed)
}

// setListed makes the entry fresh for as long as a playlist says, or expires it. s may be nil.
func (e *entry) setListed(s *listedState, now int64) {
	if !s.isCurrent(now) {
		return
	}
	e.listed.Store(s)
	if !e.isOf(s) {
		e.freshUntil.Store(0)
		if e.started < s.since { // else it is at worst the beginning of it, which is better than none
			e.staleUntil.Store(0)
		}
		return
	}
	before := e.freshUntil.Load()
	if longer := min(s.freshUntil, e.freshLimit) - before; longer > 0 {
		e.freshUntil.Store(before + longer)
		if e.staleUntil.Load() > 0 {
			e.staleUntil.Add(longer)
		}
	}
}
