// Package limits counts the streams of a user and decides which of them may play. [NewMemory] makes the limits of one
// node, [NewRedis] those of all nodes that share a Redis.
//
//	ReportStreams,    ─► Memory ────────────────────────────────┐
//	ReportAddresses   └► Redis ─ merges this node's calls ──────┼─► applyReports ─► states, evicted streams,
//	                       │ ▲                                  │                      when to report again
//	                       │ └ changed: the current streams ────┘
//	                       └── lua/store_streams.lua: stores them if the version is the one that was read
//
// The rule:
//  1. A stream that asked for nothing for its zap timeout Z does not count.
//  2. A stream that was beyond the limit, by policy, behind the same streams for the grace period G without a break, and
//     still asks, is evicted. It plays again once fewer streams hold a place than the limit allows.
//  3. A stream on the same device supersedes the older one at once, where the route names device fields.
//
// Beyond the limit by policy means behind as many streams as the limit allows: newer ones (evict-oldest) or older ones
// (reject-new). So [update.evict] evicts a stream when as many of those have each played together with it for G: the time
// from when both counted to when both last asked. G is at least 2Z + 2 s, with the longest Z of the streams that count.
//
// Silence is the age of the last request when a node reports. It stands until the next report, for the heartbeat interval
// and Z at most. While a user's streams exceed the limit every node reports them each second, woken by a message. A request
// in flight counts as asking. An edge with sessions of its own (Astra, Alta, Flussonic) asks only when a decision expires: there Z is
// for how long its session lives on. The others ask about each request, and Z is zap_timeout, or 10 s, since no node sees a playlist
// of theirs. A node reports a silent stream until two heartbeats after Z, and then no more before its viewer asks again, nor a session
// that does not play yet.
//
// A node does not know what the viewer has asked other nodes since. So a stream that one node reports as silent no longer
// counts, but it holds its place until the heartbeat interval and Z have passed since its last request: then all nodes have
// reported. Otherwise an evicted stream would play again, and be evicted again, for as long as a balancer sends each request
// elsewhere.
//
// A node that does not reach the store counts alone. It begins with the streams that it knows, as if they were reported
// then, so that an evicted stream stays so. What it evicts it tells no other node. A stream that counted when it was last
// reported counts as reported when the node reaches the store again, because no node may have been able to report it before:
// its own node has a heartbeat interval to do so, whichever node returns first. Its grace period begins anew. A node that was
// away alone reports at once what it counted meanwhile, since the others have had no outage that they could allow for.
//
// Zapping refuses no viewer. Let a viewer watch one channel at a time, with a limit that their other streams leave one of. To
// evict one of their streams A behind another one B, both must count without a break while both are asked for over G.
//   - The viewer leaves A for B and stays: A is not asked for any more, so both are asked for together for 0 s. That holds
//     under both policies, for any number of channels, and however late the nodes report.
//   - They go from A to B and back. While they watch B, A counts for Z, and 1 s until a node reports that. If they return
//     later, A had a break and begins anew. If they return earlier, B was asked for during Z + 1 s at most: less than G.
//   - They flick between the two for longer than G, and are never away from either for more than Z + 1 s: these are two
//     viewers to any rule. The policy evicts one of them. A viewer on it gets 403 while the other one holds its place, and then plays.
//
// Another viewer of the same user who does not zap is behind, or ahead of, streams of which each is watched for a moment.
// With the limit exceeded by such streams alone, they have none to be evicted behind: they notice nothing.
//
// An IPv4 and an IPv6 stream of one group count as one: a viewer with both kinds of address uses now this, now that one. A
// group is one viewer's credentials on one channel, whatever the address. It counts as often as it has streams of one
// family, and an eviction takes both streams of a pair.
//
// The addresses that use a ticket are counted by the same code, with other rules: an address counts while it asked within
// the idle timeout, and one beyond the limit does not join. None is evicted. The node of an address that joins reports the
// ticket's own session too, if the store knows that it plays.
//
// Invariants:
//   - Memory and Redis run the same code: only where the set is kept differs.
//   - No update is lost: a set is stored under a new random version, or not at all.
//   - A set that the store has lost is restored as it was last written, by the nodes that know it. The version of a set tells a
//     node that it knows writes which the store has lost, also after a node that knew less has begun the set anew. Viewers
//     who played play on, and those who were evicted stay so, though their session is opened anew. Sets with a denied stream are
//     restored as soon as the loss is noticed, the others with the next report. So an empty set is stored too, for as long as nodes
//     remember what was in it: a missing one is a loss.
//   - Opening times are in seconds. Among streams of one second the newest is the one that the store learned of last: a set
//     keeps that order, on all nodes and after a loss. Of one device's it is the one that was asked for last, because a node may
//     report a channel late that the device has left, in or after an outage of the store. So a call that waited for the store is
//     counted as of when it began.
//   - A call ends after a few tries. A stream that could not be counted plays on and is reported again within a second.
//   - A stream that a store has lost joins again with its opening time, and is not refused for that.
//   - All that is stored of a user expires by itself.
//
// Decided: a set holds 128 streams. A user with more, most likely the constant answer of a backend, is counted on each
// node for ten minutes, and the log says constant_user. A stream that finds no room there is refused once the limit is
// reached, so that opening many does not help.
//
// Decided: users and devices come as keyed hashes from package actors, which makes them once a session. A stream has a fixed size,
// so that encoding/binary writes it: 97 bytes, where varints took some 70.
//
// Refused: rules in Lua. They were a copy of those in Go, and as many lines again. A read before each write: a node keeps
// what it wrote last, and mostly no other node has written since.
package limits
