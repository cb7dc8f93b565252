// Usher is an auth gateway for HLS. This command reads the settings, builds a node from all packages (node.go)
// and runs it (serve.go). The demo runs a node with an origin and a middleware in the same process.
//
// A node has parts that live as long as it does (listeners, sessions, cluster, cache), and a generation of what is made of the
// settings alone: backends, origins, gateway, API (generation.go). A reload (reload.go) makes the next generation, beside the
// present one, and replaces it by one pointer.
//
//	SIGHUP, API, file ─► read and validate ─► make what has changed ─► replace ─► the old one ends with its last request
//	                          └── any problem: refused, nothing has changed
//
// Invariants of a reload:
//   - A request is served by one generation, so it sees the old settings or the new ones.
//   - All settings are applied or none is, and every problem is reported with its place.
//   - What is made of settings that are the same is not made anew: a breaker, its windows, alarms and connections live on.
//   - Each setting is reloaded or in restartSettings. The name of a route is reloaded with one that comes or goes. Another name
//     for one that keeps its paths and hosts is refused, whatever else has changed.
//
// Decided: a generation ends after the one before it, because they share what has not changed. Its backends do not wait for a response
// longer than drain.timeout: one without an end would have removed backends asked for ever. The file is polled by what it says, with
// its secrets' files, and applied once two looks see the same, so that a file that is being written is not. Refused: watching by
// inotify, because it misses files behind links and on network volumes, and needs a library; a reload of all nodes by one request,
// because each has a file of its own.
//
// Refused: a profile for the compiler (default.pgo). With one of four loads (playlists, segments, an edge's questions, new viewers;
// 71 kB) a request took as much CPU as without in three alternating rounds (playlists × 0.98, questions × 1.00, new viewers × 1.00),
// and a cold build takes three minutes longer on two cores.
//
// Exit codes: 0 done (check: allowed), 1 a negative answer (check: denied), 2 failed (invalid settings, no answer).
package main
