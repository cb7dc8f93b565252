package origin

import (
	"net/url"
	"strings"
	"time"

	"usher/gateway/urlpath"
)

// Request names one object of an origin. Its strings are not kept beyond the call, so they may point into a buffer that
// the caller reuses.
type Request struct {
	// Path is the escaped path on the origin, beginning with "/", as a playlist listed it.
	Path string
	// IsListed reports that a playlist of the origin lists the path byte for byte, so that it may look like another one.
	IsListed bool
	// Query is the raw query as listed, without '?'.
	Query string
	// Directives are the _HLS_* pairs of a playlist reload, raw, sorted and joined with '&'. If they are not empty, the
	// origin may hold the response until the playlist satisfies them.
	Directives string

	// Head requests the header without the body.
	Head bool
	// Range, IfRange, IfNoneMatch and IfModifiedSince are the viewer's header fields, empty if not sent. Only
	// [Origin.Media] uses them.
	Range, IfRange               string
	IfNoneMatch, IfModifiedSince string

	// Freshness returns for how long after its fetch a playlist is fresh, and for how long it may be served if the origin
	// fails. It is called once for each version and refresh. Nil means never fresh: only concurrent requests share a
	// fetch.
	Freshness func(body []byte) (fresh, stale time.Duration)
}

// fetchClass is a kind of fetch. Each has its own connections.
type fetchClass uint8

const (
	classPlaylist fetchClass = iota
	classBlocking
	classMedia
	fetchClassCount
)

// cacheKey identifies one response of an origin.
type cacheKey struct {
	origin string
	path   string
	query  string
	// variant is the directives of a playlist, or the range of a media object.
	variant string
	media   bool
}

// clone copies the key's strings, which may point into the caller's buffers.
func (k cacheKey) clone() cacheKey {
	k.path, k.query, k.variant = strings.Clone(k.path), strings.Clone(k.query), strings.Clone(k.variant)
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
	u.RawPath = strings.TrimSuffix(base.EscapedPath(), "/") + k.path
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
