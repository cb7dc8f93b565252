package hls

import "strings"

// hasParameter reports whether a reference's query has the parameter, with or without a value.
func hasParameter(ref, name string) bool {
	if !strings.Contains(ref, name) {
		return false
	}
	_, query, found := strings.Cut(ref, "?")
	for found {
		var pair string
		pair, query, found = strings.Cut(query, "&")
		if hasKey(pair, name) {
			return true
		}
	}
	return false
}

// withoutParameter removes every parameter of the name from the reference, and the question mark if nothing is left
// after it.
func withoutParameter(ref, name string) string {
	if !hasParameter(ref, name) {
		return ref
	}
	path, query, _ := strings.Cut(ref, "?")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if !hasKey(pair, name) {
			kept = append(kept, pair)
		}
	}
	if len(kept) == 0 {
		return path
	}
	return path + "?" + strings.Join(kept, "&")
}

// splitAtParameter returns the text before and after the value of a parameter that the reference has; before ends with the
// name and the equals sign. The first parameter of the name is replaced and later ones are removed.
func splitAtParameter(ref, name string) (before, after string) {
	path, query, _ := strings.Cut(ref, "?")
	head := path + "?"
	for {
		pair, rest, more := strings.Cut(query, "&")
		if hasKey(pair, name) {
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

// querySeparator returns what separates a reference from a parameter appended to it: "?", "&" or nothing.
func querySeparator(ref string) string {
	switch _, query := cutQuery(ref); {
	case query == "":
		return "?"
	case query == "?" || strings.HasSuffix(query, "&"):
		return ""
	default:
		return "&"
	}
}

// hasKey reports whether a pair of a query has the name as its key.
func hasKey(pair, name string) bool {
	key, _, _ := strings.Cut(pair, "=")
	return key == name
}
