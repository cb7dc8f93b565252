package hls

import "strings"

// base is a URL's path, as far as relative references depend on it.
type base struct {
	path string // path-absolute, without dot segments and query
	dir  string // path up to its last slash, that included
}

// newBase takes the path of a URL; a query is left out.
func newBase(path string) base {
	path, _ = cutQuery(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	dir, _ := removeDots(path[:strings.LastIndexByte(path, '/')+1]) // by itself: a path may end in a dot segment
	path, _ = removeDots(path)
	return base{path: path, dir: dir}
}

// resolve gives the path and query that a reference without scheme, host and fragment leads to (RFC 3986 §5.2), and
// whether its dot segments climbed above the root.
func (b base) resolve(ref string) (target string, climbed bool) {
	path, query := cutQuery(ref)
	switch {
	case path == "":
		return b.path + query, false
	case path[0] != '/' && !hasDots(path):
		return b.dir + ref, false
	case path[0] != '/':
		path = b.dir + path
	case !hasDots(path):
		return ref, false
	}
	path, climbed = removeDots(path)
	return path + query, climbed
}

// resolvesTo reports whether a reference leads to target. In the usual case, a plain file name, nothing is built.
func (b base) resolvesTo(ref, target string) (equal, climbed bool) {
	if plain(ref) {
		rest, below := strings.CutPrefix(target, b.dir)
		return below && rest == ref, false
	}
	got, climbed := b.resolve(ref)
	return got == target, climbed
}

// relative gives the reference from this base to target (path-absolute, perhaps with query): it never climbs above the
// root and cannot be taken for a rooted one, nor for one with a scheme.
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
	if needsDot(rest) {
		return "./" + rest
	}
	return rest
}

// needsDot reports whether a reference would mean something else without "./" before it: the playlist itself, another
// root, a scheme, whatever an unknown variable begins with, or a blank that readers drop.
func needsDot(rest string) bool {
	if rest == "" || strings.IndexByte("/? ", rest[0]) >= 0 || strings.HasPrefix(rest, "{$") {
		return true
	}
	segment := rest[:ending(rest, "/?")]
	return strings.IndexByte(segment, ':') >= 0
}

// plain reports whether a reference is a relative path without dot segments, perhaps with a query.
func plain(ref string) bool {
	path, _ := cutQuery(ref)
	return path != "" && path[0] != '/' && !hasDots(path)
}

// hasDots reports whether a path may hold a segment "." or "..". A name that begins with a dot answers yes, too.
func hasDots(path string) bool {
	return strings.HasPrefix(path, ".") || strings.Contains(path, "/.")
}

// removeDots removes the segments "." and ".." from a path-absolute path (RFC 3986 §5.2.4), and tells whether they
// climbed above the root. What follows a variable that is not known is left to the player.
func removeDots(path string) (clean string, climbed bool) {
	if !hasDots(path) {
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
		segment = segment[:ending(segment, "/")]
		path = path[1+len(segment):]
		switch segment {
		case ".", "..":
			if segment == ".." {
				climbed = climbed || len(out) == 0
				out = parent(out)
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

// parent cuts the last segment and the slash before it.
func parent(path []byte) []byte {
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
	i := ending(ref, "?")
	return ref[:i], ref[i:]
}

// cutFragment splits a URI before its number sign.
func cutFragment(uri string) (ref, fragment string) {
	i := ending(uri, "#")
	return uri[:i], uri[i:]
}

// cutScheme splits a URI behind the colon of its scheme, which is given in lower case. A relative reference has none.
func cutScheme(uri string) (scheme, rest string) {
	i := ending(uri, ":/?#")
	if i == len(uri) || uri[i] != ':' {
		return "", uri
	}
	for j := range i {
		letter := uri[j]|0x20 >= 'a' && uri[j]|0x20 <= 'z'
		inside := uri[j] >= '0' && uri[j] <= '9' || strings.IndexByte("+-.", uri[j]) >= 0
		if !letter && (j == 0 || !inside) {
			return "", uri
		}
	}
	return strings.ToLower(uri[:i]), uri[i+1:]
}

// ending is the offset of the first of the characters in s, or the end of s.
func ending(s, characters string) int {
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
