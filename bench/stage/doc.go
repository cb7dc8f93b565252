// Package stage is what the demo, the tests and the benchmarks play against: an HLS origin that is always live and
// needs nothing but its binary ([Origin]), and the demo's player page ([Player]).
//
//	/play/{channel}/index.m3u8      two variants        → high.m3u8, low.m3u8 → high-{seq}.ts, low-{seq}.ts
//	/single/{channel}/index.m3u8    a media playlist    → high-{seq}.ts
//	/ll/{channel}/index.m3u8        low latency, fMP4   → init.mp4, {seq}.m4s, {seq}.{part}.m4s
//
// Every channel name exists. All channels show the same twelve seconds, over and over.
//
// Invariants:
//   - The clock alone says what is on air: a media sequence number is the Unix time divided by the segment's length.
//     So an origin that restarts, and a second one beside it, list and serve the very same bytes.
//   - The loop has no seam. Timestamps and counters of every packet and fragment are moved on at each round; no
//     playlist ever has an EXT-X-DISCONTINUITY.
//   - Nothing grows with time: segments are kept for two windows, counted paths are bounded.
//
// Decided: media are cut into seconds (MPEG-TS) and parts of 200 ms (fMP4) and put together on demand, so that one
// small loop serves any segment duration. Media timestamps count from the Unix epoch, as the sequence numbers do;
// those of MPEG-TS wrap round each 26.5 hours, as they do in any broadcast.
//
// Decided: a part that is still being made is sent in two halves, the second when the part is complete. Chunks of
// one part that came frame by frame would say no more to a gateway.
//
// Refused: a clock that starts with the process (sequence numbers would jump back at a restart, and players stop);
// EXT-X-RENDITION-REPORT, as the low-latency channel has one rendition.
package stage
