package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/maphash"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
	"usher/gateway/hls"
)

// identityDomain keeps the hash of a session id apart from any other use of the same secret.
const identityDomain = "usher session 1"

// credentials are what a viewer showed, as a backend gets to see it.
type credentials struct {
	query   string
	headers []backends.Header
}

func (c *credentials) empty() bool { return c.query == "" && len(c.headers) == 0 }

// credentialsOf reads what the route counts as credentials.
func credentialsOf(t *target, v *View, ticketParameter string) credentials {
	c := credentials{query: t.route.credentialQuery(v.Query, ticketParameter)}
	for i, name := range t.place.viewer.names {
		if name == channelVariable || name == restVariable || !t.opens {
			continue
		}
		if c.query != "" {
			c.query += "&"
		}
		c.query += name + "=" + url.QueryEscape(unescape(t.match.values[i]))
	}
	for _, name := range t.route.config.CredentialHeaders {
		if value := v.Header.Get(name); value != "" {
			c.headers = append(c.headers, backends.Header{Name: name, Value: value})
		}
	}
	return c
}

// credentialQuery keeps the parameters that are credentials, byte for byte and in their order.
func (r *route) credentialQuery(query, ticketParameter string) string {
	return filterQuery(query, func(name string) bool {
		switch {
		case name == ticketParameter, isDirective(name), name == "CMCD", slices.Contains(r.config.IgnoreQuery, name):
			return false
		case len(r.config.Credentials) > 0:
			return slices.Contains(r.config.Credentials, name)
		default:
			return true
		}
	})
}

// isDirective reports whether a parameter is one of HLS's delivery directives.
func isDirective(name string) bool { return strings.HasPrefix(name, "_HLS_") }

// filterQuery keeps the pairs of a raw query whose decoded name is wanted. If that is all of them, or none, it does not
// allocate.
func filterQuery(query string, want func(name string) bool) string {
	kept, all := make([]string, 0, 8), true
	for rest := query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			all = false
			continue
		}
		if want(parameterName(pair)) {
			kept = append(kept, pair)
		} else {
			all = false
		}
	}
	switch {
	case len(kept) == 0:
		return ""
	case all:
		return query
	default:
		return strings.Join(kept, "&")
	}
}

// parameterName is the decoded name of a raw pair.
func parameterName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if strings.IndexByte(name, '%') < 0 && strings.IndexByte(name, '+') < 0 {
		return name
	}
	plain, err := url.QueryUnescape(name)
	if err != nil {
		return name
	}
	return plain
}

// parameter is the raw value of a parameter, the first one of that name.
func parameter(query, name string) string {
	for rest := query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if n, value, _ := strings.Cut(pair, "="); n == name {
			return value
		}
	}
	return ""
}

// missing is the first credential that the route requires and the viewer did not show, or "".
func (r *route) missing(c *credentials) string {
	for _, name := range r.config.Required {
		if hasParameter(c.query, name) || slices.ContainsFunc(c.headers, func(h backends.Header) bool {
			return strings.EqualFold(h.Name, name)
		}) {
			continue
		}
		return name
	}
	return ""
}

func hasParameter(query, name string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		if _, value, _ := strings.Cut(pair, "="); parameterName(pair) == name && value != "" {
			return true
		}
	}
	return false
}

// identifier makes session ids. It is safe for concurrent use.
type identifier struct {
	macs      sync.Pool
	playbacks playbacks
}

func newIdentifier(secret backends.Secret) *identifier {
	key := []byte(secret.Reveal())
	i := &identifier{playbacks: newPlaybacks()}
	i.macs.New = func() any { return &identityMAC{hash: hmac.New(sha256.New, key)} }
	return i
}

type identityMAC struct {
	hash hash.Hash
	in   []byte
	sum  [sha256.Size]byte
}

// sessionID is the same on every node for the same viewer. apart, if not zero, is the address prefix of a viewer who is
// told apart from a crowd that uses the same credentials.
func (i *identifier) sessionID(t *target, c *credentials, v *View, who client, apart uint64) backends.SessionID {
	m, _ := i.macs.Get().(*identityMAC)
	defer i.macs.Put(m)
	m.in = append(m.in[:0], identityDomain...)
	m.in = appendField(m.in, t.route.name)
	m.in = appendField(m.in, t.channel)
	m.in = appendField(m.in, c.query)
	m.in = binary.AppendUvarint(m.in, uint64(len(c.headers)))
	for _, h := range c.headers {
		m.in = appendField(m.in, h.Name)
		m.in = appendField(m.in, h.Value)
	}
	m.in = i.appendFacts(m.in, t, c, v, who)
	m.in = binary.BigEndian.AppendUint64(m.in, apart)
	m.hash.Reset()
	m.hash.Write(m.in)
	return backends.SessionID(m.hash.Sum(m.sum[:0])[:16])
}

// appendFacts adds what the route tells viewers apart by beside their credentials. A viewer without any is told apart by
// his address and player, since a backend can have decided on nothing else.
func (i *identifier) appendFacts(in []byte, t *target, c *credentials, v *View, who client) []byte {
	agent := v.Header.Get("User-Agent")
	if c.empty() {
		in = appendField(in, who.address.String())
		return appendField(in, agent)
	}
	facts := t.route.byFacts
	if facts.playback {
		if p := v.Header.Get("X-Playback-Session-Id"); p != "" && i.playbacks.admit(in, p, time.Now()) {
			return appendField(append(in, 'p'), p)
		}
	}
	if facts.address {
		in = binary.BigEndian.AppendUint64(append(in, 'a'), prefixOf(who.address))
	}
	if facts.agent {
		in = appendField(append(in, 'u'), agent)
	}
	return in
}

const (
	// maxPlaybacks is how many X-Playback-Session-Id values count for the same credentials: a client chooses the
	// value, so without a bound one viewer could open sessions at will.
	maxPlaybacks = 8
	// playbackMemory is how long a value counts against that bound.
	playbackMemory = time.Hour
	// maxPlaybackOwners bounds the memory of them all.
	maxPlaybackOwners = 100_000
)

// playbacks remembers which playback ids came with which credentials.
type playbacks struct {
	seed   maphash.Seed
	owners *otter.Cache[uint64, *playbackSet]
}

type playbackSet struct {
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func newPlaybacks() playbacks {
	return playbacks{seed: maphash.MakeSeed(), owners: otter.Must(&otter.Options[uint64, *playbackSet]{
		MaximumSize:      maxPlaybackOwners,
		ExpiryCalculator: otter.ExpiryAccessing[uint64, *playbackSet](playbackMemory),
	})}
}

// admit reports whether the value is one of the few that count for its owner.
func (p *playbacks) admit(owner []byte, value string, now time.Time) bool {
	set, _ := p.owners.ComputeIfAbsent(maphash.Bytes(p.seed, owner), func() (*playbackSet, bool) {
		return &playbackSet{seen: make(map[uint64]time.Time)}, false
	})
	set.mu.Lock()
	defer set.mu.Unlock()
	key := maphash.String(p.seed, value)
	if _, known := set.seen[key]; !known && len(set.seen) >= maxPlaybacks {
		for k, at := range set.seen {
			if now.Sub(at) > playbackMemory {
				delete(set.seen, k)
			}
		}
		if len(set.seen) >= maxPlaybacks {
			return false
		}
	}
	set.seen[key] = now
	return true
}

// ticketInPath finds the ticket that stands before the path. rest is the path without it.
func ticketInPath(path string) (ticket, rest string, found bool) {
	after, found := strings.CutPrefix(path, "/~")
	if !found {
		if after, found = cutPrefixFold(path, "/%7e"); !found {
			return "", path, false
		}
	}
	slash := strings.IndexByte(after, '/')
	if slash < 0 {
		return after, "/", true
	}
	return after[:slash], after[slash:], true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// ticketElsewhere is the ticket in the query or the cookie, by the route's carrying mode.
func ticketElsewhere(t *target, v *View, c *TicketsConfig) string {
	switch t.route.config.Carry {
	case hls.CarryQuery:
		return parameter(v.Query, c.Parameter)
	case hls.CarryCookie:
		return cookie(v.Header.Get("Cookie"), c.Cookie)
	default:
		return ""
	}
}

// cookie is a cookie's value in a Cookie field, or "".
func cookie(field, name string) string {
	for pair := range strings.SplitSeq(field, ";") {
		if n, value, found := strings.Cut(strings.TrimSpace(pair), "="); found && n == name {
			return value
		}
	}
	return ""
}
