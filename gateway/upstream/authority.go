package upstream

import (
	"net/netip"
	"strconv"
	"strings"
)

// authority is a scheme, host and port in one canonical form, to be compared.
type authority struct {
	isTLS bool
	// name is in lower case and without the root's dot. It is empty if the host is an IP address.
	name string
	// address is IPv4 if it was written as an IPv4-mapped IPv6 address.
	address netip.Addr
	port    uint16
}

// parseAuthority parses the host of a URL, "host" or "host:port". It fails for a scheme other than http and https, and for
// a host that no such URL may have. It does not allocate for a host in lower case.
func parseAuthority(scheme, host string) (authority, bool) {
	var a authority
	switch {
	case strings.EqualFold(scheme, "http"):
	case strings.EqualFold(scheme, "https"):
		a.isTLS = true
	default:
		return authority{}, false
	}
	name, port, ok := splitPort(host)
	if !ok {
		return authority{}, false
	}
	a.port = defaultPort(a.isTLS)
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '+' {
			return authority{}, false
		}
		a.port = uint16(n)
	}
	a.name, a.address, ok = parseHost(name)
	return a, ok
}

func defaultPort(isTLS bool) uint16 {
	if isTLS {
		return 443
	}
	return 80
}

// splitPort splits "host", "host:", "host:port", "[v6]" and "[v6]:port". The host keeps its brackets.
func splitPort(host string) (name, port string, ok bool) {
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", "", false
		}
		name, host = host[:end+1], host[end+1:]
		if host == "" {
			return name, "", true
		}
		port, ok = strings.CutPrefix(host, ":")
		return name, port, ok
	}
	name, port, _ = strings.Cut(host, ":")
	return name, port, true
}

// parseHost parses a name, an IPv4 address, or an IPv6 address in brackets.
func parseHost(host string) (name string, address netip.Addr, ok bool) {
	if strings.HasPrefix(host, "[") {
		address, ok = parseIPv6(host)
		return "", address, ok
	}
	host = strings.TrimSuffix(host, ".")
	if !isName(host) {
		return "", netip.Addr{}, false
	}
	if isNumeric(host) { // other forms than four numbers, such as 127.1, are names that match no wildcard
		if address, err := netip.ParseAddr(host); err == nil {
			return "", address, true
		}
	}
	return strings.ToLower(host), netip.Addr{}, true
}

// parseIPv6 parses an IPv6 address in brackets, whose zone is written as in a URL or plainly.
func parseIPv6(host string) (netip.Addr, bool) {
	host = strings.Replace(strings.Trim(host, "[]"), "%25", "%", 1)
	address, err := netip.ParseAddr(host)
	hasPlainZone := !strings.ContainsFunc(address.Zone(), func(r rune) bool { return r >= 0x80 || !isNameByte(byte(r)) })
	return address.Unmap(), err == nil && address.Is6() && hasPlainZone
}

// isName reports whether a text is a name with labels between its dots.
func isName(host string) bool {
	if host == "" || len(host) > maxNameSize || host[0] == '.' || host[len(host)-1] == '.' || strings.Contains(host, "..") {
		return false
	}
	for i := range len(host) {
		if !isNameByte(host[i]) {
			return false
		}
	}
	return true
}

// isNumeric reports whether resolvers may take a name for an IPv4 address, such as 127.1.
func isNumeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && last[0] >= '0' && last[0] <= '9'
}

// maxNameSize is the longest name that DNS has.
const maxNameSize = 253

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// host returns the canonical host and port of a URL. The scheme's own port is left out.
func (a authority) host() string {
	name := a.name
	if a.address.Is6() {
		name = "[" + strings.Replace(a.address.String(), "%", "%25", 1) + "]"
	} else if a.address.IsValid() {
		name = a.address.String()
	}
	if a.port == defaultPort(a.isTLS) {
		return name
	}
	return name + ":" + strconv.Itoa(int(a.port))
}

func (a authority) scheme() string {
	if a.isTLS {
		return "https"
	}
	return "http"
}
