// Package jwt decides by the viewer's JSON Web Token (RFC 7519, signed as RFC 7515 says), without asking anybody about
// him. The portal signs a token and puts it into the link that it gives to the player:
//
//	https://live.example.com/play/a001/index.m3u8?token=eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOi….MEUCIQ…
//
//	header   {"alg": "ES256", "kid": "1"}
//	claims   {"sub": "42", "name": "alice", "exp": 1767225600, "channels": ["a001", "sport-*"], "ip": "192.0.2.7"}
//
// RFC 7519 knows sub, iss, aud, exp and nbf; the other names are between the portal and the config, and the example is
// read with channels_claim: channels and address_claim: ip. The portal shares a secret with the config, or hands out
// its public key as PEM, or publishes its keys as a JWK set (RFC 7517), which Run keeps fresh.
//
// Invariants:
//   - A key verifies the algorithms of its kind alone, and only those that the config lists; none is never one. Keys
//     and addresses of keys that a token brings along are not looked at; one that wants more of us (crit) is denied.
//   - Once keys are known no token brings about a failure, whatever key it names and however fetching fares: that would
//     let its bearer in.
//   - Viewers share a fetch, none's leaving ends it, and unknown keys cause one every ten seconds at most.
//   - No error, reason or log line holds a word of a token: the libraries' errors, which may, end here.
//
// Decided: no token is no opinion, so that other backends may have one; a bad token is a No. What a token says against
// its bearer (expired, another channel) holds even while no key is known, so an outage helps no token that rules itself
// out. The window of a token is for openings, unless end_session_on_expiry is set. Claims are judged here, because the
// moment that counts is the session's and the library's is its own. A configured claim of which no sense can be made
// is a No: otherwise it would lift a limit. Verified tokens are not remembered: an HS256 costs about 5 µs, RS256 35,
// EdDSA 50, ES256 70; a session asks once per validity, and a token that is cached outlives its key.
//
// Decided: jwkset reads the keys, but does not fetch them. Its storage reads answers of any size, fetches in its
// constructor, lets one bad key spoil a set, believes an empty one, and makes each viewer with an unknown key wait
// his turn at a rate limiter and fetch under his own context. keyfunc does not bind a key without alg to anything.
//
// Refused: redirects of the JWK set, since whoever answers decides who may watch; symmetric keys in it, which are no
// secret there; encrypted tokens; secrets below 32 bytes (RFC 7518 §3.2), which any bearer of a token can guess.
package jwt
