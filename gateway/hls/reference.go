package hls

import "strings"

// base is the path of a URL against which relative references are resolved.
type base struct {
	path string // path-absolute, without dot segments and query
	dir  string // path up to and including its last slash
}

// newBase returns the base for the path of a URL. It drops a query.
func newBase(path string) base {
	path, _ = cutQuery(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	dir, _ := removeDotSegments(path[:strings.LastIndexByte(path, '/')+1]) // by itself: a path may end in a dot segment
	path, _ = removeDotSegments(path)
	return base{path: path, dir: dir}
}

// resolve returns the path and query to which a reference without scheme, host and fragment resolves (RFC 3986 §5.2),
// and whether its dot segments climbed above the root.
func (b base) resolve(ref string) (target string, climbed bool) {
	path, query := cutQuery(ref)
	switch {
	case path == "":
		return b.path + query, false
	case path[0] != '/' && !mayHaveDotSegments(path):
		return b.dir + ref, false
	case path[0] != '/':
		path = b.dir + path
	case !mayHaveDotSegments(path):
		return ref, false
	}
	path, climbed = removeDotSegments(path)
	return path + query, climbed
}

// resolvesTo reports whether a reference resolves to target, and whether its dot segments climbed above the root.
func (b base) resolvesTo(ref, target string) (equal, climbed bool) {
	got, climbed := b.resolve(ref)
	return got == target, climbed
}

// relative returns the relative reference from this base to target (path-absolute, possibly with query). The reference
// never climbs above the root and cannot be read as one from the root or with a scheme.
func (b base) relative(target string) string {
	path, _ := cutQuery(target)
	shared := 0
	for i := 0; i < min(len(b.dir), len(path)) && b.dir[i] == path[i]; i++ {
		if path[i] == '/' {
			shared = i + 1
		}
	}
	ups := strings.Count(b.dir[shared:], "/")
	rest := target[shared:]
	if ups > 0 {
		return strings.Repeat("../", ups) + rest
	}
	if needsDotPrefix(rest) {
		return "./" + rest
	}
	return rest
}

// needsDotPrefix reports whether a reference would be read differently without "./" before it: as the playlist itself,
// from the root, with a scheme, by the value of an unknown variable, or without a leading blank.
func needsDotPrefix(rest string) bool {
	if rest == "" || strings.IndexByte("/? ", rest[0]) >= 0 || strings.HasPrefix(rest, "{$") {
		return true
	}
	segment := rest[:indexOrEnd(rest, "/?")]
	return strings.IndexByte(segment, ':') >= 0
}

// isPlainRelative reports whether a reference is a relative path without dot segments, possibly with a query.
func isPlainRelative(ref string) bool {
	path, _ := cutQuery(ref)
	return path != "" && path[0] != '/' && !mayHaveDotSegments(path)
}

// mayHaveDotSegments reports whether a path may hold a segment "." or "..". It is also true for a name that begins with
// a dot.
func mayHaveDotSegments(path string) bool {
	return strings.HasPrefix(path, ".") || strings.Contains(path, "/.")
}

// removeDotSegments removes the segments "." and ".." from a path-absolute path (RFC 3986 §5.2.4) and reports whether
// they climbed above the root. The text after an unknown variable is left to the player.
func removeDotSegments(path string) (clean string, climbed bool) {
	if !mayHaveDotSegments(path) {
		return path, false
	}
	tail := ""
	if i := strings.Index(path, "{$"); i >= 0 {
		i = strings.LastIndexByte(path[:i], '/')
		path, tail = path[:i+1], path[i+1:]
	}
	out := make([]byte, 0, len(path)+len(tail))
	for path != "" {
		segment := path[1:]
		segment = segment[:indexOrEnd(segment, "/")]
		path = path[1+len(segment):]
		switch segment {
		case ".", "..":
			if segment == ".." {
				climbed = climbed || len(out) == 0
				out = withoutLastSegment(out)
			}
			if path == "" {
				out = append(out, '/')
			}
		default:
			out = append(append(out, '/'), segment...)
		}
	}
	return string(append(out, tail...)), climbed
}

// withoutLastSegment removes the last segment and the slash before it.
func withoutLastSegment(path []byte) []byte {
	for len(path) > 0 {
		last := path[len(path)-1]
		path = path[:len(path)-1]
		if last == '/' {
			break
		}
	}
	return path
}

// cutQuery splits a reference before its question mark.
func cutQuery(ref string) (path, query string) {
	i := indexOrEnd(ref, "?")
	return ref[:i], ref[i:]
}

// cutFragment splits a URI before its number sign.
func cutFragment(uri string) (ref, fragment string) {
	i := indexOrEnd(uri, "#")
	return uri[:i], uri[i:]
}

// cutScheme splits a URI after the colon of its scheme and returns the scheme in lower case. A relative reference has
// no scheme.
func cutScheme(uri string) (scheme, rest string) {
	for i := range len(uri) {
		switch c := uri[i]; {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return strings.ToLower(uri[:i]), uri[i+1:]
		default:
			return "", uri
		}
	}
	return "", uri
}

// indexOrEnd returns the offset of the first of the characters in s, or the length of s.
func indexOrEnd(s, characters string) int {
	var i int
	if len(characters) == 1 {
		i = strings.IndexByte(s, characters[0])
	} else {
		i = strings.IndexAny(s, characters)
	}
	if i < 0 {
		return len(s)
	}
	return i
}
