// Package smarty asks a Microimpuls Smarty middleware, as Astra's backend type "Microimpulse Smarty" does, and reads
// the JSON that it answers with.
//
//	config   address: http://smarty.example.com
//	we ask   GET http://smarty.example.com/tvmiddleware/api/streamservice/token/check/?token=T
//	         and Astra's X- headers, see package httprequest
//	yes      {"error": 0}
//	no       {"error": 1} expired, {"error": 2} made for other content, {"error": 3} made for another address
//
// `send: [name, ip]` adds name, the channel, and ip, the viewer's address, as ours: they replace the viewer's of the
// same name. name must be the id that the content has in Smarty; ip is compared if the service has that option on. Off
// by default, since Astra sends neither; then neither is checked, unless the viewer's own query holds them.
//
// The source is Microimpuls' API documentation (microimpuls/microimpuls.github.io, version 1.98.0,
// StreamServiceTokenCheck). Its Streaming API has the same check at /streaming/api/streamservice/token/check/: type
// that address in full, for one that ends in /token/check/ is used as typed. That Astra appends the path follows from
// Cesbo's auth-proxy, whose manual gives the same address in full.
//
// Not public: the HTTP status beside errors 1 to 3, the answer to no token at all (a route's `required_credentials: [token]` saves
// the call), headers such as X-AuthDuration, and what "one-time", as the tokens are called, means. Flussonic, which
// Smarty supports (microimpulse.ru/docs/smarty/video-servers-integration/flussonic), goes by the status and asks again
// and again: so probably 403, and probably no check uses a token up.
//
// In Smarty, give the stream service a URL mask with the token, such as http://streamer:8080/mychannel/?token=$token.
// Tokens live for TVMIDDLEWARE_STREAM_SERVICE_TOKEN_TTL, 3600 s by default. So the program sets, around this adapter,
// token_ttl: 3600s and validity: 3000s, and a session is asked about once more before its token ends.
//
// Invariants:
//   - Only `error: 0` is a yes. A number (or a number in quotes) decides, and the status beside it does not.
//   - What is not that, or a code that nobody documents, is a failure, never a No: an error page says nothing about the
//     viewer. The status table has the first word on it, so that a 503 or 404 is shown as what it is, and a redirect
//     sends the viewer where the table lets it.
//   - A yes must have what require_header and require_body ask for, and is otherwise read as a 200: headers and all.
//   - No error shows what was answered, since that may repeat a token; an unknown code of up to four digits is none.
//
// Decided: `error` must stand once, at the top and in small letters, so that no two readers of one answer can differ.
// A No takes no header: none is documented, and a No is remembered for denial_ttl anyway. Refused: reading `statuses` as
// yes or no; the body has the word.
package smarty
