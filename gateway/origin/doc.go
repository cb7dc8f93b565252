// Package origin fetches from HLS origins: from memory where it can, else from the origin, with one request for all
// who miss at the same moment, streamed to all of them.
//
//	Playlist ─┐                   ┌─ fresh ──────────────► Object (one slice, one write)
//	          ├─► Cache (by key) ─┤
//	Media ────┘                   └─ miss ─► flight ─► addresses in turn ─► origin
//	                                           └─► every follower reads the same memory as it arrives
//
// Invariants:
//   - A flight belongs to nobody: it runs on the origin's context, and a viewer's context ends only that viewer's wait.
//     When its last follower leaves it is cancelled, unless at least half of a body that will be stored is there, or it
//     is an ordinary playlist (small, and the next reload wants it).
//   - The key is origin, path and query as listed, and the sorted _HLS_* directives or the range. A range is stored
//     under its own key and never as the whole.
//   - The origin is told nothing of a viewer but the range he wants.
//   - No lock is held during I/O, no goroutine waits for a viewer, and everything is bounded: stored bytes
//     (cache.max_size), bytes of flights (a quarter of that, at least cache.max_object_size), connections
//     (fetch.max_conns) and fetches that wait for one (fetch.max_waiting).
//   - A body that is too big to store passes through a window that the slowest reader moves: a slow reader holds back
//     the fetch instead of growing memory. One who starves the others for fetch.idle_timeout is cut off.
//
// Decided: a playlist whose bytes did not change keeps its Object, with or without an ETag, so that what callers
// derived from it lives on. An address is set aside only for failing to answer at all, and only if it answered nobody
// else meanwhile; a 5xx makes the next address be asked, but one broken channel does not move all the others. When
// every address is set aside they are asked all the same: an answer late is better than a refusal at once. A stale
// copy is then given without waiting. Ordinary playlists, blocking reloads and media have connections of their own,
// so that none of them starves another. A request for bytes=0- (ffmpeg's habit) is a request for the whole.
//
// Eviction looks at popularity, so in a full cache yesterday's hot segments can cost today's a second or third fetch
// (measured: 1.0 to 1.1 a segment, 2 to 3 with 300 readers each of 20 channels in a cache far too small for them). Media
// therefore also goes by age: when it is no longer fresh, and a minute later at most.
//
// Refused: counting hits here (a counter that all cores share would cost more than the lookup), resuming a body that
// broke off at another address (its bytes need not be the same), purging by prefix (live objects go by
// themselves), Vary other than * (every request of ours is alike).
package origin
