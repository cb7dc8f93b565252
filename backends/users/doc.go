// Package users decides by accounts in a file, as Astra's own users do. It calls no middleware.
//
//	viewer requests  /play/a001/index.m3u8?token=9f2c…   or   ?auth=alice:wonderland   or   ?user=alice&password=wonderland
//	                 or with the header   Authorization: Basic …
//
//	users:                                          # the file, in YAML; an unknown key is an error
//	  alice:
//	    password: "$2y$05$…"                        # htpasswd -nbB alice PASSWORD, what follows the colon
//	    tokens: ["9f2c…", "sha256:…"]               # or their SHA-256: printf %s TOKEN | sha256sum
//	    enable: true                                # false: denied
//	    expires: 2026-12-31T00:00:00Z               # or a Unix time; without: never
//	    connections: 2                              # at once; without, or 0: unlimited
//	    addresses: [192.0.2.0/24]                   # without: all; an empty list is an error
//	    channels: ["a001", "sport-*"]               # the same; * is any text, '/' included
//	  bob: { password: "sha256:<salt in hex>:<SHA-256 in hex of the salt's bytes and the password>" }
//
// Source: Cesbo's documentation of Astra, astra.cesbo.com, pages on access by users (auth=login:password or token=…, on
// a master playlist or a channel) and on users (enable, token, ip, expire, connection limit), stated by the vendor. Not
// public: how Astra stores passwords, what it does to a session that expires, which of several credentials counts. user
// and password are the parameters that a route takes from a path such as /{user}/{password}/{channel}.
//
// Invariants:
//   - A viewer is allowed only by a token or password of the account, and no error, reason or log line contains either.
//   - A check never fails, so no outage policy allows a viewer: a check that takes too long is an overload, before
//     answer_deadline ends.
//   - An unknown login takes as long as a wrong password, whatever kinds of hash the file has.
//   - An invalid file changes nothing, and is logged once.
//
// Decided: a known token decides, whatever else was given; otherwise login and password do, from the query or else from
// Authorization: Basic, if the route names that header among its credentials. Players send it only when asked, so realm
// asks viewers who have shown no account: 401 and a challenge. A viewer whose account denies them is not asked, since the
// same credentials would be denied again. Passwords are stored as
// hashes only, but tokens, which are random, also in plain: store their SHA-256 where others read the file. A correct
// password is cached, by a keyed hash over login, stored hash and password, so a new hash in the file invalidates it;
// wrong ones are not, as sessions cache denials. bcrypt gets half of the CPUs, with a queue of max_waiting: a flood of
// guesses delays or turns away first logins by bcrypt; tokens, cached passwords and running sessions are unaffected.
// htpasswd's cost 5 takes 1.5 ms, 10 takes 50, 12 takes 190, and more is rejected. expires applies to openings, unless
// end_session_on_expiry; all else applies to the next check. Replace the file by renaming: a half-written file may be read.
//
// YAML and not JSON: operators comment accounts, and the settings are YAML. The library's time is linear in the file.
// Refused: plain passwords; dates alone; aliases.
package users
