package wire

import (
	"io"
	"net"
	"syscall"
)

// discarder drops what a socket receives within the kernel (MSG_TRUNC of tcp(7)): a body that nobody looks at is counted to its end,
// and not copied. The generator then takes less of the machine from the server.
type discarder struct {
	raw syscall.RawConn
	// read is receive, bound once so that a body costs no allocation.
	read func(fd uintptr) bool
	// into is where nothing is written to.
	into []byte
	want int
	got  int
	err  error
}

// newDiscarder returns nil if the connection is no socket.
func newDiscarder(c net.Conn, into []byte) *discarder {
	socket, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	d := &discarder{raw: raw, into: into}
	d.read = d.receive
	return d
}

// discard drops n bytes, and returns how many there were.
func (d *discarder) discard(n int) (int, error) {
	d.want, d.got, d.err = n, 0, nil
	for d.got < d.want && d.err == nil {
		if err := d.raw.Read(d.read); err != nil {
			return d.got, err
		}
	}
	return d.got, d.err
}

// receive drops what has arrived. It returns false if it has to be called again when there is more.
func (d *discarder) receive(fd uintptr) bool {
	for d.got < d.want {
		n, _, err := syscall.Recvfrom(int(fd), d.into[:min(len(d.into), d.want-d.got)], syscall.MSG_TRUNC)
		switch {
		case err == syscall.EAGAIN:
			return false
		case err == syscall.EINTR:
		case err != nil:
			d.err = err
			return true
		case n == 0:
			d.err = io.ErrUnexpectedEOF
			return true
		default:
			d.got += n
		}
	}
	return true
}
