// Package jwt decides by the viewer's JSON Web Token (RFC 7519, signed as RFC 7515 says), without a call about them. The
// portal signs a token and puts it into the link that it gives to the player:
//
//	https://live.example.com/play/a001/index.m3u8?token=eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOi….MEUCIQ…
//
//	header   {"alg": "ES256", "kid": "1"}
//	claims   {"sub": "42", "name": "alice", "exp": 1767225600, "channels": ["a001", "sport-*"], "ip": "192.0.2.7"}
//
// RFC 7519 defines sub, iss, aud, exp and nbf; the other names are between the portal and the config. The example needs
// channels_claim: channels and address_claim: ip. The portal shares a secret with the config, or provides its public
// key as PEM, or publishes its keys as a JWK set (RFC 7517), which Run keeps current.
//
// Invariants:
//   - A key verifies only the algorithms of its kind, and of those only the configured ones; none is never allowed.
//     Keys and key URLs inside a token are ignored; a token with critical extensions (crit) is denied.
//   - Once keys are known no token causes a failure, whatever key it names and whether fetches succeed: a failure
//     would admit its bearer. A backend with other settings takes the keys over from the one that it replaces.
//   - A token that no known key verifies, by its id or by its signature, is denied by keys fetched within the last second
//     alone. Without them it is an overload: its player retries, and no denial is remembered.
//   - Viewers share a fetch, no viewer's leaving ends it, and such tokens cause one every ten seconds at most.
//   - No error, reason or log line contains any part of a token: the libraries' errors, which may, are replaced here.
//
// Decided: no token means no opinion, so that other backends can decide; an invalid token is denied. What a token says
// against its bearer (expired, another channel) counts even while no key is known, so an outage helps no token that
// excludes itself. The token's window applies to the opening, unless end_session_on_expiry is set. A key that
// is removed or replaced ends the sessions that it opened at their next re-check, also those whose token has expired. Claims are
// validated here, because the relevant time is the session's opening and the library uses the present. A configured claim that is
// invalid denies: otherwise it would lift a limit. Verified tokens are not cached: an HS256 costs about 5 µs, RS256 35,
// EdDSA 50, ES256 70; a session is checked once per validity, and a cached token would outlive its key.
//
// Decided: jwkset parses the keys, but does not fetch them. Its storage reads responses of any size, fetches in its
// constructor, lets one bad key spoil a set, accepts an empty one, and makes each viewer with an unknown key wait at a
// rate limiter and fetch under their own context. keyfunc does not bind a key without alg to anything.
//
// Refused: redirects of the JWK set, since its source decides who may watch; symmetric keys in it, which are not secret
// there; encrypted tokens; secrets below 32 bytes (RFC 7518 §3.2), which any bearer of a token can guess.
package jwt
