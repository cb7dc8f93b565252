package gateway

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"usher/gateway/enforcement"
	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/reference"
	"usher/gateway/upstream"
	"usher/gateway/urlpath"
)

// source is what is fetched for a request.
type source struct {
	origin *origin.Origin
	// base is the scheme and host of another server than the origin's own; empty: those.
	base string
	// path is escaped. Without a base it is below the path of the origin's address.
	path, query string
	// isViewersQuery reports that the viewer chose some of the query.
	isViewersQuery bool
	// version is that of a reference.
	version uint64
	// isListed reports that a playlist lists the path byte for byte, so that it may look like another one.
	isListed bool
}

// sealedURI is what is told of a request by the reference in its path.
type sealedURI struct {
	// text is the reference; empty: the path is plain. name is the segment behind it, as it came.
	text, name string
	// target is what the reference says, once it is verified. wasMedia reports that what it calls a playlist was media a moment before.
	target           reference.Target
	isOpen, wasMedia bool
}

// cutReference returns the reference in front of the last segment of a path, the folder in which it stands, with its slash,
// and the last segment. Without a reference the folder is the whole path.
func cutReference(path string) (text, folder, name string) {
	last := strings.LastIndexByte(path, '/')
	if last <= 0 {
		return "", path, ""
	}
	begin := strings.LastIndexByte(path[:last], '/') + 1
	segment := path[begin:last]
	after, found := strings.CutPrefix(segment, "~")
	if !found {
		after, found = cutPrefixFold(segment, "%7e")
	}
	if !found || begin == 0 || !reference.IsReference(after) {
		return "", path, ""
	}
	return after, path[:begin], path[last+1:]
}

// referenceScope returns where a reference below the target's folder may be used, with that name behind it.
func (t *target) referenceScope(name string) reference.Scope {
	return reference.Scope{Route: t.route.name, Channel: t.channel, Folder: t.folder, Name: name}
}

// openReference verifies the request's reference and reports whether it is valid. A viewer whose ticket is valid notices an
// invalid one, so that is logged.
func (g *Gateway) openReference(rc *requestContext, buf *reference.Buffer, resp *Response) bool {
	name := unescape(rc.sealed.name)
	for here, more := rc.target, true; more; more = here.nextMapping() {
		scope := here.referenceScope(name)
		found, ok := g.sealer.Open(buf, rc.claims.KeyID, rc.sealed.text, &scope)
		if !ok || !here.isPlace() {
			if rc.hasTicket {
				break // the ticket says the mapping
			}
			continue
		}
		rc.sealed.target, rc.sealed.isOpen = found, true
		if !rc.hasTicket {
			rc.target = here
		}
		rc.isPlaylist = found.Role == hls.Playlist
		return true
	}
	if rc.hasTicket {
		g.warnOfReference(rc)
	}
	g.tellRefusal(rc.target.route, enforcement.BadReference)
	resp.refuse(http.StatusForbidden, "the reference in the path is not valid for this channel and name; open the playlist again")
	return false
}

func (g *Gateway) warnOfReference(rc *requestContext) {
	if r := rc.target.route; r.isFirst("reference") {
		g.options.Logger.Warn("reference invalid, a player changed a URI or uses one of another channel",
			slog.String("route", r.name), slog.String("channel", rc.target.channel), slog.String("path", rc.target.hideCredentials(rc.path)))
	}
}

// source returns what is fetched for the request, or false if the reference names an origin that is configured no more.
func (g *Gateway) source(rc *requestContext) (source, bool) {
	s := source{origin: rc.target.route.origin}
	if ref := &rc.sealed.target; rc.sealed.isOpen {
		s.base, s.path, s.query, s.version, s.isListed = ref.Base, ref.Path, ref.Query, ref.Version, true
		if ref.Role == hls.Playlist { // the player sees the query, and may give its directives other values
			s.query = withoutDirectives(s.query)
		}
		if ref.Origin != "" {
			s.origin = g.options.Origins[ref.Origin]
		}
	} else {
		s.path, s.query = rc.target.originPath(), g.forwardedQuery(rc)
		s.isViewersQuery = s.query != ""
	}
	if s.origin == nil {
		return s, false
	}
	if rc.hasPathway {
		s = s.onPathway(&rc.pathway, rc.sealed.isOpen && hls.KeepsHost(rc.sealed.target.Variables))
	}
	return s, true
}

// forwardedQuery returns the viewer's parameters that the route sends to the origin.
func (g *Gateway) forwardedQuery(rc *requestContext) string {
	forwarded := rc.target.route.config.ForwardQuery
	if len(forwarded) == 0 {
		return ""
	}
	return filterQuery(rc.request.Query, func(name, _ string) bool { return slices.Contains(forwarded, name) })
}

// role returns what the request is for.
func (rc *requestContext) role() hls.Role {
	switch {
	case rc.sealed.isOpen:
		return rc.sealed.target.Role
	case rc.isPlaylist:
		return hls.Playlist
	default:
		return roleOfName(rc.target.path)
	}
}

// roleOfName returns the role that a path shows by its name.
func roleOfName(path string) hls.Role {
	switch {
	case isPlaylist(path):
		return hls.Playlist
	case hasSuffixFold(path, ".key"):
		return hls.Key
	default:
		return hls.Media
	}
}

// locator writes what a playlist or document lists as the viewer's paths.
type locator struct {
	gateway *Gateway
	// target is the playlist's. It is a copy: that of a request is reused.
	target target
	keyID  string
	// place is the folder below which references are written; empty: the route has none.
	place string
	// ticketSize is the number of bytes of the ticket that is written into each URI.
	ticketSize int
	// media are the media and keys that the playlist numbers, in its order, by the name of their origin.
	media map[string][]origin.ListedMedia
}

func (g *Gateway) newLocator(rc *requestContext) *locator {
	l := &locator{gateway: g, target: rc.target, keyID: rc.claims.KeyID}
	l.place = l.target.place()
	l.ticketSize = len("/~") + len(g.signer.Sign(rc.claims, rc.target.scope()))
	return l
}

// locate returns the viewer's path and query for what is listed. It is plain where that says everything, else it holds a
// reference. False means that the URI stays unchanged.
func (l *locator) locate(listed hls.Listed) (string, bool) {
	sealed, ok := l.resolve(&listed)
	if !ok {
		return "", false
	}
	plain, isPlain := l.plain(&listed, &sealed)
	if isPlain {
		sealed.Path = urlpath.Escape(sealed.Path) // as players request it
	}
	l.note(&listed, &sealed)
	if isPlain {
		return plain, true
	}
	if !listed.IsKnown() || l.place == "" {
		l.warnOfPlain(&listed)
		return "", false
	}
	return l.seal(&listed, &sealed)
}

// warnOfPlain warns of a URI that needs a reference and cannot have one.
func (l *locator) warnOfPlain(listed *hls.Listed) {
	path, _, _ := strings.Cut(listed.Ref, "?")
	facts := []any{slog.String("route", l.target.route.name), slog.String("channel", l.target.channel), slog.String("path", l.target.hideCredentials(path))}
	switch r := l.target.route; {
	case l.place == "" && r.isFirst("place"):
		l.gateway.options.Logger.Warn("playlist lists what the route's patterns cannot name, add one that ends in /* to the route's media", facts...)
	case l.place != "" && r.isFirst("variable"):
		l.gateway.options.Logger.Warn("playlist uses a variable that only the player knows, add its parameter to the route's forward_query", facts...)
	}
}

// resolve returns where a listed URI is fetched. False means that no setting allows its host.
func (l *locator) resolve(listed *hls.Listed) (reference.Target, bool) {
	g, r := l.gateway, l.target.route
	path, query, _ := strings.Cut(listed.Ref, "?")
	t := reference.Target{Role: listed.Role, Query: urlpath.EscapeQuery(query), Variables: listed.Variables}
	if g.options.Config.Origins[r.config.Origin].ReusesNames {
		t.Version = listed.Version
	}
	at := r.origin.Locate(listed.Scheme, listed.Host, path)
	if at.Kind != upstream.Own {
		for _, name := range g.originNames {
			if other := g.options.Origins[name]; other.HostKind(listed.Scheme, listed.Host) == upstream.Own {
				at, t.Origin = other.Locate(listed.Scheme, listed.Host, path), name
				break
			}
		}
	}
	if t.Base, t.Path = at.Base, at.Path; at.Kind != upstream.Foreign {
		return t, true
	}
	r.origin.ReportUnlisted(listed.Scheme, listed.Host, l.target.channel)
	return t, false
}

// plain returns the viewer's path of what is on the route's own origin, if a request for that path alone says everything.
func (l *locator) plain(listed *hls.Listed, t *reference.Target) (string, bool) {
	if t.Origin != "" || t.Base != "" || t.Variables != "" || t.Version != 0 || t.Query != "" && listed.IsKnown() ||
		strings.Contains(t.Path, "//") { // which proxies in front may merge
		return "", false
	}
	for i := range l.target.route.mappings {
		path, ok := l.target.route.mappings[i].viewerPath(t.Path)
		if !ok || !l.saysAll(path, listed.Role) {
			continue
		}
		if t.Query != "" { // of a variable that only the player knows
			path += "?" + t.Query
		}
		return path, true
	}
	return "", false
}

// saysAll reports whether a request for a viewer's path leads to a file of that role of the playlist's channel, as it is.
func (l *locator) saysAll(path string, role hls.Role) bool {
	likeReference, _, _ := cutReference(path)
	return l.target.opens(path) && l.target.route.roleOf(path) == role &&
		urlpath.IsClean(path) && likeReference == ""
}

// seal returns the path of a reference.
func (l *locator) seal(listed *hls.Listed, t *reference.Target) (string, bool) {
	name := visibleName(t.Path)
	scope := l.target.referenceScope(name)
	out := append(make([]byte, 0, 512), l.place...)
	out = append(out, '~')
	out = l.gateway.sealer.AppendSealed(out, l.keyID, t, &scope)
	out = append(append(out, '/'), name...)
	if listed.Role == hls.Playlist && t.Query != "" { // players read EXT-X-DEFINE:QUERYPARAM from it
		out = append(append(out, '?'), t.Query...)
	}
	if size := len(out) + l.ticketSize; size > l.gateway.maxURI() {
		r := l.target.route
		r.tooLong.Add(1)
		if r.isFirst("max_uri") {
			l.gateway.options.Logger.Warn("playlist lists a URI that is too long to be written, raise tickets.max_uri if players take longer ones",
				slog.String("route", r.name), slog.String("channel", l.target.channel), slog.Int("bytes", size),
				slog.Int("max_uri", l.gateway.maxURI()))
		}
		return "", false
	}
	return string(out), true
}

// pathway returns the value of [hls.HostParameter] for the host and the parameters of a pathway. A host that no setting allows
// is left out: then the pathway is served from where its base is.
func (l *locator) pathway(host, query string) string {
	t := reference.Target{Role: hls.Document, Path: "/", Query: query}
	server := upstream.Beside(l.target.route.origin.Server(), strings.ToLower(host))
	if scheme, name, isHost := strings.Cut(server, "://"); isHost && host != "" {
		if _, isAllowed := l.resolve(&hls.Listed{Scheme: scheme, Host: name, Ref: "/"}); isAllowed {
			t.Base = strings.ToLower(host)
		}
	}
	if t.Base == "" && t.Query == "" {
		return ""
	}
	scope := l.target.referenceScope(hls.HostParameter)
	return string(l.gateway.sealer.AppendSealed(nil, l.keyID, &t, &scope))
}

// openPathway reads what a steering manifest said of the request's pathway, if that is valid.
func (g *Gateway) openPathway(rc *requestContext) {
	text := parameter(rc.request.Query, hls.HostParameter)
	if text == "" {
		return
	}
	scope := rc.target.referenceScope(hls.HostParameter)
	rc.pathway, rc.hasPathway = g.sealer.Open(new(reference.Buffer), rc.claims.KeyID, text, &scope)
}

// onPathway moves the source to the host of the request's pathway, unless it keeps its own, and adds the pathway's parameters.
func (s source) onPathway(t *reference.Target, keepsHost bool) source {
	if t.Base != "" && !keepsHost {
		if s.base == "" {
			s.base, s.path = s.origin.Server(), s.origin.Prefix()+s.path // a base has no path of its own
		}
		s.base = upstream.Beside(s.base, t.Base)
	}
	if t.Query != "" { // a parameter replaces the listed ones of its name
		isReplaced := func(name string) bool {
			return slices.ContainsFunc(strings.Split(t.Query, "&"), func(pair string) bool { return parameterName(pair) == name })
		}
		kept := filterQuery(s.query, func(name, _ string) bool { return !isReplaced(name) })
		s.query = strings.TrimPrefix(kept+"&"+t.Query, "&")
	}
	return s
}

// maxURI is how many bytes a written URI may have.
func (g *Gateway) maxURI() int {
	return int(min(g.options.Config.Tickets.MaxURI, g.options.Config.Limits.MaxURLSize))
}

// maxVisibleName bounds the name behind a reference.
const maxVisibleName = 100

// visibleName returns the name behind a reference: the listed one, for players that look at it, with "_" for what servers or
// browsers might write otherwise.
func visibleName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	name = name[max(0, len(name)-maxVisibleName):]
	if name == "" {
		return "_"
	}
	out := []byte(name)
	for i, c := range out {
		isPlain := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_.,=()@!", c) >= 0
		isDot := c == '.' && (i == 0 || i == len(out)-1)
		if !isPlain || isDot {
			out[i] = '_'
		}
	}
	return string(out)
}

// place returns the folder of the viewer's paths below which references of the target's folder are written, with its slash. It
// is empty if no pattern of the route ends in *, or none whose variables the target's path has. One that names nothing of the
// viewer goes before others.
func (t *target) place() string {
	rest := ""
	if !t.mapping.viewer.isDeep && t.depth > 0 {
		rest = firstNames(t.rest(), t.depth) + "/"
	}
	for i := range t.route.mappings {
		p := t.route.mappings[i].viewer
		if p.hasCredentials() && !t.route.placesNameViewers {
			continue
		}
		if place, ok := p.place(t.mapping.viewer, t.match, rest); ok {
			return place
		}
	}
	return ""
}

// isPlace reports whether the target's path is directly in the target's folder.
func (t *target) isPlace() bool {
	folders := strings.Count(t.rest(), "/")
	return folders == t.depth || folders == 0 && t.mapping.viewer.isDeep
}

// opens reports whether the target's ticket opens another path.
func (t *target) opens(path string) bool {
	other := target{path: path}
	for found := other.matchFrom(t.route, 0); found; found = other.nextMapping() {
		if here := other; here.bind(t.depth) && here.channel == t.channel && here.folder == t.folder {
			return true
		}
	}
	return false
}

// isFirst reports whether it is called for the first time with that text, or for the first time since many others.
func (r *route) isFirst(text string) bool {
	_, isNew := r.warned.SetIfAbsent(text, struct{}{})
	return isNew
}
