// Package rig starts the servers of a scenario, breaks them on purpose, and reads what they use.
//
//	viewers ──▶ [balancer] ──▶ nodes of Usher, or a peer ──▶ origin
//	                             │      └──▶ redis-server
//	                             └──▶ middleware, [collector of traces]
//
// Begin with [Start]. [Rig.Fault] begins a fault and returns its end. [Rig.Sample] reads metrics and processes. [External] are
// servers that the operator runs.
//
// Invariants:
//   - Every process ends with Close, and when the harness dies.
//   - A fault that has ended leaves no trace but in the servers' memory.
//   - A server that ends without a fault is reported by [Rig.Died], with what it wrote.
//   - A fault that needs a server that the rig does not have is refused with the server's name before anything is measured.
//   - What nodes say of themselves is summed over all of them, or not known: a node that says nothing is no node that counted nothing.
//
// Decided: origin, middleware and collector run in the harness, so that the middleware's own count of its calls is exact and a fault begins at
// once. None records requests.
//
// Decided: the balancer is one of connections. It copies bytes in the kernel, so that it costs little beside the nodes, and it leaves
// a node that does not answer its readiness, as real ones do.
//
// Refused: containers and network namespaces, which need rights that an operator's CI does not give. Package soak has them.
package rig
