// Package process starts the servers of a measurement and reads what they use of the machine.
//
// Invariants:
//   - A server ends when the harness ends, also when that is killed (on Linux; elsewhere it has to be ended).
//   - A server that has children ends with them: it gets SIGTERM, and what is left of its process group SIGKILL.
//
// Decided: SIGTERM at the harness's death, not SIGKILL. A killed master of nginx leaves its workers behind.
//
// Refused: a library that reads processes. Two files of /proc have all that is needed.
package process
