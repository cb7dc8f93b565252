package hls

import "strings"

// hasParameter reports whether a reference's query holds the parameter, with or without a value.
func hasParameter(ref, name string) bool {
	if !strings.Contains(ref, name) {
		return false
	}
	_, query, found := strings.Cut(ref, "?")
	for found {
		var pair string
		pair, query, found = strings.Cut(query, "&")
		if isParameter(pair, name) {
			return true
		}
	}
	return false
}

// withoutParameter gives the reference without every parameter of that name, and without a question mark that then has
// nothing left behind it.
func withoutParameter(ref, name string) string {
	if !hasParameter(ref, name) {
		return ref
	}
	path, query, _ := strings.Cut(ref, "?")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if !isParameter(pair, name) {
			kept = append(kept, pair)
		}
	}
	if len(kept) == 0 {
		return path
	}
	return path + "?" + strings.Join(kept, "&")
}

// splitAtParameter gives what stands before and behind the parameter's value, the parameter's name and equals sign being
// part of what stands before. A parameter that is there already is replaced where it stands first and removed elsewhere;
// otherwise it is added at the end.
func splitAtParameter(ref, name string) (before, after string) {
	if !hasParameter(ref, name) {
		return ref + joint(ref) + name + "=", ""
	}
	path, query, _ := strings.Cut(ref, "?")
	head := path + "?"
	for {
		pair, rest, more := strings.Cut(query, "&")
		if isParameter(pair, name) {
			if !more {
				return head + name + "=", ""
			}
			if rest = withoutParameter("?"+rest, name); rest == "" {
				return head + name + "=", ""
			}
			return head + name + "=", "&" + rest[1:]
		}
		head += pair + "&"
		query = rest
	}
}

// joint is what must stand between a reference and a parameter that is added to it.
func joint(ref string) string {
	switch _, query := cutQuery(ref); {
	case query == "":
		return "?"
	case query == "?" || strings.HasSuffix(query, "&"):
		return ""
	default:
		return "&"
	}
}

// isParameter reports whether one pair of a query is of that name.
func isParameter(pair, name string) bool {
	key, _, _ := strings.Cut(pair, "=")
	return key == name
}
