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
	// opaque is a URI of another scheme, of the playlist itself, or of an unknown target. It stays unchanged.
	opaque uriForm = iota
	// plain is a relative path without dot segments, possibly with a query.
	plain
	// relative is another reference from the playlist's own directory.
	relative
	// rooted is a reference from the root of the playlist's own host.
	rooted
	// absolute is a URI with a host.
	absolute
)

// playlistOrigin is the URL from which a playlist came, with its path as the base of references.
type playlistOrigin struct {
	base
	scheme, host string
}

// newOrigin parses the playlist's URL.
func newOrigin(rawURL string) (playlistOrigin, error) {
	scheme, rest := cutScheme(rawURL)
	host, target, ok := cutHost(scheme, rest)
	if !ok {
		return playlistOrigin{}, errOrigin
	}
	target, _ = cutFragment(target)
	return playlistOrigin{base: newBase(target), scheme: scheme, host: host}, nil
}

// location is where a URI leads: its scheme, its host in the form of cutHost, and a reference from the root.
type location struct{ scheme, host, ref string }

// locate returns the form of a URI without fragment, where it leads, and what is left of it without scheme and host.
func (o *playlistOrigin) locate(uri string) (form uriForm, at location, rest string) {
	switch {
	case uri == "", uri[0] == '\\', strings.HasPrefix(uri, `/\`), startsWithVariable(uri):
		return opaque, at, ""
	case strings.HasPrefix(uri, "//"):
		return o.locateHosted(o.scheme, uri)
	case uri[0] == '/':
		form = rooted
	default:
		scheme, below := cutScheme(uri)
		if scheme != "" {
			return o.locateHosted(scheme, below)
		}
		if isPlainRelative(uri) {
			return plain, location{o.scheme, o.host, o.dir + uri}, uri
		}
		form = relative
	}
	ref, _ := o.resolve(uri)
	return form, location{o.scheme, o.host, ref}, uri
}

// startsWithVariable reports whether an unknown variable decides where a URI leads. Its value could hold a scheme or a
// host, and it may come from a link that a stranger composed (QUERYPARAM).
func startsWithVariable(uri string) bool {
	i := strings.Index(uri[:min(len(uri), len("https{$"))], "{$")
	return i == 0 || i > 0 && (uri[:i] == "/" || strings.EqualFold(uri[:i], "https"[:i]))
}

// locateHosted locates a URI by the text after its scheme.
func (o *playlistOrigin) locateHosted(scheme, below string) (uriForm, location, string) {
	host, target, ok := cutHost(scheme, below)
	if !ok {
		return opaque, location{}, ""
	}
	ref, _ := o.resolve(target)
	return absolute, location{scheme, host, ref}, target
}

// cutHost splits "//host/path?query" into the host, in lower case and without the scheme's own port, and a path-absolute
// rest. It is false for a scheme other than http and https, and for a host that holds a variable.
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
	host = strings.TrimSuffix(host, ":") // the default port, by RFC 3986 §3.2.3
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return host, target, host != ""
}
