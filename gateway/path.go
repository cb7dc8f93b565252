package gateway

import (
	"iter"
	"log/slog"
	"strings"

	"usher/gateway/hls"
	"usher/gateway/ticket"
)

// ticketInPath returns the ticket in front of the path, and the rest of the path.
func ticketInPath(path string) (ticket, rest string, found bool) {
	single := path
	for strings.HasPrefix(single, "//") {
		single = single[1:]
	}
	after, found := strings.CutPrefix(single, "/~")
	if !found {
		if after, found = cutPrefixFold(single, "/%7e"); !found {
			return "", path, false
		}
	}
	slash := strings.IndexByte(after, '/')
	if slash < 0 {
		return after, "/", true
	}
	return after[:slash], after[slash:], true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// ticketsInQueryOrCookies gives the tickets in the query or the cookies, whichever the route uses. A browser sends one
// cookie for each folder above the path that has one.
func ticketsInQueryOrCookies(t *target, req *Request, c *TicketsConfig) iter.Seq[string] {
	return func(yield func(string) bool) {
		switch t.route.config.TicketIn {
		case hls.TicketInQuery:
			if text := parameter(req.Query, c.Parameter); text != "" {
				yield(text)
			}
		case hls.TicketInCookie:
			left := maxTicketCookies
			for _, field := range req.Header.Values("Cookie") {
				for value := range cookieValues(field, c.CookieName) {
					if left--; left < 0 || !yield(value) {
						return
					}
				}
			}
		}
	}
}

// cookieValues gives the values of the cookies of that name in a Cookie field, except empty ones.
func cookieValues(field, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for pair := range strings.SplitSeq(field, ";") {
			n, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if n == name && value != "" && !yield(value) {
				return
			}
		}
	}
}

// maxTicketCookies bounds how many cookies of one request are verified.
const maxTicketCookies = 8

// enter binds the target to the folder of the path, as when credentials open a session. Where the channel has folders
// itself, it ends there.
func (t *target) enter() {
	if t.mapping.viewer.isDeep {
		t.depth = strings.Count(t.mapping.viewer.value(t.match, channelVariable), "/")
		return
	}
	rest := t.rest()
	t.depth = min(strings.Count(rest, "/"), ticket.MaxDepth)
	if t.depth > 0 {
		t.folder = unescape(firstNames(rest, t.depth))
	}
}

// enterAgain is enter for a target that a ticket has bound to another folder.
func (t *target) enterAgain() {
	if t.mapping.viewer.isDeep {
		t.bindChannel(anyDepth)
	}
	t.enter()
}

// bind binds the target to a folder of the path with that depth, as a ticket says it. It fails if the path is not in one.
func (t *target) bind(depth int) bool {
	if t.mapping.viewer.isDeep {
		return t.bindChannel(depth)
	}
	rest := t.rest()
	if depth > strings.Count(rest, "/") {
		return false
	}
	if depth == 0 {
		t.folder = ""
	} else if depth != t.depth {
		t.folder = unescape(firstNames(rest, depth))
	}
	t.depth = depth
	return true
}

// bindChannel sets the channel of a path to the one with that many slashes.
func (t *target) bindChannel(depth int) bool {
	if depth == t.depth {
		return true
	}
	m, ok := t.mapping.viewer.matchDepth(t.path, depth)
	if ok {
		t.match, t.channel, t.depth = m, unescape(t.mapping.viewer.value(m, channelVariable)), depth
	}
	return ok
}

// above gives the target bound to each folder above its own, the whole channel first.
func (t *target) above() iter.Seq[target] {
	return func(yield func(target) bool) {
		for depth := range t.depth {
			if above := *t; above.bind(depth) && !yield(above) {
				return
			}
		}
	}
}

// folderPath returns the path of the target's folder in a pattern of its route. It fails if the pattern has variables that
// the target's path lacks, or no such folder.
func (t *target) folderPath(p *pattern) (string, bool) {
	if t.depth == 0 || t.mapping.viewer.isDeep {
		return p.folder(t.mapping.viewer, t.match)
	}
	if p.index(restVariable) < 0 {
		return "", false
	}
	m := t.match
	m.values[len(t.mapping.viewer.names)-1] = firstNames(t.rest(), t.depth)
	return p.expand(t.mapping.viewer, m)
}

// warnOfEntries warns the operator, once for each route, of a channel that was opened in two folders, neither of which is
// below the other. They are two channels most likely, of which the backend is told one name.
func (t *target) warnOfEntries(log *slog.Logger) {
	r := t.route
	if t.mapping.viewer.isDeep || r.hasWarnedEntries.Load() {
		return
	}
	first, isNew := r.entries.SetIfAbsent(t.channel, t.folder)
	if isNew || isWithin(t.folder, first) || isWithin(first, t.folder) || r.hasWarnedEntries.Swap(true) {
		return
	}
	r.entries.InvalidateAll()
	log.Warn("a channel was opened in two folders, write {channel...} in the route's path if these are two channels",
		slog.String("route", r.name), slog.String("channel", t.channel), slog.String("first_folder", first), slog.String("folder", t.folder))
}

// rest returns the path below the channel, escaped as it came.
func (t *target) rest() string {
	if names := t.mapping.viewer.names; len(names) > 0 && names[len(names)-1] == restVariable {
		return t.match.values[len(names)-1]
	}
	return ""
}

// firstNames returns the first n names of a path, which has at least as many slashes.
func firstNames(path string, n int) string {
	end := 0
	for range n {
		end += strings.IndexByte(path[end:], '/') + 1
	}
	return path[:end-1]
}

// isWithin reports whether a folder is another one or below it.
func isWithin(folder, other string) bool {
	return other == "" || folder == other || len(folder) > len(other) && folder[len(other)] == '/' && folder[:len(other)] == other
}
