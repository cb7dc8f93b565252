package process

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// reserve binds a socket that never listens; 0: to any free port. The bind fails on a port that another socket has, reserved or in
// use. From then on only sockets with SO_REUSEADDR may share it, which servers set and the bind of a reservation does not, and the
// system lends it to no connection. When the harness dies its socket closes.
func reserve(port int) (*Port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &Port{release: sync.OnceFunc(func() { _ = syscall.Close(fd) })} // nothing was written to it
	if err := bindFirst(fd, port); err != nil {
		p.Release()
		return nil, err
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		p.Release()
		return nil, os.NewSyscallError("getsockname", err)
	}
	address := bound.(*syscall.SockaddrInet4) //nolint:forcetypeassert // the socket is of this family
	p.Address = netip.AddrPortFrom(netip.AddrFrom4(address.Addr), uint16(address.Port)).String()
	return p, nil
}

// bindFirst binds the socket to a port that no other has, and lets others share it.
func bindFirst(fd, port int) error {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
}
