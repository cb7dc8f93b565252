// Package smarty checks viewers with a Microimpuls Smarty middleware, as Astra's backend type "Microimpulse Smarty"
// does, and parses its JSON response.
//
//	config    address: http://smarty.example.com
//	request   GET http://smarty.example.com/tvmiddleware/api/streamservice/token/check/?token=T
//	          and Astra's X- headers, see package httprequest
//	allowed   {"error": 0}
//	denied    {"error": 1} expired, {"error": 2} made for other content, {"error": 3} made for another address
//
// `send: [name, ip]` adds name, the channel, and ip, the viewer's address, as our own parameters: they replace the
// viewer's of the same name. name must be the content's id in Smarty; ip is compared if the service has that option on.
// Off by default, since Astra sends neither; then neither is checked, unless the viewer's own query contains them.
//
// The source is Microimpuls' API documentation (microimpuls/microimpuls.github.io, version 1.98.0,
// StreamServiceTokenCheck). Its Streaming API has the same check at /streaming/api/streamservice/token/check/: for that,
// configure the complete address, since one that ends in /token/check/ is used unchanged. That Astra appends the path
// follows from Cesbo's auth-proxy, whose manual gives the same address in full.
//
// Not public: the HTTP status beside errors 1 to 3 (200, 401 and 403 are read as meant), the response without a token
// (`required: [token]` of a route saves the call), headers such as X-AuthDuration, and the meaning of "one-time", as the tokens
// are called. Flussonic, which Smarty supports (microimpulse.ru/docs/smarty/video-servers-integration/flussonic), decides by
// the status and checks repeatedly: so the status is probably 403, and a check probably does not consume a token.
//
// In Smarty, give the stream service a URL mask with the token, such as http://streamer:8080/mychannel/?token=$token.
// Tokens live for TVMIDDLEWARE_STREAM_SERVICE_TOKEN_TTL, 3600 s by default. So the program sets, around this adapter,
// token_life: 3600s and validity: 3000s, and a session is re-checked once before its token expires.
//
// Invariants:
//   - The status table decides first, as for every kind: a 403 denies without a code, and its body is not waited for.
//   - Where the status allows, only `error: 0` does (a number, or a number in quotes), and 1 to 3 deny.
//   - Any other body, or an undocumented code, is a failure there, never a denial: an error page says nothing about the
//     viewer.
//   - An allowed response must satisfy require_header and require_body; its headers are read.
//   - No error shows the response, which may repeat a token, except an unknown code of up to four digits.
//
// Decided: `error` must occur once, at the top level and in lower case, so that no two parsers of one response can
// differ. Headers of a denial by code are ignored: none is documented, and the session caches denials anyway. A status
// that the table does not know (a 404 with `error: 2`) is what the table says, with its alarm; `statuses` can change it.
package smarty
