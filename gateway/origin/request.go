package origin

import (
	"net/url"
	"strings"
	"time"
)

// Request asks for one object of an origin. Its strings are not kept beyond the call (a fetch clones what it needs), so
// they may point into a buffer that the caller uses again.
type Request struct {
	// Path is the escaped path on the origin, as a playlist listed it, from "/" on.
	Path string
	// Query is the raw query as listed, without '?'.
	Query string
	// Directives are the _HLS_* pairs of a playlist reload, raw, sorted and joined with '&'. Not empty: the origin may
	// hold the answer until the playlist has what they name.
	Directives string

	// Head asks for everything but the body.
	Head bool
	// Range, IfRange, IfNoneMatch and IfModifiedSince are the viewer's header fields; empty: not sent. They only mean
	// something to [Origin.Media].
	Range, IfRange               string
	IfNoneMatch, IfModifiedSince string

	// Freshness says for how long after its fetch a playlist is fresh, and for how long it may be served if the origin
	// fails. It is called once for each version and refresh. Nil: not fresh at all, so that only those share who wait
	// at the same moment.
	Freshness func(body []byte) (fresh, stale time.Duration)
}

// class is what kind of fetch it is; each has connections of its own.
type class uint8

const (
	classPlaylist class = iota
	classBlocking
	classMedia
	classes
)

// key names one thing that an origin can answer with.
type key struct {
	origin string
	path   string
	query  string
	// variant is the directives of a playlist or the range of a media object.
	variant string
	media   bool
}

// clone frees the key from the caller's buffers.
func (k key) clone() key {
	k.path, k.query, k.variant = strings.Clone(k.path), strings.Clone(k.query), strings.Clone(k.variant)
	return k
}

// whole is the key of the whole object of which k may name a range.
func (k key) whole() key {
	if k.media {
		k.variant = ""
	}
	return k
}

func (k key) class() class {
	switch {
	case k.media:
		return classMedia
	case k.variant != "":
		return classBlocking
	default:
		return classPlaylist
	}
}

// url joins what k names to the address of an origin.
func (k key) url(base *url.URL) *url.URL {
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, User: base.User}
	u.RawPath = strings.TrimSuffix(base.EscapedPath(), "/") + k.path
	u.Path, _ = url.PathUnescape(u.RawPath) // checkPath has seen to it
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

// checkPath refuses what could lead out of the folder that a route allows.
func checkPath(path string) error {
	plain, err := url.PathUnescape(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(plain, "\x00\\") {
		return ErrPath
	}
	for segment := range strings.SplitSeq(plain, "/") {
		if segment == "." || segment == ".." {
			return ErrPath
		}
	}
	return nil
}
