// Package systemd takes the listeners that systemd has opened for the process, and tells systemd how far the process is, by the
// contracts of sd_listen_fds(3) and sd_notify(3). Without systemd it does nothing.
//
//	usher.socket ─ holds the listener ─► [Inherited] ─► the node serves ─► READY=1
//	                                        SIGHUP ─► RELOADING=1, READY=1      SIGTERM ─► STOPPING=1, the drain, the end
//
// A listener that systemd holds outlives the process. While one program ends and the next one starts, connections wait in it, so
// that an upgrade refuses none.
//
// Invariants:
//   - Each socket becomes the listener of one setting, or the node does not start: viewers would wait in it for ever.
//   - The settings say where a node listens. A socket elsewhere is an error that names both.
//   - Whatever systemd answers, the node serves: a message that cannot be sent is a warning.
//
// Decided: a socket's name says for which setting it is, and its address must be the setting's. The name alone would let the settings
// say one port and the node serve another.
//
// Decided: STOPPING=1 asks for as long as the drain may take, so that TimeoutStopSec= need not follow the settings.
//
// Decided: github.com/coreos/go-systemd reads the environment and sends the messages: half of this would be the same lines again, with
// abstract sockets and clocks. Refused: its listeners with names, which drop a socket that cannot listen without a word.
//
// Refused: handing the sockets to a successor that this process starts. systemd would follow the wrong process, and the new program
// would run with the old one's limits and sandbox.
package systemd
