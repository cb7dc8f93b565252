package hlscorpus

import (
	"regexp"
	"strings"
)

// Location is where a URI leads.
type Location struct {
	Scheme string
	// Host is in lower case, without user information and without the port that is the scheme's own.
	Host string
	// Ref is the path and the query.
	Ref string
}

// uriParts is the expression of RFC 3986, appendix B, with a scheme as its grammar has it.
var uriParts = regexp.MustCompile(`^(?s)(([A-Za-z][A-Za-z0-9+.-]*):)?(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?`)

// Resolve resolves a reference as RFC 3986 §5.2 says, on any bytes; the base is normalized first. Players read a URI with
// backslashes otherwise.
func Resolve(base, reference string) Location {
	from, to := uriParts.FindStringSubmatch(base), uriParts.FindStringSubmatch(reference)
	if from[5] = removeDotSegments(from[5]); from[5] == "" {
		from[5] = "/"
	}
	scheme, authority, path, query := to[2], to[4], removeDotSegments(to[5]), to[6]
	switch {
	case scheme != "":
	case to[3] != "":
		scheme = from[2]
	case to[5] == "":
		scheme, authority, path = from[2], from[4], from[5]
		if query == "" {
			query = from[6]
		}
	case strings.HasPrefix(to[5], "/"):
		scheme, authority = from[2], from[4]
	default:
		scheme, authority = from[2], from[4]
		path = removeDotSegments(from[5][:strings.LastIndex(from[5], "/")+1] + to[5])
	}
	if path == "" {
		path = "/"
	}
	scheme = strings.ToLower(scheme)
	return Location{scheme, host(scheme, authority), path + query}
}

// host returns the host of an authority.
func host(scheme, authority string) string {
	host := strings.ToLower(authority[strings.LastIndex(authority, "@")+1:])
	for _, suffix := range []string{map[string]string{"http": ":80", "https": ":443"}[scheme], ":"} {
		host = strings.TrimSuffix(host, suffix)
	}
	return host
}

// removeDotSegments is RFC 3986 §5.2.4, step by step.
func removeDotSegments(in string) string {
	out := ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "../"):
			in = in[3:]
		case strings.HasPrefix(in, "./"), strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			in = "/" + strings.TrimPrefix(in[3:], "/")
			out = out[:max(0, strings.LastIndex(out, "/"))]
		case in == ".", in == "..":
			in = ""
		default:
			end := 1 + len(strings.SplitN(in[1:], "/", 2)[0])
			out += in[:end]
			in = in[end:]
		}
	}
	return out
}
