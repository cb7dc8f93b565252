package hls

import (
	"net/url"
	"strings"

	"usher/gateway/urlpath"
)

// value is the value of a variable, or a text whose variables are replaced by their values.
type value struct {
	text string
	// viewers are the parts of the text that a viewer chose, in its order and apart from one another. Such a part may be empty.
	viewers []part
}

// part locates a part of a text.
type part struct{ start, end int }

// addViewers adds parts of a text that follows at an offset.
func (v *value) addViewers(parts []part, offset int) {
	for _, p := range parts {
		p.start, p.end = p.start+offset, p.end+offset
		if last := len(v.viewers) - 1; last >= 0 && v.viewers[last].end == p.start { // or empty ones could grow without bound
			v.viewers[last].end = p.end
			continue
		}
		v.viewers = append(v.viewers, p)
	}
}

// isConfined reports whether what a viewer chose of a URI is within single names of its path, or behind the path: none of it is in the
// host, and none leads to another folder.
func (v *value) isConfined() bool {
	if len(v.viewers) == 0 {
		return true
	}
	path := v.text[:indexOrEnd(v.text, "?#")]
	begin := pathOffset(path)
	for _, p := range v.viewers {
		if p.start > len(path) {
			break
		}
		if p.start < begin || strings.ContainsAny(v.text[p.start:p.end], `/\:?#%`) {
			return false
		}
		name := path[strings.LastIndexByte(path[:p.start], '/')+1 : p.start+indexOrEnd(path[p.start:], "/")]
		if name == "" || urlpath.HasLookAlike(name) {
			return false
		}
	}
	return true
}

// pathOffset returns the offset of what follows the scheme, the host and the first slash of a URI.
func pathOffset(uri string) int {
	_, rest := cutScheme(uri)
	if !strings.HasPrefix(rest, "//") {
		return 0
	}
	host := len(uri) - len(rest) + len("//")
	return host + indexOrEnd(uri[host:], "/") + 1
}

// hasViewersQuery reports whether a viewer chose some of a URI's query.
func (v *value) hasViewersQuery() bool {
	at := strings.IndexByte(v.text, '?')
	return at >= 0 && len(v.viewers) > 0 && v.viewers[len(v.viewers)-1].start > at
}

// encode returns the value as one of a query. What a viewer chose is in parentheses, which an escaped text does not have.
func (v *value) encode() string {
	if len(v.viewers) == 0 {
		return url.QueryEscape(v.text)
	}
	var out strings.Builder
	from := 0
	for _, p := range v.viewers {
		out.WriteString(url.QueryEscape(v.text[from:p.start]) + "(" + url.QueryEscape(v.text[p.start:p.end]) + ")")
		from = p.end
	}
	return out.String() + url.QueryEscape(v.text[from:])
}

// decodeValue reads what encode wrote.
func decodeValue(encoded string) (v value, ok bool) {
	for {
		own, rest, isFollowed := strings.Cut(encoded, "(")
		text, err := url.QueryUnescape(own)
		if err != nil {
			return value{}, false
		}
		v.text += text
		if !isFollowed {
			return v, true
		}
		chosen, after, isClosed := strings.Cut(rest, ")")
		if text, err = url.QueryUnescape(chosen); err != nil || !isClosed {
			return value{}, false
		}
		v.addViewers([]part{{0, len(text)}}, len(v.text))
		v.text, encoded = v.text+text, after
	}
}
