package gateway

import (
	"iter"
	"log/slog"
	"strings"

	"usher/gateway/hls"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
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

// bind binds the target to a folder of the path with that depth, or to the path, as a ticket says it. It fails if the path
// is not in it.
func (t *target) bind(kind ticket.Kind, depth int) bool {
	switch {
	case kind == ticket.PathAlone:
		t.folder, t.depth = urlpath.Escape(t.path), 0
	case t.mapping.viewer.isDeep:
		return kind == ticket.Tree && t.bindChannel(depth)
	default:
		rest := t.rest()
		if n := strings.Count(rest, "/"); depth > n || kind == ticket.FolderAlone && depth != n {
			return false
		}
		if depth == 0 {
			t.folder = ""
		} else if depth != t.depth {
			t.folder = unescape(firstNames(rest, depth))
		}
		t.depth = depth
	}
	t.kind = kind
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
			if above := *t; above.bind(ticket.Tree, depth) && !yield(above) {
				return
			}
		}
	}
}

// The first character of the text that names a scope in a playlist's template is the digit of its kind. The path of its
// folder follows or, where there are no folders, the path that is listed.
const scopeDigits = "012"

// listedBy returns the function that names the scope of the ticket that a path needs which the target's playlist lists, if
// the target's own ticket does not open it. It is the folder that is listed. A folder above the target's is opened alone,
// because other entries are below it. A path that is not clean is opened alone, because nobody else may ask for such a one.
func (t *target) listedBy() func(ref string) string {
	own := *t // the target is reused for other requests
	return func(ref string) string {
		path, _, _ := strings.Cut(ref, "?")
		if !urlpath.IsClean(path) {
			return scopeText(ticket.PathAlone, path)
		}
		isDeep := own.mapping.viewer.isDeep
		if own.kind == ticket.Tree && (isDeep || own.folder == "") {
			return ""
		}
		listed, found := own.inChannel(path)
		if !found || own.opens(&listed) {
			return ""
		}
		if !isDeep && listed.mapping.viewer.index(restVariable) >= 0 {
			path = path[:strings.LastIndexByte(path, '/')+1]
		}
		if !isDeep && (own.kind == ticket.PathAlone || isWithin(own.folder, listed.folder)) {
			return scopeText(ticket.FolderAlone, path)
		}
		return scopeText(ticket.Tree, path)
	}
}

func scopeText(kind ticket.Kind, path string) string { return scopeDigits[kind:kind+1] + path }

// opens reports whether the target's ticket opens another target of its channel.
func (t *target) opens(other *target) bool {
	switch t.kind {
	case ticket.Tree:
		return isWithin(other.folder, t.folder)
	case ticket.FolderAlone:
		return other.folder == t.folder
	default:
		return false // an unclean path
	}
}

// inChannel returns the target of another path of the same channel.
func (t *target) inChannel(path string) (target, bool) {
	other := target{path: path}
	for found := other.matchFrom(t.route, 0); found; found = other.nextMapping() {
		if other.channel == t.channel {
			return other, true
		}
	}
	return other, false
}

// listedScope returns the scope that a text of listedBy names.
func (t *target) listedScope(text string) ticket.Scope {
	kind := ticket.Kind(text[0] - scopeDigits[0])
	listed, found := t.inChannel(text[1:])
	if !found {
		listed.matchFrom(t.route, 0) // a path alone may be of another channel
	}
	listed.bind(kind, listed.depth)
	return listed.scope()
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
