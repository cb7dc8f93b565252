// Package simulate runs a cluster of Usher through an outage of its middleware in fake time: what the middleware is asked, and
// what fail-open costs.
//
// The nodes are real: sessions, re-check queues and breakers, the lease and the streams of users run as they ship, in this process
// and on one store. Only what is around them is modelled: the viewers (viewers.go), the middleware (middleware.go) and the way to
// the store (nodes.go). An hour of a hundred nodes takes less than a minute.
//
// The viewers are a sample. Each stands for viewers ÷ sample of them, and what is counted is multiplied by that. The rate of
// re-checks and the middleware's capacity are divided by it. A node of the sample sees fewer calls than a real one, so its breaker
// opens later, by seconds; and bounds of one node, such as calls in flight, are never reached: bench/scenario tries those.
//
// A free rider is a viewer whom the middleware denies if it is asked, also one who leaves before it is: the simulation knows what
// the gateway's report of an outage counts as unknown. Their time is that of the segments they got, while the report counts from
// the admission to the denial. unverified.hours is the time of the sessions that got an answer in the end; the report adds that of
// those that closed without one.
//
// Decided: fake time is that of testing/synctest, whose bubble a program enters by [testing.Main] (bubble.go). Refused: the state of
// a session with queues, breakers and a clock of the simulation's own, which would say what a second implementation does.
package simulate
