// Package users decides by accounts in a file, as Astra's own users do. It asks nobody.
//
//	viewer asks  /play/a001/index.m3u8?token=9f2c…   or   ?auth=alice:wonderland   or   ?user=alice&password=wonderland
//
//	users:                                          # the file, in YAML; an unknown key is an error
//	  alice:
//	    password: "$2y$05$…"                        # htpasswd -nbB alice PASSWORD, what follows the colon
//	    tokens: ["9f2c…", "sha256:…"]               # or their SHA-256: printf %s TOKEN | sha256sum
//	    enable: true                                # false: nobody gets in
//	    expires: 2026-12-31T00:00:00Z               # or a Unix time; without: never
//	    connections: 2                              # at once; without, or 0: no bound
//	    addresses: [192.0.2.0/24]                   # without: all
//	    channels: ["a001", "sport-*"]               # without: all
//	  bob: { password: "sha256:<salt in hex>:<SHA-256 in hex of the salt's bytes and the password>" }
//
// Source: Cesbo's documentation of Astra, astra.cesbo.com, pages on access by users (auth=login:password or token=…, on
// a master playlist or a channel) and on users (enable, token, ip, expire, connection limit), stated by the vendor. Not
// public: how Astra stores passwords, what it does to a session that expires, which of several credentials counts. user
// and password are the parameters that a route takes from a path such as /{user}/{password}/{channel}.
//
// Invariants:
//   - Nobody gets in but by a token or a password of the account, and no error, reason or log line holds either.
//   - It never fails, so no outage policy lets anybody in: what takes too long is an overload, before the
//     answer_deadline ends.
//   - A login that nobody has takes as long as a wrong password, in whatever kinds of hash the file's passwords are.
//   - A file that is wrong changes nothing, and is told of once.
//
// Decided: a known token decides, whatever else was given; else login and password do. Of passwords hashes only, but
// plain tokens too, which are random: write their SHA-256 where others read the file. A right password is remembered,
// by a keyed hash over login, stored hash and password, so a new hash in the file forgets it; wrong ones are not, as
// sessions remember denials. bcrypt gets half of the CPUs, and max_waiting may queue: a flood of guesses makes those
// wait, or come back, who log in by bcrypt for the first time; tokens, remembered passwords and running sessions go on.
// htpasswd's cost 5 takes 1.5 ms, 10 takes 50, 12 takes 190, and more is refused. expires binds openings, unless
// end_session_on_expiry; all else binds the next check. Replace the file by renaming: what is half written may be read.
//
// YAML and not JSON: operators comment accounts, and the settings are YAML. Read by go.yaml.in/yaml, whose time grows with
// the file; that of the settings' library grows with its square. Refused: plain passwords; dates alone; aliases.
package users
