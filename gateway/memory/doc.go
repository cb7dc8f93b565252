// Package memory keeps a node within the memory that it may use: [SetLimit] tells the collector how much that is, and a [Monitor]
// sheds new sessions before the collector could no longer help.
//
//	live memory ─► high water ─► strangers are shed ─► half way to the limit ─► all new sessions are shed
//	                   ▲                                                            │
//	                   └──────────── five points below what began it ◄─────────────┘
//
// Invariants:
//   - An operator's own GOMEMLIMIT, and AUTOMEMLIMIT=off, hold.
//   - Without a limit nothing is shed.
//   - Only new sessions are shed. Viewers who play go on, up to the limit.
//   - Each change of what is shed is one line of the log.
//
// Decided: what counts is what the last collection found alive, with stacks and what the runtime itself takes. Garbage does not
// count: a heap that is far from its limit is allowed to double before it is collected, and would seem full while half of it is
// garbage. Near the limit collections are so frequent that the figure is fresh.
//
// Decided: a tenth of the machine's or the container's memory is left to the kernel's buffers of connections, which no limit of
// the collector's covers.
//
// Refused: the resident size. Memory that was given back is part of it until somebody else needs it.
package memory
