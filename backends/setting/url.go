package setting

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// maxPort is the greatest port of TCP.
const maxPort = 65535

// ValidateAddress reports why text is no "host:port" that can be dialed or listened on. The port is a number or the name
// of a service, and the host may be empty. Port 0, any free port, is for listeners only, which is up to the caller.
func ValidateAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return fmt.Errorf(`%q is no address; want "host:port"`, text)
	}
	if _, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port); err != nil {
		return fmt.Errorf("%q has no such port; want 0 to %d", text, maxPort)
	}
	return nil
}

// ValidatePort reports why the port of a URL cannot be called. An empty port is the scheme's own.
func ValidatePort(port string) error {
	if port == "" {
		return nil
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > maxPort {
		return errors.New("port " + port + " does not exist; want 1 to " + strconv.Itoa(maxPort))
	}
	return nil
}
