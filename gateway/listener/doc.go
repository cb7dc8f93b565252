// Package listener bounds the connections of a listener, and learns from the PROXY protocol whose those of viewers are. It lies below
// whatever serves HTTP on them.
//
//	accept ─► max_connections ─► PROXY header, from listed networks ─► max_connections_per_address ─► TLS ─► HTTP
//
// Begin with [New], or with [NewPrivate] for operators and proxies.
//
// Invariants:
//   - Only the networks of proxy_protocol.from are believed. From others a PROXY header is a broken request.
//   - Beyond a bound the connection that has been idle for longest makes room, and only without one the new one is closed. So
//     connections that ask for nothing keep nobody out.
//   - A header of the PROXY protocol is read by the goroutine that serves its connection, so a slow one delays no other.
//
// Decided: the longest idle one is looked for among some connections that are drawn at random. A list in order would cost every
// request a lock.
//
// Decided: a connection of a listed network may lack the header, as health checks of load balancers do. Such a balancer is
// trusted, and a peer that lies can only take its address.
//
// Decided: addresses count by the prefix of one subscriber. Trusted proxies are exempt, because all their viewers share theirs.
package listener
