package upstream

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// pattern is an entry of redirect_hosts or public_names.
type pattern struct {
	// name is a host's name in lower case, empty if the entry is an IP address. With isWildcard it is the part after the *.
	name       string
	isWildcard bool
	address    netip.Addr
	// port is 0 for the port of the URI's scheme. isAnyPort means every port.
	port      uint16
	isAnyPort bool
}

// The texts say what an entry looks like.
var (
	errEntry    = errors.New(`want a host such as "edge.example.com", "edge.example.com:8080", "edge.example.com:*" or "*.cdn.example.com"`)
	errURL      = errors.New("want a host, without scheme, path and user")
	errWildcard = errors.New(`a * stands for the first label alone, before a name of at least two, such as "*.example.com"`)
	errASCII    = errors.New(`write the name as DNS has it, "xn--…"`)
)

// parsePattern parses an entry.
func parsePattern(text string) (pattern, error) {
	switch {
	case strings.ContainsAny(text, "/@?#"):
		return pattern{}, errURL
	case strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }):
		return pattern{}, errASCII
	}
	host, port, ok := splitPort(text)
	if !ok {
		return pattern{}, errEntry
	}
	var p pattern
	if host, p.isWildcard = strings.CutPrefix(host, "*."); strings.Contains(host, "*") {
		return pattern{}, errWildcard
	}
	if p.name, p.address, ok = parseHost(host); !ok || !p.setPort(port) {
		return pattern{}, errEntry
	}
	if p.isWildcard && (p.address.IsValid() || !strings.Contains(p.name, ".")) {
		return pattern{}, errWildcard
	}
	return p, nil
}

// setPort sets the port of an entry, and reports whether it is one.
func (p *pattern) setPort(text string) bool {
	if text == "" || text == "*" {
		p.isAnyPort = text == "*"
		return true
	}
	n, err := strconv.ParseUint(text, 10, 16)
	p.port = uint16(n)
	return err == nil && n > 0
}

// matches reports whether an authority is one that the entry means. It does not allocate.
func (p pattern) matches(a authority) bool {
	switch {
	case p.isAnyPort:
	case p.port != 0 && p.port != a.port, p.port == 0 && a.port != defaultPort(a.isTLS):
		return false
	}
	switch {
	case !p.isWildcard:
		return p.name == a.name && p.address == a.address
	case a.name == "" || isNumeric(a.name):
		return false
	default:
		dot := len(a.name) - len(p.name) - 1
		return dot > 0 && a.name[dot] == '.' && a.name[dot+1:] == p.name
	}
}
