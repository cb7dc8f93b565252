// Package reference seals what a playlist said of a URI into the URI itself, so that any node serves it without having seen the
// playlist.
//
//	what the tag and the URI said ─ AppendSealed ─► "~" and a reference, before the listed name
//	    (Target)                                      │ /~<ticket>/play/a001/~<reference>/seg-17.ts
//	the same, or a refusal       ◄──── Open ──────────┘ route, channel, folder and name come from the path (Scope)
//
//	reference = base64url( tag ‖ ciphertext )
//	tag        = HMAC-SHA256( MAC key, domain ‖ key id ‖ route ‖ channel ‖ folder ‖ name ‖ plaintext ), 16 bytes
//	ciphertext = AES-256-CTR( encryption key, tag, plaintext )
//
// Invariants:
//   - What opens was sealed with a configured key for this route, channel, folder and name. A viewer cannot make a reference.
//   - A target has one reference for a key and a scope, byte for byte the same on every node, and a reference has one text.
//   - A reference shows how long its target is, and whether it is the same as another of its scope. It shows nothing else.
//   - Open needs no memory and no store, and does not allocate. It refuses whatever text it is given without a panic.
//
// Decided:
//   - References are encrypted, not only signed: an inner address or an origin's token stays inside.
//   - Encryption is deterministic. A random nonce would change each URI with each reload and on each node, and would have to be
//     remembered. What that shows, which references are the same, plain URIs show too.
//   - The composition is SIV (Rogaway and Shrimpton, 2006): a PRF of all that is authenticated is both the tag and the first
//     counter block. It stays secure without a nonce, and needs only HMAC, AES and HKDF of the standard library.
//   - The PRF is HMAC-SHA256 and not the S2V of RFC 5297, because that needs CMAC, which the standard library does not have.
//   - Both keys are derived by HKDF from the key that signs tickets, each for its own purpose, so that one list of keys is
//     rotated. The caller names the key of the viewer's ticket: a URI does not change while a session lives.
//   - The scope is under the tag and not in the text: a reference is shorter, and the path cannot contradict it.
//   - The plaintext leaves out the last segment of the path where the URI shows the same bytes after it.
//   - The parser refuses what the encoder does not write, so that it is safe even with a known key.
//
// Refused:
//   - AES-GCM with a nonce derived from the target: 12 bytes of nonce meet at 2^48 targets, and one meeting gives away the
//     key of its authentication.
//   - AES-GCM-SIV: the standard library does not have it, and tink-go's draws a random nonce.
//   - tink-go's deterministic AES-SIV: a dependency for fifty lines, and its methods return new memory for each text.
//   - A key id in the reference: the tag finds the key among the few.
package reference
