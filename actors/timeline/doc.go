// Package timeline keeps what has decided on a session on one node: each check, look-up, fallback and order of an operator,
// with its time, its duration and its outcome. Begin with [Log].
//
//	opening   recheck ×214   recheck   …   expiry: breaker-open   recheck   kick
//	  kept      merged         the newest ones, each for itself
//
// Invariants:
//   - A log holds [MaxEntries] entries at most. Its first one is the session's first decision, as long as the session lives.
//   - What changed the verdict or the source goes last: equal re-checks are merged first, then those that changed nothing
//     are left out, and an entry says how many were left out before it.
//   - A text is bounded. It holds no token, ticket, path or query: reasons hold none, and errors are those of a backend's calls,
//     which adapters make without them.
//
// Decided: a log is one string, in which an entry takes some seven bytes: times are differences, and a text that equals the
// one before it takes none. The name of the backend is not in it, because a session has one. A session holds 40 bytes after
// its opening, 150 after sixteen checks and 200 if one of these failed, whatever its age: BenchmarkLog_Memory. So a
// million sessions hold 40 to 200 MB. An entry is written when a check ends, and never by a viewer's request.
//
// Decided: a log ends with its session on the node. Of a session that is over the log of the node and its traces tell.
//
// Refused: a ring of structs (40 bytes an entry, and three pointers for the collector to follow), a table of all reasons (a
// backend may write the user's name into each), and the store (a write for each check, read once a day).
package timeline
