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

// ValidateListen reports why nothing can listen on an address, "host:port". Port 0 is any free one.
func ValidateListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf(`%q is no address; want "host:port" or ":port"`, address)
	}
	if _, err := lookUpPort(port); err != nil {
		return fmt.Errorf("%q has no such port; want 0 to %d", address, maxPort)
	}
	return nil
}

// ValidateServer reports why no server can be reached at an address, "host:port".
func ValidateServer(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf(`%q is no address; want "host:port"`, address)
	}
	if n, err := lookUpPort(port); err != nil || n == 0 {
		return fmt.Errorf("%q has no such port; want 1 to %d", address, maxPort)
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

// lookUpPort returns a port by its number, or by its name in /etc/services.
func lookUpPort(port string) (int, error) {
	return net.DefaultResolver.LookupPort(context.Background(), "tcp", port)
}
