package wire

import (
	"context"
	"syscall"
	"time"
)

// ipBindAddressNoPort is IP_BIND_ADDRESS_NO_PORT: the port is chosen when the connection opens, so that one local port serves many
// servers.
const ipBindAddressNoPort = 24

func bindWithoutPort(_ context.Context, _, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1) // an old kernel has fewer ports
	})
}

// checkAfter is how long a connection is idle before it is checked. Servers keep idle connections for seconds.
const checkAfter = 100 * time.Millisecond

// hasEnded reports whether the server has closed the idle connection. Bytes that nobody asked for end it too, except with TLS, whose
// servers send tickets.
func (c *Conn) hasEnded(now time.Time) bool {
	if now.Sub(c.used) < checkAfter {
		return false
	}
	socket, ok := underlying(c.h1).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	hasEnded := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case n > 0:
			hasEnded = !c.origin.IsTLS
		case err == nil:
			hasEnded = true
		default:
			hasEnded = err != syscall.EAGAIN && err != syscall.EINTR
		}
	})
	return err != nil || hasEnded
}
