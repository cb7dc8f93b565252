package playlist

import "bytes"

// Resolve appends to dst the reference resolved against a base, without its fragment: RFC 3986, section 5.2. The base is an absolute
// URL. Both are taken as they are spelled, since players re-encode nothing.
func Resolve(dst, base, reference []byte) []byte {
	reference, _, _ = bytes.Cut(reference, []byte("#"))
	scheme, rest, _ := bytes.Cut(base, []byte("://"))
	host, path := rest, []byte(nil)
	if slash := bytes.IndexAny(rest, "/?#"); slash >= 0 {
		host, path = rest[:slash], rest[slash:]
	}
	path, _, _ = bytes.Cut(path, []byte("#"))
	folder, query, hasQuery := bytes.Cut(path, []byte("?"))
	switch {
	case hasScheme(reference):
		return append(dst, reference...)
	case bytes.HasPrefix(reference, []byte("//")):
		return append(append(append(dst, scheme...), ':'), reference...)
	}
	dst = append(append(append(dst, scheme...), "://"...), host...)
	from := len(dst)
	switch {
	case len(reference) == 0:
		dst = append(rooted(dst, folder), folder...)
		if hasQuery {
			dst = append(append(dst, '?'), query...)
		}
		return dst
	case reference[0] == '?':
		return append(append(rooted(dst, folder), folder...), reference...)
	case reference[0] != '/':
		folder = folder[:bytes.LastIndexByte(folder, '/')+1]
		dst = append(rooted(dst, folder), folder...)
	}
	path, query, hasQuery = bytes.Cut(reference, []byte("?"))
	dst = append(dst, path...)
	dst = append(dst[:from], removeDots(dst[from:])...)
	if hasQuery {
		dst = append(append(dst, '?'), query...)
	}
	return dst
}

// rooted appends the slash that an empty path lacks.
func rooted(dst, path []byte) []byte {
	if len(path) == 0 {
		return append(dst, '/')
	}
	return dst
}

// hasScheme reports whether a reference begins with a scheme.
func hasScheme(reference []byte) bool {
	for i, c := range reference {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return i > 0 && c == ':'
		}
	}
	return false
}

// removeDots removes the segments "." and ".." of a path that begins with a slash, in place.
func removeDots(path []byte) []byte {
	if !bytes.Contains(path, []byte("/.")) {
		return path
	}
	out := path[:0]
	for rest := path; len(rest) > 0; {
		end := len(rest)
		if slash := bytes.IndexByte(rest[1:], '/'); slash >= 0 {
			end = slash + 1
		}
		segment, isLast := rest[:end], end == len(rest)
		rest = rest[end:]
		switch string(segment) {
		case "/.":
		case "/..":
			out = out[:max(0, bytes.LastIndexByte(out, '/'))]
		default:
			out = append(out, segment...)
			continue
		}
		if isLast {
			out = append(out, '/')
		}
	}
	return out
}

// SplitURL splits an absolute http or https URL into its origin ("http://host:port") and the rest, a path with its query. The rest
// may be empty. It returns false for any other URL.
func SplitURL(url []byte) (origin, rest []byte, ok bool) {
	after, found := bytes.CutPrefix(url, []byte("http://"))
	if !found {
		if after, found = bytes.CutPrefix(url, []byte("https://")); !found {
			return nil, nil, false
		}
	}
	end := len(after)
	if i := bytes.IndexAny(after, "/?#"); i >= 0 {
		end = i
	}
	if end == 0 {
		return nil, nil, false
	}
	split := len(url) - len(after) + end
	return url[:split], url[split:], true
}
