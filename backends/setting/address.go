package setting

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// maxPort is the greatest port of TCP.
	maxPort = 65535
	// maxName and maxLabel bound a name of DNS, and what it has between two dots.
	maxName, maxLabel = 253, 63
)

// ValidateListen reports why nothing can listen on an address, "host:port". Port 0 is any free one.
func ValidateListen(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf(`%q is no address; want "host:port" or ":port"`, address)
	}
	if _, err := lookUpPort(port); err != nil {
		return fmt.Errorf("%q has no such port; want 0 to %d", address, maxPort)
	}
	return validateHost(address, host)
}

// ValidateServer reports why no server can be reached at an address, "host:port".
func ValidateServer(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf(`%q is no address; want "host:port"`, address)
	}
	if n, err := lookUpPort(port); err != nil || n == 0 {
		return fmt.Errorf("%q has no such port; want 1 to %d", address, maxPort)
	}
	return validateHost(address, host)
}

// validateHost reports why the host of an address is neither an IP address nor a name that a resolver can be asked for. An empty
// one is this machine.
func validateHost(address, host string) error {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return nil
	}
	if !isName(host) {
		return fmt.Errorf("%q: %q is no host; want a name or an IP address", address, host)
	}
	return nil
}

// isName reports whether a text is a name with labels between its dots, and no address such as 999.0.0.1.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if len(host) > maxName || strings.Trim(host, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, isForeign) {
			return false
		}
	}
	return true
}

// isForeign reports whether no name has the character.
func isForeign(r rune) bool {
	isNamed := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
	return !isNamed
}

// ValidatePort reports why the port of a URL cannot be called. An empty port is the scheme's own.
func ValidatePort(port string) error {
	if port == "" {
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 { // no sign: a URL has none
		return errors.New("port " + port + " does not exist; want 1 to " + strconv.Itoa(maxPort))
	}
	return nil
}

// lookUpPort returns a port by its number, or by its name in /etc/services.
func lookUpPort(port string) (int, error) {
	return net.DefaultResolver.LookupPort(context.Background(), "tcp", port)
}
