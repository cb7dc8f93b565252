// Package origin fetches from HLS origins through a cache. Concurrent misses share one fetch, whose body is streamed to
// all of them.
//
// Begin with [NewCache], [New], [Origin.Playlist] and [Origin.Media].
//
//	Playlist ─┐                   ┌─ fresh ──────────────► Object (one slice, one write)
//	          ├─► Cache (by key) ─┤
//	Media ────┘                   └─ miss ─► fetch ─► addresses in turn ─► origin
//	                                           └─► every reader reads the same memory as it arrives
//
// Invariants:
//   - A fetch runs on the origin's context. A viewer's context ends only that viewer's wait. A fetch whose last reader
//     leaves is cancelled, unless at least half of a storable body has arrived, or it is an ordinary playlist (small,
//     and needed by the next reload).
//   - The cache key is origin, path and query as listed, and the sorted _HLS_* directives or the range. A range is
//     stored under its own key and never as the whole object.
//   - The origin learns nothing about a viewer but the requested range.
//   - No lock is held during I/O, and no goroutine waits for a viewer. All resources are bounded: stored bytes
//     (cache.max_size), bytes in flight (a quarter of that, at least cache.max_object_size), connections (fetch.max_conns)
//     and fetches that wait for one (fetch.max_waiting).
//   - A body that is too large to store passes through a window that the slowest reader advances. A slow reader holds
//     back the fetch and does not grow memory. A reader that holds back others for fetch.idle_timeout is dropped.
//
// Decided: a playlist whose bytes did not change keeps its Object, with or without an ETag, so that derived values stay
// valid. An address is ejected only if it does not respond at all, and only if it responded to no other fetch
// meanwhile. After a 5xx the next address is tried, but one broken channel does not eject an address for all others. If
// all addresses are ejected they are tried anyway, because a late response is better than an immediate refusal; a stale
// copy is then served without waiting. Ordinary playlists, blocking reloads and media have separate connections, so that
// none of them starves another. A request for bytes=0-, which ffmpeg always sends, is a request for the whole object.
//
// Eviction goes by popularity, so in a full cache old popular segments can cost new ones a second or third fetch
// (measured: 1.0 to 1.1 fetches per segment, and 2 to 3 with 300 readers on each of 20 channels in a cache far too small
// for them). Media therefore also expire by age: when they are no longer fresh, and a minute later at most.
//
// Refused: counting hits (a counter shared by all cores would cost more than the lookup); resuming a broken body at
// another address (its bytes may differ); purging by prefix (live objects expire by themselves); Vary other than * (the
// gateway's requests do not differ).
package origin
