//go:build !linux

package process

import (
	"context"
	"fmt"
	"net"
)

// reserve finds a free port. Other kernels let no server share a port that is bound, so it is not kept.
func reserve(port int) (*Port, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	return &Port{Address: listener.Addr().String(), release: func() {}}, listener.Close()
}
