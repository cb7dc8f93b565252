package hls

import (
	"errors"
	"strings"
)

// errOrigin does not quote the URL, whose query may hold a secret.
var errOrigin = errors.New("Options.Origin is not an absolute URL with scheme http or https")

// uriForm is the form of a URI reference.
type uriForm uint8

const (
	// foreign is a URI of another scheme or host, of the playlist itself, or of an unknown target. It stays unchanged.
	foreign uriForm = iota
	// relative is a reference from the playlist's own directory.
	relative
	// rooted is a reference from the root of the playlist's own host.
	rooted
	// absolute is a URI with the origin's host.
	absolute
)

// playlistOrigin is the URL from which a playlist came, with its path as the base of references.
type playlistOrigin struct {
	base
	scheme, host string
	isSameOrigin func(scheme, host string) bool
}

// newOrigin parses the playlist's URL. A nil same accepts only the URL's own scheme and host.
func newOrigin(rawURL string, same func(scheme, host string) bool) (playlistOrigin, error) {
	scheme, rest := cutScheme(rawURL)
	host, target, ok := cutHost(scheme, rest)
	if !ok {
		return playlistOrigin{}, errOrigin
	}
	target, _ = cutFragment(target)
	o := playlistOrigin{base: newBase(target), scheme: scheme, host: host, isSameOrigin: same}
	if same == nil {
		o.isSameOrigin = func(scheme, host string) bool { return scheme == o.scheme && host == o.host }
	}
	return o, nil
}

// classify returns the form of a URI without fragment, and its path and query.
func (o *playlistOrigin) classify(uri string) (uriForm, string) {
	switch {
	case uri == "", uri[0] == '\\', strings.HasPrefix(uri, `/\`), startsWithVariable(uri):
		return foreign, ""
	case strings.HasPrefix(uri, "//"):
		return o.classifyHosted(o.scheme, uri)
	case uri[0] == '/':
		return rooted, uri
	}
	scheme, rest := cutScheme(uri)
	if scheme == "" {
		return relative, uri
	}
	return o.classifyHosted(scheme, rest)
}

// startsWithVariable reports whether an unknown variable decides where a URI leads. Its value could hold a scheme or a
// host, and it may come from a link that a stranger composed (QUERYPARAM).
func startsWithVariable(uri string) bool {
	i := strings.Index(uri, "{$")
	if i < 0 || i > len("https") {
		return false
	}
	return uri[:i] == "/" || strings.EqualFold(uri[:i], "https"[:i])
}

// classifyHosted classifies a URI by the text after its scheme: absolute on the origin's host, else foreign.
func (o *playlistOrigin) classifyHosted(scheme, rest string) (uriForm, string) {
	host, target, ok := cutHost(scheme, rest)
	if !ok || !o.isSameOrigin(scheme, host) {
		return foreign, ""
	}
	return absolute, target
}

// cutHost splits "//host/path?query" into the host, in the form that SameOrigin receives, and a path-absolute rest. It
// is false for a scheme other than http and https, and for a host that holds a variable.
func cutHost(scheme, rest string) (host, target string, ok bool) {
	rest, found := strings.CutPrefix(rest, "//")
	if !found || (scheme != "http" && scheme != "https") {
		return "", "", false
	}
	i := indexOrEnd(rest, `/?#\`)
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
