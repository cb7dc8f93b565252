// Package process starts the servers of a measurement and reads what they use of the machine.
//
// Invariants:
//   - A server ends when the harness ends, also when that is killed (on Linux; elsewhere it has to be ended).
//   - A server that has children ends with them: it gets SIGTERM, and what is left of its process group SIGKILL.
//   - A reserved port is one server's from before its start until its release, also while the server is down (on Linux).
//   - A server has the settings that the harness wrote, also where the environment has settings of the operator's nodes.
//
// Decided: a port is reserved by a bound socket that does not listen. The servers bind with SO_REUSEADDR and may share it; another
// reservation binds without, and fails. A port that was free a moment ago may be another's, and a node that is killed for a while would
// lose its own.
//
// Decided: SIGTERM at the harness's death, not SIGKILL. A killed master of nginx leaves its workers behind.
//
// Refused: a library that reads processes. Two files of /proc have all that is needed.
package process
