// Package systemd takes the listeners that systemd has opened for the process, and tells systemd how far the process is: by the
// contracts of sd_listen_fds(3) and sd_notify(3).
//
// A listener that systemd holds outlives the process. While one program ends and the next one starts, connections wait in it, so
// that an upgrade refuses none.
//
// Decided: a socket belongs to the setting that has its address. Names, which systemd may give to sockets, would be a second
// place where the address is written.
package systemd
