// Package hlscorpus holds playlists for tests of what is rewritten in them, and a reader that shares nothing with the
// one of gateway/hls. Only tests import it.
//
// Playlists are written as if they lay at [Address]. They name that host, the same origin's public name and a foreign
// host; see the constants. A test whose origin has another address replaces the names in the body.
package hlscorpus
