package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
)

// playlistType is a playlist's content type unless the origin gives one that players know.
const playlistType = "application/vnd.apple.mpegurl"

// masterPlaylistFreshness is how long a multivariant playlist is fresh. It hardly ever changes, but a variant that an
// operator adds must show soon.
const masterPlaylistFreshness = 5 * time.Second

// invalidPlaylist is the reason of a refusal.
const invalidPlaylist = "the origin sent no valid playlist"

// templateKey identifies one rewriting of a playlist or document by one gateway.
type templateKey struct {
	route *route
	// channel and folder are those for which references are sealed, keyID is the key that seals them.
	channel, folder, keyID string
	// path is the path of the request. It is empty if every URI is written path-absolute, so that viewers with credentials in
	// their path share one rewriting.
	path           string
	isTicketInPath bool
	isDocument     bool
}

func (rc *requestContext) templateKey() templateKey {
	t := &rc.target
	k := templateKey{
		route: t.route, channel: t.channel, folder: t.folder, keyID: rc.claims.KeyID,
		isTicketInPath: rc.isTicketInPath, isDocument: !rc.isPlaylist,
	}
	if rc.isTicketInPath || rc.sealed.isOpen || !k.route.acceptsTicketInPath() || t.route.placesNameViewers {
		k.path = rc.path
	}
	return k
}

// rewriting is a playlist or document parsed for viewers, or the reason why that failed.
type rewriting struct {
	*hls.Template
	err error
}

// servePlaylist answers with the viewer's version of the playlist.
func (g *Gateway) servePlaylist(ctx context.Context, rc *requestContext, resp *Response) error {
	p, made, err := g.fetchRewritten(ctx, rc, directives(rc.request.Query), inspect, resp)
	if err != nil || made == nil {
		return err
	}
	rc.noteTargetDuration(made.Info())
	g.renderTemplate(rc, made, playlistContentType(p.ContentType), resp)
	if rc.target.route.config.TicketIn == hls.TicketInCookie {
		g.setCookies(rc, resp)
	}
	return nil
}

// noteTargetDuration tells the session what its media playlist says. A complete one does not replace a live one: it may be an
// advertisement's, or that of thumbnails.
func (rc *requestContext) noteTargetDuration(info hls.Info) {
	if rc.session == nil || info.IsMultivariant || info.TargetDuration == 0 {
		return
	}
	if known, isComplete := rc.session.TargetDuration(); !info.HasEndList || isComplete || known == 0 {
		rc.session.SetTargetDuration(info.TargetDuration, info.HasEndList)
	}
}

// serveDocument answers with the viewer's version of a JSON document that a playlist names.
func (g *Gateway) serveDocument(ctx context.Context, rc *requestContext, resp *Response) error {
	p, made, err := g.fetchRewritten(ctx, rc, documentDirectives(rc.request.Query), nil, resp)
	if err != nil || made == nil {
		return err
	}
	g.renderTemplate(rc, made, cmp.Or(p.ContentType, "application/json"), resp)
	return nil
}

// fetchRewritten returns a playlist or document, and how it is written for viewers. Without either it has answered.
func (g *Gateway) fetchRewritten(
	ctx context.Context, rc *requestContext, directives string, inspect func([]byte) (origin.Inspection, error), resp *Response,
) (origin.Playlist, *hls.Template, error) {
	s, ok := g.source(rc)
	if !ok {
		resp.refuse(http.StatusNotFound, "the origin of this reference is configured no more")
		return origin.Playlist{}, nil, nil
	}
	r := &origin.Request{
		Base: s.base, Path: s.path, Channel: rc.target.channel, Query: s.query, Directives: directives, IsListed: s.isListed, Inspect: inspect,
		Viewer: rc.id, MaxHeldForViewer: maxHeld, MayBeMedia: rc.sealed.target.Role == hls.Playlist && !rc.sealed.wasMedia,
	}
	if rc.isPlaylist && directives != "" {
		boundReload(rc, s.origin, r)
	}
	p, err := s.origin.Playlist(ctx, r)
	if r.MayBeMedia && errors.Is(err, origin.ErrMedia) { // an interstitial's asset can be a file
		rc.isPlaylist, rc.sealed.wasMedia = false, true
		return p, nil, g.serveMedia(ctx, rc, resp)
	}
	if err != nil {
		return p, nil, g.originFailed(err, rc, resp)
	}
	var made *rewriting
	if strings.Contains(rc.path, "//") { // of which there are any number of spellings
		made = g.rewrite(rc, p.Object, &s)
	} else {
		made = g.rewriteOnce(rc, p.Object, &s)
	}
	if made.err != nil {
		return p, nil, g.serveUnreadable(ctx, rc, p.Object, made.err, resp)
	}
	return p, made.Template, nil
}

// serveUnreadable answers with what is not the playlist or document that the request is for. What is listed as a document may be a
// playlist.
func (g *Gateway) serveUnreadable(ctx context.Context, rc *requestContext, o *origin.Object, why error, resp *Response) error {
	if _, err := hls.Scan(o.Body); err == nil && !rc.isPlaylist {
		rc.isPlaylist = true
		return g.servePlaylist(ctx, rc, resp)
	}
	g.reportOrigin(fmt.Errorf("%w: %w", origin.ErrInvalidPlaylist, why), rc)
	resp.refuse(http.StatusBadGateway, invalidPlaylist)
	return nil
}

// rewriteOnce returns the rewriting that all viewers of a channel share.
func (g *Gateway) rewriteOnce(rc *requestContext, o *origin.Object, s *source) *rewriting {
	known, _ := o.Derived(g.generation, rc.templateKey())
	made, isKnown := known.(*rewriting)
	if isKnown {
		return made
	}
	of := *s // so that it escapes here alone
	made, _ = o.Derive(g.generation, rc.templateKey(), func() any { return g.rewrite(rc, o, &of) }).(*rewriting)
	return made
}

// renderTemplate writes the viewer's version into the response.
func (g *Gateway) renderTemplate(rc *requestContext, tpl *hls.Template, contentType string, resp *Response) {
	resp.Status = http.StatusOK
	if tpl.IsStatic() {
		resp.Body = tpl.Body()
	} else {
		var room [ticket.UsualSize]byte
		text := g.signer.AppendSigned(room[:0], rc.claims, rc.target.scope())
		var serverRoom [64]byte
		server := serverRoom[:0]
		if tpl.NamesServer() {
			server = rc.viewer.appendServer(server)
		}
		resp.Body = tpl.Append(resp.makeText(tpl.Size(text, server)), text, server)
	}
	resp.Set("Content-Type", contentType)
	resp.Set("Cache-Control", "no-store")
}

// rewrite parses a playlist or document once for all viewers of a channel.
func (g *Gateway) rewrite(rc *requestContext, o *origin.Object, s *source) *rewriting {
	locator := g.newLocator(rc)
	options := hls.Options{
		Origin:         o.Source.URL(),
		Path:           rc.path,
		TicketIn:       rc.target.route.config.TicketIn,
		UnderTicket:    rc.isTicketInPath,
		QueryParameter: g.options.Config.Tickets.Parameter,
		Query:          s.query,
		IsViewersQuery: s.isViewersQuery,
		Variables:      strings.Clone(rc.sealed.target.Variables),
		Locate:         locator.locate,
		Pathway:        locator.pathway,
	}
	parse := hls.Parse
	if !rc.isPlaylist {
		parse = hls.ParseDocument
	}
	tpl, err := parse(o.Body, options)
	if err == nil {
		playlist := cmp.Or(rc.sealed.target.Origin, rc.target.route.config.Origin) + " " + s.base + s.path + "?" + s.query
		locator.tellOrigins(playlist, tpl.Info(), o.Fetched)
	}
	return &rewriting{tpl, err}
}

// playlistContentType returns the origin's content type if players know it, else playlistType.
func playlistContentType(given string) string {
	if isPlaylistType(given) {
		return given
	}
	return playlistType
}

func isPlaylistType(contentType string) bool {
	return strings.Contains(strings.ToLower(contentType), "mpegurl")
}

// inspect returns how long a playlist is fresh, how long it may be served stale if the origin fails, and its hls.Info. Half a target
// duration is the most that RFC 8216 lets a cache add, and half a part if the origin publishes parts. An error means that the body is
// no playlist.
func inspect(body []byte) (origin.Inspection, error) {
	info, err := hls.Scan(body)
	if err != nil {
		return origin.Inspection{}, err
	}
	read := origin.Inspection{Fresh: info.TargetDuration / 2, Stale: 3 * info.TargetDuration, Info: info, IsWhole: info.Skipped == 0}
	switch {
	case info.IsMultivariant:
		read.Fresh, read.Stale = masterPlaylistFreshness, time.Minute
	case info.PartTarget > 0 && !info.HasEndList:
		read.Fresh = info.PartTarget / 2
	}
	return read, nil
}

// directives returns the query's delivery directives, sorted, so that identical reloads share a cache entry. Unknown
// directives and values that no player sends are dropped, because they would only miss the cache. So is _HLS_primary_id, which players add to
// an asset's playlist: each viewer has another, so that a break would cost the origin a request of each. An asset list is chosen by it.
func directives(query string) string {
	if !strings.Contains(query, "_HLS_") {
		return ""
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if knownDirective(pair) {
			kept = append(kept, pair)
		}
	}
	slices.Sort(kept)
	isSame := func(a, b string) bool { return parameterName(a) == parameterName(b) }
	return strings.Join(slices.CompactFunc(kept, isSame), "&")
}

// withoutDirectives returns the query without its delivery directives.
func withoutDirectives(query string) string {
	if !strings.Contains(query, "_HLS_") {
		return query
	}
	return filterQuery(query, func(name, value string) bool { return !knownDirective(name + "=" + value) })
}

// knownDirective reports whether a raw pair is a directive of RFC 8216bis or of OvenMediaEngine.
func knownDirective(pair string) bool {
	name, value, _ := strings.Cut(pair, "=")
	switch name {
	case "_HLS_msn", "_HLS_part":
		return value != "" && len(value) <= 10 && strings.Trim(value, "0123456789") == ""
	case "_HLS_skip":
		return value == "YES" || value == "v2"
	case "_HLS_legacy", "_HLS_rewind":
		return value == "YES" || value == "NO"
	default:
		return false
	}
}

// maxDocumentDirectives and maxDirectiveSize bound what a player may say to a document's server.
const maxDocumentDirectives, maxDirectiveSize = 8, 256

// documentDirectives returns what a player says to the server of a document: the pathway and throughput that it has, or
// where in an interstitial it begins.
func documentDirectives(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if isDirective(pair) && len(pair) <= maxDirectiveSize && len(kept) < maxDocumentDirectives {
			kept = append(kept, pair)
		}
	}
	slices.Sort(kept)
	return strings.Join(kept, "&")
}

// setCookies sets the ticket's cookie for everything that the channel's playlists may list, one for each mapping of the
// route, so that cookies of two channels never mix. Browsers keep a Secure cookie only from HTTPS, and send one to a player
// on another site only if it is SameSite=None and Partitioned.
func (g *Gateway) setCookies(rc *requestContext, resp *Response) {
	t := &rc.target
	c := http.Cookie{ //nolint:gosec // Secure wherever the viewer speaks TLS
		Name: g.options.Config.Tickets.CookieName, HttpOnly: true,
		Value:  g.signer.Sign(rc.claims, t.scope()),
		MaxAge: int(g.options.Config.Tickets.ReviveFor / time.Second),
	}
	if rc.viewer.scheme == "https" {
		c.Secure, c.SameSite, c.Partitioned = true, http.SameSiteNoneMode, true
	}
	for i := range t.route.mappings {
		// A mapping with variables that this path lacks is skipped: the viewer got its cookie where the path has them.
		viewer := t.route.mappings[i].viewer
		path, ok := t.folderPath(viewer)
		c.Path = urlpath.Escape(path)
		if strings.Contains(c.Path, ";") { // which no attribute can hold: without one, the path is the folder of the request
			c.Path, ok = "", ok && viewer == t.mapping.viewer
		}
		if ok {
			resp.Set("Set-Cookie", c.String())
		}
	}
}

// originFailed answers when the origin did not. It passes on the origin's 404 and 410; everything else is the origin's
// fault and becomes a 5xx. An origin that refuses us has not refused the viewer.
func (g *Gateway) originFailed(err error, rc *requestContext, resp *Response) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	g.reportOrigin(err, rc)
	var status *origin.StatusError
	switch {
	case errors.As(err, &status) && status.IsNotFound():
		resp.refuse(status.Status, "the origin does not have this file")
	case errors.Is(err, origin.ErrPath):
		resp.refuse(http.StatusNotFound, "the origin cannot be asked for this path")
	case errors.Is(err, origin.ErrInvalidPlaylist):
		resp.refuse(http.StatusBadGateway, invalidPlaylist)
	case backends.IsOverload(err), errors.Is(err, origin.ErrClosed):
		g.shed(err, resp, g.options.RetryAfter)
	case errors.Is(err, context.DeadlineExceeded):
		resp.refuse(http.StatusGatewayTimeout, "the origin did not answer in time")
	default:
		resp.refuse(http.StatusBadGateway, "the origin failed")
	}
	return nil
}
