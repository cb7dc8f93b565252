package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Kind says whose a host is.
type Kind uint8

// The kinds of hosts.
const (
	// Foreign is a host that the operator did not list.
	Foreign Kind = iota
	// Own is an address of the origin or a public name of it.
	Own
	// Listed is a host of redirect_hosts, or the address of another origin.
	Listed
)

// Hosts are the hosts that one origin may name. They are immutable.
type Hosts struct {
	own         map[authority]int // by address, the first of that authority
	others      map[authority]struct{}
	publicNames []pattern
	redirects   []redirect
	config      Config
}

type redirect struct {
	pattern
	sendHeaders bool
}

// Match is what is known about a host.
type Match struct {
	Kind Kind
	// Address is the index of the origin's address whose host it is, 0 for a public name; only if Kind is Own.
	Address int
	// IsPublicName reports that the host is a public name of the origin. Its own address is asked in its place.
	IsPublicName bool
	// SendsHeaders reports that the host gets the origin's header fields and cookies.
	SendsHeaders bool
}

// NewHosts returns the hosts of an origin with these addresses. The others are those of other origins, to which redirects
// lead without a setting. The errors begin with the key.
func NewHosts(own, others []*url.URL, c Config) (*Hosts, error) {
	h := &Hosts{own: map[authority]int{}, others: map[authority]struct{}{}, config: c}
	for i, u := range own {
		a, ok := parseAuthority(u.Scheme, u.Host)
		if !ok {
			return nil, fmt.Errorf("url: %q: want http://host or https://host", u.Redacted())
		}
		if _, isTwice := h.own[a]; !isTwice {
			h.own[a] = i
		}
	}
	for _, u := range others {
		if a, ok := parseAuthority(u.Scheme, u.Host); ok {
			h.others[a] = struct{}{}
		}
	}
	var errs []error
	for i, r := range c.RedirectHosts {
		p, err := parsePattern(r.Host)
		if err != nil {
			errs = append(errs, fmt.Errorf("redirect_hosts[%d]: %q: %w", i, r.Host, err))
		}
		h.redirects = append(h.redirects, redirect{p, r.SendHeaders})
	}
	for i, name := range c.PublicNames {
		p, err := parsePattern(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("public_names[%d]: %q: %w", i, name, err))
		}
		h.publicNames = append(h.publicNames, p)
	}
	return h, errors.Join(errs...)
}

// Match returns what is known about the host of a URL. It does not allocate for a host in lower case.
func (h *Hosts) Match(scheme, host string) Match {
	a, ok := parseAuthority(scheme, host)
	if !ok {
		return Match{}
	}
	if i, ok := h.own[a]; ok {
		return Match{Kind: Own, Address: i, SendsHeaders: true}
	}
	for _, p := range h.publicNames {
		if p.matches(a) {
			return Match{Kind: Own, IsPublicName: true, SendsHeaders: true}
		}
	}
	m := Match{}
	for _, r := range h.redirects {
		if r.matches(a) {
			m = Match{Kind: Listed, SendsHeaders: m.SendsHeaders || r.sendHeaders}
		}
	}
	if _, ok := h.others[a]; ok {
		m.Kind = Listed
	}
	return m
}

// Canonical returns scheme and host of a URL in the one form that all spellings of them have, "https://host:port". The
// scheme's own port is left out. It returns "" for a host that no HTTP URL may have.
func Canonical(scheme, host string) string {
	a, ok := parseAuthority(scheme, host)
	if !ok {
		return ""
	}
	return a.scheme() + "://" + a.host()
}

// Beside returns the server of that host, "https://host:port", with the scheme of another server, and with its port unless the
// host has one. It returns "" for a host that no HTTP URL may have.
func Beside(server, host string) string {
	scheme, other, _ := strings.Cut(server, "://")
	_, port, ok := splitPort(host)
	if !ok {
		return ""
	}
	if port == "" {
		if _, port, _ = splitPort(other); port != "" {
			host = strings.TrimSuffix(host, ":") + ":" + port
		}
	}
	return Canonical(scheme, host)
}
