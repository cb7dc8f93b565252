// Package records delivers a record of each session that has closed, for billing, reports and support: as a line of a file, and
// to a webhook.
//
//	closed ─► [Delivery.Closed] ─► file, a line of JSON each, rotated
//	                          └─► spool on disk ─► POST, again until it is taken ─► removed from the spool
//
// Invariants:
//   - A record that is in the spool is delivered at least once, over restarts. Its ID tells repetitions.
//   - A receiver that is down costs disk up to webhook.max_waiting records, and nothing else. Beyond that the oldest are lost,
//     and counted.
//   - No record has a token, a ticket, a query or a path.
//
// Decided: requests are signed as the Standard Webhooks specification says (standardwebhooks.com, 1.0.0: webhook-id,
// webhook-timestamp, webhook-signature), for which receivers have libraries. The webhook-id is a hash of the body, so that it is
// the same for each attempt with the same records, also after a restart.
//
// Refused: a goroutine and a queue for each record. The node that closes sessions closes them in batches, and a batch is one
// write to the disk. A record that the receiver refuses is not dropped: a receiver that is set up wrong would lose all.
package records
