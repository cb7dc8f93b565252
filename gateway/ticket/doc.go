// Package ticket signs and verifies tickets, by which players show their session on every URI.
//
// A ticket is "<key id>.<48 characters of URL-safe base64>". The characters are 36 bytes: the session's id (16), when it was
// opened in Unix seconds (4), the tag of the address for which it was issued (4), and a MAC (12) over all of these, the
// key's id and the scope. One more character follows if the ticket is not for a whole channel: its kind, and how deep its
// folder is.
//
// Invariants:
//   - A session has one ticket for life, byte for byte the same on every node, also after signing moves to a new key.
//   - Verify needs no memory and no store, and does not allocate.
package ticket
