package origin

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unique"

	"usher/backends"
	"usher/gateway/upstream"
	"usher/gateway/urlpath"
)

// Request names one object of an origin. Its strings are not kept beyond the call, so they may point into a buffer that
// the caller reuses.
type Request struct {
	// Base is scheme and host, "https://edge.example.com:8080", of a redirect host that has the object. It is empty for
	// the origin's own addresses, which fail over. A public name means these too.
	Base string
	// Path is the escaped path on the origin, beginning with "/", as a playlist listed it. With a Base it is the whole
	// path there.
	Path string
	// Channel is the viewer's channel, by which failures are told apart. Without one it is the path's folder.
	Channel string
	// Query is the raw query as listed, without '?'.
	Query string
	// Directives are the _HLS_* pairs of a playlist reload, raw, sorted and joined with '&'. If they are not empty, the
	// origin may hold the response until the playlist satisfies them.
	Directives string
	// MaxHeld is how many fetches of the playlist with Directives may be active for another one to start, and MaxHeldForViewer how many
	// of the Viewer. Beyond them the playlist is requested without. Zero: any number.
	MaxHeld, MaxHeldForViewer int
	// Viewer is whose fetches with Directives count together, whatever the path and the query, which the viewer may have chosen. Zero:
	// they are nobody's.
	Viewer backends.SessionID
	// ViewerAddress is where the Viewer is, with whom other viewers may be. A quarter of fetch.max_conns is the most that the origin holds
	// for all of them. The zero value: it is nobody's. A handle, because the request stands on the stack of each connection.
	ViewerAddress unique.Handle[netip.Prefix]

	// Version tells apart what the origin gives under one name, by what a playlist says of it. Only [Origin.Media] uses it;
	// zero: there is one.
	Version uint64
	// FreshFor is how long media are fresh if the origin does not state it, cache.media_ttl at most; zero: that long.
	FreshFor time.Duration

	// Range, IfRange, IfNoneMatch and IfModifiedSince are the viewer's header fields, empty if not sent. Only
	// [Origin.Media] uses them.
	Range, IfRange               string
	IfNoneMatch, IfModifiedSince string

	// The flags stand together: with gaps between them the request would make the stack of a connection twice as large.

	// IsListed reports that a playlist of the origin lists the path byte for byte, so that it may look like another one.
	IsListed bool
	// IsLate reports that the origin need not wait to satisfy the Directives. If it fails, a stale copy without them, which may be of before
	// what they ask for, is better than none.
	IsLate bool
	// IsComplete reports that the playlist of the media will not change any more, so that no file that it lists grows.
	IsComplete bool
	// Head requests the header without the body.
	Head bool
	// MayBeMedia has [Origin.Playlist] look at the first bytes, and return ErrMedia if they are those of media.
	MayBeMedia bool

	// Inspect reads a playlist. An error means that the body is none, as if the origin had failed. It is called once for each version
	// and refresh. Nil means never fresh: only concurrent requests share a fetch.
	Inspect func(body []byte) (Inspection, error)
}

// Inspection is what the body of a playlist says.
type Inspection struct {
	// Fresh is for how long after its fetch the playlist is fresh, Stale for how long it may be served if the origin fails.
	Fresh, Stale time.Duration
	// Info is what [Origin.LastInfo] returns until the next response.
	Info any
	// IsWhole reports that the body leaves nothing out, which a delta update does. Then the response to a reload with Directives is
	// what the origin gives without them by now.
	IsWhole bool
}

// fetchClass is a kind of fetch. Each has its own connections.
type fetchClass uint8

const (
	classPlaylist fetchClass = iota
	classBlocking
	classMedia
	// classLarge is media that pass through, and hold their connection for as long as the slowest viewer reads. A fetch has it once
	// that is known.
	classLarge
	fetchClassCount
)

// Location is where an absolute URI leads: the Base and Path of a [Request] for it.
type Location struct {
	// Kind says whose the host is. A request to a Foreign one is refused.
	Kind upstream.Kind
	// Base is empty if the path lies below that of the origin's address.
	Base string
	Path string
}

// Locate returns where a URI of that scheme, host and escaped path leads that a playlist of the origin names.
func (o *Origin) Locate(scheme, host, path string) Location {
	m := o.hosts.Match(scheme, host)
	if m.Kind != upstream.Own {
		return Location{m.Kind, upstream.Canonical(scheme, host), path}
	}
	for _, addr := range o.addresses {
		if !m.IsPublicName && o.hosts.Match(addr.url.Scheme, addr.url.Host) != m {
			continue
		}
		if below, ok := strings.CutPrefix(path, addr.prefix()); ok && strings.HasPrefix(below, "/") {
			return Location{Kind: upstream.Own, Path: below}
		}
	}
	own := o.addresses[m.Address].url
	return Location{upstream.Own, upstream.Canonical(own.Scheme, own.Host), path}
}

// Prefix is the path of the preferred address, before every path on the origin.
func (o *Origin) Prefix() string { return o.addresses[0].prefix() }

// Server is scheme and host of the preferred address.
func (o *Origin) Server() string {
	own := o.addresses[0].url
	return upstream.Canonical(own.Scheme, own.Host)
}

// HostKind says whose the host of a URI is.
func (o *Origin) HostKind(scheme, host string) upstream.Kind { return o.hosts.Match(scheme, host).Kind }

// locate returns the base and path of a request's cache key. It does not allocate for a redirect host in lower case.
func (o *Origin) locate(base, path string) (string, string, error) {
	if base == "" {
		return "", path, nil
	}
	scheme, host, _ := strings.Cut(base, "://")
	switch o.hosts.Match(scheme, host).Kind {
	case upstream.Own:
		at := o.Locate(scheme, host, path)
		return at.Base, at.Path, nil
	case upstream.Listed:
		return base, path, nil
	default:
		return "", "", fmt.Errorf("fetch from origin %q: %w", o.name, &HostError{Origin: o.name, Host: strings.Clone(host)}) // which the report keeps
	}
}

// maxRedirectAddresses bounds the redirect hosts that have connection slots of their own.
const maxRedirectAddresses = 1000

// redirectAddress returns the address of a base.
func (o *Origin) redirectAddress(base string) *address {
	o.mu.Lock()
	defer o.mu.Unlock()
	if addr := o.redirectAddresses[base]; addr != nil {
		return addr
	}
	u, err := url.Parse(base)
	if err != nil {
		u = new(url.URL) // locate has matched the host
	}
	m := o.hosts.Match(u.Scheme, u.Host)
	if m.Kind == upstream.Own {
		own := o.addresses[m.Address].url
		u.User, u.RawQuery = own.User, own.RawQuery
	}
	if len(o.redirectAddresses) >= maxRedirectAddresses {
		clear(o.redirectAddresses)
	}
	addr := newAddress(u, o.config.Fetch.MaxConns, m.SendsHeaders)
	o.redirectAddresses[base] = addr
	return addr
}

// cacheKey identifies one response of an origin.
type cacheKey struct {
	origin string
	// base is that of the request; empty: the origin's own addresses.
	base  string
	path  string
	query string
	// variant is the directives of a playlist, or the range of a media object.
	variant string
	// version is that of the request for a media object.
	version uint64
	media   bool
}

// channelOf returns the channel of a request. It is a copy.
func channelOf(r *Request, k cacheKey) string {
	if r.Channel != "" {
		return strings.Clone(r.Channel)
	}
	return strings.Clone(k.path[:strings.LastIndexByte(k.path, '/')+1])
}

// clone copies the key's strings, which may point into the caller's buffers.
func (k cacheKey) clone() cacheKey {
	k.base, k.path, k.query, k.variant = strings.Clone(k.base), strings.Clone(k.path), strings.Clone(k.query), strings.Clone(k.variant)
	return k
}

// withoutDirectives returns the key of a playlist as it is requested first.
func (k cacheKey) withoutDirectives() cacheKey {
	k.variant = ""
	return k
}

// lastVariant is the variant under which a playlist's last Inspection.Info is stored. No directive reads so.
const lastVariant = "last"

// ofLastInfo returns the key of what the last response told of the playlist.
func (k cacheKey) ofLastInfo() cacheKey {
	k.variant = lastVariant
	return k
}

// ofOtherKind returns the key of media as that of a playlist, and of a playlist as that of media.
func (k cacheKey) ofOtherKind() cacheKey {
	k.media, k.variant, k.version = !k.media, "", 0
	return k
}

// withoutRange returns the key of the whole object.
func (k cacheKey) withoutRange() cacheKey {
	if k.media {
		k.variant = ""
	}
	return k
}

func (k cacheKey) class() fetchClass {
	switch {
	case k.media:
		return classMedia
	case k.variant != "":
		return classBlocking
	default:
		return classPlaylist
	}
}

// url returns the key's URL at an address of the origin.
func (k cacheKey) url(base *url.URL) *url.URL {
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, User: base.User}
	u.RawPath = prefixOf(base) + k.path
	u.Path, _ = url.PathUnescape(u.RawPath) // checkPath has unescaped it
	query := []string{base.RawQuery, k.query}
	if !k.media {
		query = append(query, k.variant)
	}
	for _, q := range query {
		if q == "" {
			continue
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += q
	}
	return u
}

// checkPath returns ErrPath for a path that could leave the folder of a route. If a playlist of the origin lists it, only
// dot segments count.
func checkPath(path string, isListed bool) error {
	plain, err := url.PathUnescape(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(plain, "\x00\\") {
		return ErrPath
	}
	for segment := range strings.SplitSeq(plain, "/") {
		if segment == "." || segment == ".." {
			return ErrPath
		}
	}
	if !isListed && urlpath.HasLookAlike(path) {
		return ErrPath
	}
	return nil
}
