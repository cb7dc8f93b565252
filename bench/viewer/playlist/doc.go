// Package playlist reads of an HLS playlist what a viewer needs to play it: RFC 8216, without decryption and low-latency parts.
//
// Decided: a tag that is not known or cannot be read is skipped, as players do. Everything found is a part of the text, so that
// reading allocates nothing.
//
// Refused: the project's own rewriter. A generator that reads with the gateway's code would not find its faults.
package playlist
