// Package origin fetches from HLS origins through a cache. Concurrent misses share one fetch, whose body is streamed to
// all of them.
//
// Begin with [NewCache], [New], [Origin.Playlist] and [Origin.Media].
//
//	Playlist ─┐                   ┌─ fresh ──────────────► Object (one slice, one write)
//	          ├─► Cache (by key) ─┤
//	Media ────┘                   └─ miss ─► fetch ─► addresses in turn, or one redirect host ─► origin
//	                                           └─► every reader reads the same memory as it arrives
//
// Invariants:
//   - A fetch runs on the origin's context. A viewer's context ends only that viewer's wait. A fetch whose last reader
//     leaves is cancelled, unless at least half of a storable body has arrived, or it is an ordinary playlist (small,
//     and needed by the next reload).
//   - The cache key is origin, redirect host if any, path and query as listed, the version of a reference, and the sorted
//     _HLS_* directives or the range. A range is stored under its own key and never as the whole object.
//   - The origin learns nothing about a viewer but the requested range.
//   - A request, and each redirect of it, goes to an address of an origin or to a host of redirect_hosts. The address of
//     such a host is checked after its name was resolved. Header fields and cookies of the origin go to its own addresses,
//     and to hosts with send_headers; nothing else of a request goes along with a redirect, not even its URL as Referer.
//   - Every failure that a viewer felt is reported: [Origin.Report]. Reports have no query and no password.
//   - No lock is held during I/O, and no goroutine waits for a viewer. All resources are bounded: stored bytes
//     (cache.max_size), bytes in flight (a quarter of that, at least cache.max_object_size), connections (fetch.max_conns)
//     and fetches that wait for one (fetch.max_waiting). The origin holds no more reloads than Request.MaxHeld of
//     one playlist, Request.MaxHeldForViewer of one viewer, and a quarter of fetch.max_conns of one address.
//   - A body that is too large to store passes through a window that the slowest reader advances. A slow reader holds
//     back the fetch and does not grow memory. A reader that holds back others for fetch.idle_timeout is dropped.
//   - Media without a lifetime of the origin's are fresh for as long as a playlist lists them for the same bytes, or for
//     Request.FreshFor. Both are bounded by cache.media_ttl.
//   - A playlist is never stored as media, whatever its name and type say.
//
// Decided: a playlist whose bytes did not change keeps its Object, with or without an ETag, so that derived values stay
// valid. An address is ejected if connecting fails, or if three channels fail without a response in between, and only if it
// responded to no other fetch meanwhile. One channel that fails is fetched from the next address for a while, alone, and so is one of
// which an address sends headers and no body in time. After a 5xx, and after a 404 with fallback_on_404, the next address is tried. A
// playlist that is 404 or no playlist for a moment is served stale as after a 5xx, because packagers write playlists anew; a 403 or 410 is
// a decision and is not hidden. What redirect hosts have is not fetched elsewhere, because their paths need not be those of another
// server. A redirect to a public name is followed at the origin's address, because viewers' requests for that name may arrive at this
// gateway. A Content-Encoding that is no coding of the body (aws-chunked, a charset) is ignored. A Last-Modified of the second in which the
// response was sent is ignored too, because the next version may have it as well: there the ETag alone tells versions apart. If all
// addresses are ejected they are tried anyway, because a late response is better than an immediate refusal; a stale copy is then served without waiting. Ordinary playlists,
// blocking reloads, media, and media that pass through have separate connections, so that none of them starves another: a film that is not
// stored holds its connection for as long as its viewer reads. One whose length the origin did not state is known to be large when viewers
// read it already: without room there it stays among media, and is broken off where such films hold half of their connections. What is small
// enough to be stored never is, although it passes through while too many bytes are in flight. A request for bytes=0-, which ffmpeg always
// sends, is a request for the whole object. If the origin fails, a stale copy of the whole object serves ranges too, unless there may be
// more bytes by now. What the caller reads in a playlist ([Request].Inspect) is kept of its last response, whatever the directives, because
// players that take delta updates ask for nothing else. A response to directives that leaves nothing out is stored as the playlist without
// them too. If the origin fails a reload for what it has already, a stale copy of the playlist without directives is the answer, for a
// second without asking again. It is the answer to any reload in place of a 404, for cache.negative_ttl without asking again. An origin that
// is slow is waited for there, until the copy expires, because that may be older than what the player has. It is not held on purpose, so
// that fetch.response_timeout bounds it and the address is avoided. A reload that the origin refuses is asked for once more without them,
// because a packager whose numbers began anew refuses all others.
//
// Names are used again: a ring of segments, a key that is changed at one URI. [Origin.Listed] tells which version of an object a
// playlist lists. The versions stand in the entries of the cache and nowhere else. The newest segments get an entry before
// anybody fetches them, so that a fetch can be told from one before they were listed. Only one playlist is heeded at a time,
// because two may number an object differently, but one that lists a file whole goes before one that lists ranges of it. The bytes are the
// same as long as one of the versions remains, because a playlist may list a slate at several places. Of a key none may be new. What the
// playlist does not number (byte ranges of a file, an initialization section without a key) is fresh for Request.FreshFor alone, and so
// is a file of which it lists ranges, or that it announces (EXT-X-PRELOAD-HINT, EXT-X-PREFETCH). A packager may still write it. So the
// whole of it is fetched anew, and so is a range that ends behind its cached bytes or is open, unless the playlist is complete, and
// nothing that was fetched before is the file that is listed in the end. So one that players fetch when it is announced costs the origin a
// second request, a conditional one if it sent a validator, and its copy is served only if that fails, or is 404 while the file is listed: one
// of several servers does not have it yet. A response without a stated length is the file: it was sent as it was written. An origin that
// states a lifetime is believed. A 404 or 410 is believed until the next version of a playlist lists the object, because one may announce an
// object before it is written, and players do not ask again after a 404.
//
// The first bytes tell a playlist, because servers send playlists as text, data or videos, and segments as playlists. So the head of
// media waits for them, whatever its type, and if they do not come the next address is tried. The viewer's request is then one for the
// playlist. For as long as media would be fresh, nobody tries it as media again. A range that does not have the first bytes waits for those
// of the object, which are fetched as a range of their own and cached as one: the whole object may be a film. Only there a type of a video,
// sound or picture is believed.
// What is listed as a playlist may be media in turn (Request.MayBeMedia), as an interstitial's asset may be a film: its type tells that, or
// a zero byte among the first ones. Text that is no playlist is a failure. A server may send a slate in place of a playlist while its
// channel is down. So that it is media is believed for cache.negative_ttl alone. If the origin fails then, it still is, as a stale playlist is
// served: for cache.media_ttl, or for as long as the origin says that the media are fresh, unless there was a playlist since. What was a
// playlist is served stale, and is never media while its last response is known. So a reload with directives is not. No other address is
// asked for the playlist: one that hangs would keep each film's viewers waiting.
//
// Eviction goes by popularity, so in a full cache old popular segments can cost new ones a second or third fetch
// (measured: 1.0 to 1.1 fetches per segment, and 2 to 3 with 300 readers on each of 20 channels in a cache far too small
// for them). Media therefore also expire by age: at most a minute after they can no longer be fresh.
//
// Refused: Host among the origin's header fields, because the certificate and the cache of the origin go by the URL; the
// Referer and the cookies of viewers; counting hits (a counter shared by all cores would cost more than the lookup);
// resuming a broken body at another address (its bytes may differ); purging by prefix (live objects expire by themselves);
// Vary other than * (the gateway's requests do not differ).
package origin
