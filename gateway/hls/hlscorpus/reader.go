package hlscorpus

import (
	"net/url"
	"regexp"
	"strings"
)

// Role is what a URI is, by the tag that lists it.
type Role string

// The roles.
const (
	Media  Role = "media"
	List   Role = "playlist"
	Key    Role = "key"
	Object Role = "document"
)

// URI is one URI of a playlist.
type URI struct {
	Role Role
	// Written is as it stands in the playlist.
	Written string
	// Text has the variables replaced whose values are known.
	Text string
}

// Reader reads playlists. It knows the values of variables that come from elsewhere.
type Reader struct {
	Query    url.Values
	Imported map[string]string
}

// URIs returns the URIs of a playlist or a document. Those of an object in a document are in the order of their keys.
func URIs(body string) []URI { return Reader{}.URIs(body) }

// Outside returns what surrounds the URIs of a playlist or a document. It is the same before and after rewriting. In a
// document it leaves out what says the host of a pathway.
func Outside(body string) string {
	body = Steered(body)
	if isDocument(body) {
		_, outside := readDocument(body)
		return outside
	}
	_, outside := Reader{}.readPlaylist(body)
	return outside
}

// URIs returns the URIs as the function of this name does.
func (r Reader) URIs(body string) []URI {
	body = Steered(body)
	if isDocument(body) {
		uris, _ := readDocument(body)
		return uris
	}
	uris, _ := r.readPlaylist(body)
	return uris
}

// Steered gives back the names by which players are steered, which rewriting takes from what leads them to another server.
func Steered(body string) string {
	return strings.NewReplacer("#EXT-X-X-CONTENT-STEERING", "#EXT-X-CONTENT-STEERING", `"X-RELOAD-URI"`, `"RELOAD-URI"`).Replace(body)
}

// tagURI gives the roles of attributes by tag and name.
func tagURI() map[string]Role {
	return map[string]Role{
		"EXT-X-KEY URI": Key, "EXT-X-SESSION-KEY URI": Key,
		"EXT-X-MAP URI": Media, "EXT-X-PART URI": Media, "EXT-X-PRELOAD-HINT URI": Media, "EXT-X-SESSION-DATA URI": Media,
		"EXT-X-MEDIA URI": List, "EXT-X-I-FRAME-STREAM-INF URI": List, "EXT-X-IMAGE-STREAM-INF URI": List,
		"EXT-X-RENDITION-REPORT URI": List, "EXT-X-DATERANGE X-ASSET-URI": List,
		"EXT-X-DATERANGE X-ASSET-LIST": Object, "EXT-X-CONTENT-STEERING SERVER-URI": Object,
	}
}

var (
	pieces    = regexp.MustCompile(`[\r\n]+|[^\r\n]+`)
	variable  = regexp.MustCompile(`\{\$([A-Za-z0-9_-]+)\}`)
	attribute = regexp.MustCompile(`^([^=,]*)(?:,|$|=[ \t]*(?:"([^"]*)"[^,]*|([^",][^,]*)|())(?:,|$))`)
)

// readPlaylist returns the URIs of a playlist, and its text without them.
func (r Reader) readPlaylist(body string) (uris []URI, outside string) {
	values := map[string]string{}
	next := Media
	add := func(role Role, text string) string {
		from, to := trimmed(text)
		uris = append(uris, URI{role, text[from:to], expand(values, text[from:to])})
		return text[:from] + "\x00" + text[to:]
	}
	var out strings.Builder
	for _, line := range pieces.FindAllString(strings.TrimPrefix(body, "\ufeff"), -1) {
		from, to := trimmed(line)
		tag, list, hasList := strings.Cut(line[from:to], ":")
		switch {
		case from == to:
		case line[from] != '#':
			line = add(next, line)
			next = Media
		case tag == "#EXT-X-STREAM-INF":
			next = List
		case tag == "#EXT-X-DEFINE":
			r.define(values, list)
		case tag == "#EXT-X-PREFETCH" || tag == "#EXT-X-TWITCH-PREFETCH":
			if strings.Trim(list, " \t") != "" {
				line = line[:from] + tag + ":" + add(Media, list) + line[to:]
			}
		case hasList:
			line = line[:from] + tag + ":" + eachAttribute(list, func(name, value string) string {
				if role, isURI := tagURI()[strings.TrimPrefix(tag, "#")+" "+name]; isURI {
					return add(role, value)
				}
				return value
			}) + line[to:]
		}
		out.WriteString(line)
	}
	return uris, out.String()
}

// eachAttribute replaces each value of an attribute list. It stops at a quote that is never closed.
func eachAttribute(list string, change func(name, value string) string) string {
	var done strings.Builder
	for list != "" {
		at := attribute.FindStringSubmatchIndex(list)
		if at == nil || at[1] == 0 {
			break
		}
		if i := max(at[4], at[6], at[8]); i >= 0 {
			end := max(at[5], at[7], at[9])
			name := strings.Trim(list[at[2]:at[3]], " \t")
			done.WriteString(list[:i] + change(name, list[i:end]) + list[end:at[1]])
		} else {
			done.WriteString(list[:at[1]])
		}
		list = list[at[1]:]
	}
	return done.String() + list
}

// define notes the variable of an EXT-X-DEFINE.
func (r Reader) define(values map[string]string, list string) {
	found := map[string]string{}
	eachAttribute(list, func(name, value string) string {
		found[name] = value
		return value
	})
	set := func(name, value string, isKnown bool) {
		if _, isDefined := values[name]; isKnown && !isDefined && !strings.Contains(value, "{$") {
			values[name] = value
		}
	}
	if name, isThere := found["NAME"]; isThere {
		value, isKnown := found["VALUE"]
		set(name, expand(values, value), isKnown)
	} else if name, isThere := found["IMPORT"]; isThere {
		value, isKnown := r.Imported[name]
		set(name, value, isKnown)
	} else if name, isThere := found["QUERYPARAM"]; isThere {
		set(name, r.Query.Get(name), r.Query.Has(name))
	}
}

// expand replaces the variables whose values are known.
func expand(values map[string]string, text string) string {
	return variable.ReplaceAllStringFunc(text, func(reference string) string {
		if value, isKnown := values[reference[2:len(reference)-1]]; isKnown {
			return value
		}
		return reference
	})
}

// trimmed returns where a text begins and ends without blanks.
func trimmed(text string) (from, to int) {
	from = len(text) - len(strings.TrimLeft(text, " \t\r\n"))
	return from, max(from, len(strings.TrimRight(text, " \t\r\n")))
}
