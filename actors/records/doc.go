// Package records delivers a record of each session that has closed, for billing, reports and support: as a line of log, as a
// line of a file, and to a webhook. With open_events it also tells that a session has opened on a node.
//
//	closed ─► [Delivery.Closed] ─► spool on disk ─► POST, again until it is taken ─► removed from the spool
//	                          └─► file and log, a line each
//	open ───► [Delivery.KeepOpen] ─► spool on disk ─► recorded at the next start, unless the session has closed
//
// # The webhook
//
// A request is a POST by HTTP/1.1 with Content-Type application/json and the body
//
//	{"version": 1, "records": [{"id": "…", "event": "closed", …}, …]}
//
// of up to 250 records, the oldest first; [Record] lists the fields. Fields may be added. It is signed as the Standard Webhooks
// specification says (standardwebhooks.com, 1.0.0), for which receivers have libraries:
//
//	webhook-id         names the request: the same for each attempt with the same records, also after a restart
//	webhook-timestamp  when it was sent, in Unix seconds; refuse what is minutes old
//	webhook-signature  "v1," and the base64 of HMAC-SHA256(key, webhook-id + "." + webhook-timestamp + "." + body)
//
// The key is what the base64 says that follows "whsec_" in the setting records.webhook.secret. A secret without that prefix is the key
// as it is: for a receiver of one's own, since libraries decode every secret.
//
// Any status of 2xx within records.webhook.timeout takes all records of the request. Anything else, a redirect too, has them
// sent again after 250 ms, doubled with each failure up to a minute, half of it at random. Requests of a node follow one
// another, so a record may come late but not before an older one of its node.
//
// Delivery is at least once. A record's id tells repetitions: keep the ids that were taken, or store records by their id. The
// closing record of a session's next period has another id.
//
// Invariants:
//   - A record that is in the spool is delivered at least once, over restarts, until it is older than retention.
//   - Redis forgets what was counted of a session only after its closing record is in a spool. A node that is killed in between
//     loses nothing: another one closes the session again, and the record has the same id.
//   - A damaged value in the spool costs itself: it is dropped and counted, and the others are delivered.
//   - A receiver that is down costs disk, 1.3 times spool.max_size, and nothing else. Beyond that the oldest that are not being sent are
//     lost and counted, and one warning tells of it until half of the spool is free. No viewer waits for the file, the spool or the
//     receiver, and no session that closes for the removal of more than some 2,000 records.
//   - A record that a file cannot be rotated for is written to the file as it is, and an error in the log names its folder.
//   - No record has a token, a ticket, a query or a path. Addresses and names of users are deleted after retention.
//   - A record is estimated if a node was killed that had allowed the session. With redis its seconds end with the last
//     heartbeat of all nodes, and its counters lack what the killed node had not reported. Without redis both are as of the
//     last heartbeat, which spool.path has; without a spool.path the records of a killed node are lost.
//   - What waits when webhook.url is taken out waits until it is older than retention, and is sent if the URL is set again.
//   - A session that opened less than 100 ms before a kill may have no record.
//
// Decided: the closing records of a node without redis are written when it stops, with the reason node-stopped. Its viewers who
// come back begin a new period. With redis nothing closes: the other nodes go on.
//
// Decided: when the spool is full the oldest records go. What a receiver that was down for days needs first is what is still
// going on, and a spool that refuses new records would fail at the moment when the receiver is back.
//
// Decided: an event "opened" waits for its write for 100 ms, in a queue of 20,000, since an opening cannot wait for the disk. A
// kill loses those that wait, and beyond the bound they are counted as dropped. A session that moves is opened on each node, and
// closed once.
//
// Refused: a goroutine and a queue for each record. The node that closes sessions closes them in batches, and a batch is one
// write to the disk. A record that the receiver refuses is not dropped: a receiver that is set up wrong would lose all.
//
// Refused: a spool that becomes smaller. It would be another file, and a process that waits for the lock of this one would get
// one that no path leads to. What is free in it is used again, and costs a later write nothing.
//
// Refused: counters in each heartbeat, so that Redis knows what a killed node had counted. It would double the writes of all
// sessions for the few of a kill.
package records
