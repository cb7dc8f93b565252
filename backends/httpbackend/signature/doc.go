// Package signature signs requests to a middleware, so that it can tell them from those of strangers.
//
// Entry points: [Config], the section signature of a backend; [New] and [Signer.Sign].
//
//	X-Usher-Timestamp: 1772366400
//	X-Usher-Signature: a=<64 hexadecimal digits>,b=<64 hexadecimal digits>
//
// Each signature is the HMAC-SHA256, by the key of that id, of these lines, with "\n" between them and none at the end:
// "usher-v1", the method, path and query as sent, the timestamp in seconds since 1970, the key's id, and for each of
// signed_headers "name:value" with the name in lower case; the value of a header that is not sent is empty.
//
// Decided: every key signs, not only the first, because a middleware has one key at a time: while both are listed here, it
// can change from one to the other at any moment. What the query does not say of the viewer is in headers, so they are signed.
//
// Decided: a signed header that no route passes on is no mistake, since its line says that it is empty: a middleware wants the lines that
// it knows.
//
// Refused: the host, which proxies change; a body, since every request is a GET; a nonce, since a check may be repeated.
package signature
