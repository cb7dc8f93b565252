// Package flussonic asks a middleware as Flussonic asks its auth_backend about a viewer who plays. Any middleware
// written for Flussonic works with it unchanged.
//
//	viewer asks  https://live.example.com/play/a001/index.m3u8?token=123
//	we ask       GET https://auth.example.com/auth?name=a001&ip=192.0.2.7&proto=hls&request_type=new_session
//	             &request_number=0&session_id=12345678-9abc-8ef0-8000-000000000000&stream_clients=1
//	             &total_clients=2&token=123&qs=token%3D123&user_agent=VLC%2F3.0.20&host=live.example.com
//	it answers   200, X-AuthDuration: 600, X-UserId: 42, X-Max-Sessions: 3
//
// 200 lets the viewer in, 403 does not; other statuses mean what the preset flussonic and `statuses` say. X-Unique
// counts if it is exactly "true". The sources are Flussonic's API documentation, flussonic.com/doc/api/authorization,
// for the parameters, flussonic.com/doc/limit-sessions-per-user for the headers, and Flussonic's last open version
// (3.69, 2013) for X-Unique and for what goes wrong. Nothing was tried against a Flussonic of today.
//
// Not public: how long an answer holds that does not say (two imitations agree on 180 s; the 2013 version took 30 s),
// what the versions of today make of 302 and 5xx, and their timeout. The 2013 version gave a call 3 s, let in after
// 302, kept the decision after 500 and a refused connection, and denied after 502, 503 and a timeout; here 302 is a
// redirect, and the others are failures, which keep it.
//
// To set up: the address is what auth_backend has in Flussonic. A portal that lists the streamers it answers needs
// this node's; user:password@ in the address, or `headers`, prove who asks. Where a viewer without a token is never
// let in, the route's list of required credentials refuses him before anything is spent on him.
//
// Invariants:
//   - The viewer's query travels in qs alone, percent-encoded, so he can override none of our parameters. It is his
//     credentials, as the route names them: without ticket, CMCD and the like.
//   - What viewers say is bounded, each fact and all together, so that no viewer can make a call fail by its size.
//   - request_type is update_session once the middleware, as far as we know, has answered about the session, and
//     new_session until then. request_number is 0 exactly in a new_session, and only grows while it is known.
//   - Optional facts that are not known are left out, not sent empty. duration and bytes come with updates.
//
// Decided: a check that nobody answered does not open the session towards the middleware, whatever the policy told the
// viewer, so the next check says new_session and 0 again (the 2013 version, too, remembered answers only). Later
// numbers count the failed checks, so some are skipped. A session that only its ticket speaks for is new as well; one
// that was refused is known. A viewer without a token, or with an empty one, gets his session's id as his token, the
// same on every node. dvr is read off the archive addresses in Flussonic's public manual (see isArchive); other forms
// are not marked. It is the session's opening that is told of: one who opens the live stream is not asked about again
// when he goes on to the archive, unless that has a route of its own. Counts of clients are this node's.
//
// Refused: bodies of answers. ad_inject would have us splice advertisements into somebody else's playlists;
// allowed_dvr_ranges is a right to parts of an archive, while a decision here covers the whole session: a portal that
// grants ranges must have them kept by who cuts the archive. The POST for publishing, as nobody publishes through a
// gateway. Astra's X- headers, which the contract does not have.
package flussonic
