// Package netns is a network of Linux network namespaces whose links can fail: each pair of hosts by itself, by latency, loss or
// a cut, as on the way between two machines.
//
//	host ── eth0 (TUN) ──┐                  ┌── eth0 (TUN) ── host
//	                     └── this process ──┘
//	                          passes each packet on, late or not at all
//
// Begin with [New] and [Network.Add]. Needs Linux, root, and the programs of iproute2 and util-linux.
//
// Invariants:
//   - Nothing of it is in the machine's own network, and nothing is left when this process ends, however it ends: a namespace
//     lives as long as a process in it, and these end with this one.
//   - A link that fails drops packets silently. No host gets an error that a real network would not give.
//
// Decided: this process is the switch. A link is then a rule for two hosts, which can be tested.
//
// Decided: servers that run in this process listen in a host by [Host.Do]: a socket belongs to the namespace of the thread
// that makes it.
//
// Refused: a bridge with tc netem. Kernels of small virtual machines and of CI lack netem, and one rule for one pair needs a tree
// of qdiscs and filters at each host.
package netns
