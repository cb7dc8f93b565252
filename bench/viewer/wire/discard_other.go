//go:build !linux

package wire

import "net"

// discarder is none outside Linux.
type discarder struct{}

func newDiscarder(net.Conn, []byte) *discarder { return nil }

func (*discarder) discard(int) (int, error) { return 0, nil }
