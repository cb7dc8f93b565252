// Package httprequest checks viewers with a middleware as Astra's backend type "HTTP Request" does. Any middleware
// written for Astra works with it unchanged.
//
//	viewer requests  https://live.example.com/play/a001/index.m3u8?token=123
//	usher requests   GET https://auth.example.com/check?token=123
//	                 X-Session-ID: 640511947003803       a number, constant for the whole session; of an edge that asks,
//	                                                     the edge's own
//	                 X-Channel-ID: a001
//	                 X-Real-IP: 192.0.2.7
//	                 X-Real-Path: /play/a001/index.m3u8
//	                 X-Real-UA: VLC/3.0.20
//	                 X-Real-Host: live.example.com
//	                 X-Real-Origin: https://live.example.com   Alta's
//
// 200 allows the viewer, 401 and 403 deny; the other statuses mean what the preset and `statuses` say. X-Session-Name
// names the viewer. Flussonic's X-UserId, X-AuthDuration, X-Max-Sessions and X-Unique are honoured too, and a redirect.
//
// Invariants:
//   - The method is always GET, even if the viewer sent HEAD.
//   - A viewer's parameter or header never replaces one of ours.
//   - Unknown facts are omitted, not sent empty, and so is what an edge with sessions of its own did not send.
//
// Decided: the query is passed on byte for byte, with duplicates, because the format of a token is between the portal
// and its middleware. Refused: reading the body, which no published version of the contract has.
package httprequest
