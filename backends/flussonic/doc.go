// Package flussonic checks viewers with a middleware as Flussonic's auth_backend does for playback. Any middleware
// written for Flussonic works with it unchanged.
//
//	viewer requests  https://live.example.com/play/a001/index.m3u8?token=123
//	usher requests   GET https://auth.example.com/auth?name=a001&ip=192.0.2.7&proto=hls&request_type=new_session
//	                 &request_number=0&session_id=12345678-9abc-8ef0-8000-000000000000&stream_clients=1
//	                 &total_clients=2&token=123&qs=token%3D123&user_agent=VLC%2F3.0.20&host=live.example.com
//	response         200, X-AuthDuration: 600, X-UserId: 42, X-Max-Sessions: 3
//
// 200 allows the viewer, 403 denies; other statuses mean what the preset flussonic and `statuses` say. X-Unique counts
// only if it is exactly "true". The sources are Flussonic's API documentation, flussonic.com/doc/api/authorization, for
// the parameters, flussonic.com/doc/limit-sessions-per-user for the headers, and Flussonic's last open version (3.69,
// 2013) for X-Unique and for failures. Nothing was tested against a current Flussonic.
//
// Not public: the validity of a response without X-AuthDuration (two imitations agree on 180 s; the 2013 version used
// 30 s), how current versions treat 302 and 5xx, and their timeout. The 2013 version gave a call 3 s, allowed on 302,
// kept the decision on 500 and a refused connection, and denied on 502, 503 and a timeout; here 302 is a redirect, and
// the others are failures, which keep the decision.
//
// To set up: the address is the one of auth_backend in Flussonic. A portal with a list of permitted streamers needs
// this node's address; user:password@ in the address, or `headers`, authenticate this node. Where a viewer without a
// token is never allowed, `required` of the route rejects them before anything is spent.
//
// Invariants:
//   - The viewer's query travels in qs alone, percent-encoded, so no viewer can override one of our parameters. It
//     holds their credentials as the route names them: without ticket, CMCD and the like.
//   - Viewer input is bounded, each value and the total, so no viewer can make a call fail by its size.
//   - request_type is update_session once the middleware, as far as is known, has answered about the session, and
//     new_session until then. request_number is 0 exactly in a new_session, and only grows while it is known.
//   - Unknown optional parameters are omitted, not sent empty. duration and bytes come with updates.
//
// Decided: an unanswered check does not open the session for the middleware, whatever the outage policy decided, so the
// next check says new_session and 0 again (the 2013 version, too, remembered only responses). Later numbers count
// failed checks, so some are skipped. A session admitted by ticket alone is new as well; a denied one is known. A viewer
// without a token, or with an empty one, gets the session's id as token, the same on every node. dvr is derived from
// the archive paths in Flussonic's public manual (see package flussonicquery); other forms are not marked. dvr describes the
// session's opening: a viewer who opens the live stream and then seeks into the archive is not checked again, unless
// the archive has its own route. Client counts are this node's. Where a
// Flussonic asks, its session_id, proto and dvr are passed on.
//
// Refused: response bodies. ad_inject would splice advertisements into another party's playlists; allowed_dvr_ranges
// grants parts of an archive, while a decision here covers the whole session, so the archive server must enforce
// ranges. The POST for publishing: this gateway carries no publishing. Astra's X- headers: not in this contract.
package flussonic
