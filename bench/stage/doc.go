// Package stage provides a live HLS origin ([Origin]) and the demo's player page ([Player]) for the demo, the tests and
// the benchmarks. Both are embedded in the binary.
//
// Begin with [NewOrigin] and [Player].
//
//	/play/{channel}/index.m3u8      two variants        → high.m3u8, low.m3u8 → high-{seq}.ts, low-{seq}.ts
//	/single/{channel}/index.m3u8    a media playlist    → high-{seq}.ts
//	/ll/{channel}/index.m3u8        low latency, fMP4   → init.mp4, {seq}.m4s, {seq}.{part}.m4s
//
// Every channel name exists. All channels show the same loop of twelve seconds.
//
// Invariants:
//   - The live window depends on the clock alone: a media sequence number is the Unix time divided by the segment
//     duration. A restarted origin and a second one list and serve the same bytes.
//   - The loop has no discontinuity. Timestamps and counters of every packet and fragment are advanced with each round,
//     and no playlist has an EXT-X-DISCONTINUITY.
//   - Memory does not grow with time: segments are kept for two windows, and the counted paths are bounded.
//
// Decided: media are cut into seconds (MPEG-TS) and parts of 200 ms (fMP4) and joined on demand, so that one small loop
// serves any segment duration. Media timestamps count from the Unix epoch, as the sequence numbers do. Those of MPEG-TS
// wrap around every 26.5 hours, as in any broadcast.
//
// Decided: an incomplete part is sent in two halves, the second when the part is complete. More chunks per part would
// test nothing more in a gateway.
//
// Decided: the server tells the page which session its source belongs to. A refused viewer has no ticket, and a guess by
// channel and token names another viewer. The page keeps the denial that its screen shows when the gateway has forgotten it,
// so that the numbers agree with the screen.
//
// Refused: a clock that starts with the process (sequence numbers would jump back at a restart, and players would
// stop); EXT-X-RENDITION-REPORT, because the low-latency channel has one rendition.
package stage
