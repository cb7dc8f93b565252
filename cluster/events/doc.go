// Package events carries what all nodes must know at once: revocations, bans, requests to all nodes, and heartbeats.
// [New] makes a [Broker], which [Broker.Run] runs; [NewBans] makes the bans that it keeps the same on all nodes.
//
//	                ┌──────────────────── Broker ────────────────────┐
//	Publish ────────┤ revocationStream ── publish ───────────────────┼──► stream and channel of revocations
//	                │      ▲    └──────── replay after a gap ────────┼─── stream
//	StoreBans ──────┤ banSync ─────────── each side gets what lacks ─┼──► bans
//	StoreForced ────┤ forcedSync ──────── each side gets what is new ┼──► orders on breakers
//	Call ───────────┤ nodeRPC ─────────── request, reply ────────────┼──► a channel for each node
//	                │ nodeRegistry ────── heartbeat, twice a second ─┼──► nodes
//	                └────────────────────────────────────────────────┘
//	                                            Subscription ◄──────────── all channels
//
// A heartbeat returns where the stream ends and the orders on breakers, so a node knows within half a second what it missed.
//
// Invariants:
//   - Each revocation is applied once on every node: from the channel or, after a gap, from the stream. A node rechecks all
//     its sessions only if the stream was trimmed beyond what the node knows.
//   - When Redis lost the shared state, each node writes again what it issued in the last five minutes, and all bans and
//     tombstones that it knows. Its heartbeats then say so, and [Broker.AwaitBans] waits until those of all live nodes do.
//   - Once a node knows the same bans as Redis, each change comes by the stream. It compares them again only after a loss, a
//     failed write or a trimmed stream.
//   - A ban that was removed stays removed, whichever node knows what in which order.
//   - A kick of many sessions is a few groups: bans that list up to 500 viewers, each by session, user and credentials, with the
//     kick's id as their cause. The stream names a group alone, as its entries bound it, and a node that missed it fetches all bans.
//   - Redis learns no user, reason or credential: what describes viewers is encrypted.
//
// Decided: a message carries durations, and its id in the stream says when it was issued, so that the clocks of nodes need
// not agree.
//
// Decided: the bound of the viewers in groups holds where a kick begins. A node that knew fewer than the others would not agree
// with them.
//
// Decided: a ban of credentials stays encrypted with the key that they are hashed with, by whichever node it is written, since no other
// key can make the hashes. So its key is in the open, and nodes log which old keys bans need. The others are encrypted anew with the
// first key by each node that reads them. What a node cannot read it does not overwrite: another node may.
//
// Refused: consumer groups of the stream, which keep a list for nodes that no longer exist. Keyspace notifications, which
// are lost with a connection.
package events
