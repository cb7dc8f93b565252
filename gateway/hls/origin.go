package hls

import (
	"errors"
	"strings"
)

// errOrigin names no part of the URL: its query may hold a secret.
var errOrigin = errors.New("Options.Origin is no absolute URL of scheme http or https")

// form is how a URI says where it leads.
type form uint8

const (
	// foreign: another scheme or host, the playlist itself, or not to be told. It stays as it is.
	foreign form = iota
	// relative to the playlist's own directory.
	relative
	// rooted: relative to the root of the playlist's own host.
	rooted
	// absolute: with a host, one of ours.
	absolute
)

// origin is where a playlist came from.
type origin struct {
	base
	scheme, host string
	same         func(scheme, host string) bool
}

// newOrigin takes the playlist's URL apart. Without a same of the caller's, its own scheme and host alone are ours.
func newOrigin(rawURL string, same func(scheme, host string) bool) (origin, error) {
	scheme, rest := cutScheme(rawURL)
	host, target, ok := cutHost(scheme, rest)
	if !ok {
		return origin{}, errOrigin
	}
	target, _ = cutFragment(target)
	o := origin{base: newBase(target), scheme: scheme, host: host, same: same}
	if same == nil {
		o.same = func(scheme, host string) bool { return scheme == o.scheme && host == o.host }
	}
	return o, nil
}

// split tells a URI without fragment by its form, and what of it is path and query.
func (o *origin) split(uri string) (form, string) {
	switch {
	case uri == "", uri[0] == '\\', strings.HasPrefix(uri, `/\`), ledByVariable(uri):
		return foreign, ""
	case strings.HasPrefix(uri, "//"):
		return o.hosted(o.scheme, uri)
	case uri[0] == '/':
		return rooted, uri
	}
	scheme, rest := cutScheme(uri)
	if scheme == "" {
		return relative, uri
	}
	return o.hosted(scheme, rest)
}

// ledByVariable reports whether a variable that is not known decides where a URI leads: its value could hold a scheme or
// a host, and it may come from a link that somebody else made up (QUERYPARAM).
func ledByVariable(uri string) bool {
	i := strings.Index(uri, "{$")
	if i < 0 || i > len("https") {
		return false
	}
	return uri[:i] == "/" || strings.EqualFold(uri[:i], "https"[:i])
}

// hosted tells whether what follows a scheme leads to an origin of ours.
func (o *origin) hosted(scheme, rest string) (form, string) {
	host, target, ok := cutHost(scheme, rest)
	if !ok || !o.same(scheme, host) {
		return foreign, ""
	}
	return absolute, target
}

// cutHost splits "//host/path?query" into the host, in the form that SameOrigin sees, and a path-absolute rest. It is
// false for what is not http, and for a host that is not written out.
func cutHost(scheme, rest string) (host, target string, ok bool) {
	rest, found := strings.CutPrefix(rest, "//")
	if !found || (scheme != "http" && scheme != "https") {
		return "", "", false
	}
	i := ending(rest, `/?#\`)
	host, target = rest[:i], rest[i:]
	if strings.HasPrefix(target, `\`) || strings.Contains(host, "{$") {
		return "", "", false
	}
	host = strings.ToLower(host[strings.LastIndexByte(host, '@')+1:])
	if scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return host, target, host != ""
}
