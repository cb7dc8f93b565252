// Package upstream says which hosts an origin's redirects and playlists may name, which of them get the origin's header
// fields, and which addresses such a host may have.
//
//	scheme, host ─► authority ─► an address of the origin, or a public name of it ─► Own
//	                             an entry of redirect_hosts, or another origin    ─► Listed
//	                             any other                                        ─► Foreign
//
// Begin with [Config] and [NewHosts].
//
// Invariants:
//   - Two spellings of one host are one host: case, the root's dot, the scheme's own port, and the forms of an IP address.
//   - A host that is none in ASCII, or has a port out of range, is Foreign.
//   - A redirect host never has an address of a private network, unless allowed_networks lists it. The addresses of the
//     origins themselves are as the operator wrote them.
//
// Decided: an entry without a port means the port of the URI's scheme, and "host:*" any port, as in a Content-Security-Policy,
// because other services listen at other ports of a host. "*.example.com" means every name below example.com, and not
// example.com itself. An IPv6 address that embeds an IPv4 address (IPv4-mapped, NAT64, 6to4) counts as that one.
//
// Refused: a check of names before resolution alone, because a name's owner chooses its addresses; "*" for all hosts,
// because an origin's playlist could then name any.
package upstream
