package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
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

// templateKey identifies one rewriting of a playlist.
type templateKey struct {
	route *route
	// path is empty if every URI is written path-absolute, so that viewers with credentials in their path share one
	// rewriting.
	path           string
	isTicketInPath bool
	// kind and folder are what the playlist's own ticket opens.
	kind   ticket.Kind
	folder string
}

func (rc *requestContext) templateKey() templateKey {
	t := &rc.target
	k := templateKey{route: t.route, isTicketInPath: rc.isTicketInPath, kind: t.kind, folder: t.folder}
	if rc.isTicketInPath || !k.route.acceptsTicketInPath() {
		k.path = t.path
	}
	return k
}

// rewriting is a playlist parsed for viewers, or the reason why that failed.
type rewriting struct {
	*hls.Template
	err error
}

// servePlaylist answers with the viewer's version of the playlist.
func (g *Gateway) servePlaylist(ctx context.Context, rc *requestContext, resp *Response) error {
	t := &rc.target
	path := t.originPath()
	p, err := t.route.origin.Playlist(ctx, origin.Request{
		Path:       path,
		Channel:    t.channel,
		Query:      g.originQuery(rc, path),
		Directives: directives(rc.request.Query),
		IsListed:   t.kind == ticket.PathAlone,
		Freshness:  freshness,
	})
	if err != nil {
		return g.originFailed(err, rc, resp)
	}
	made, _ := p.Derive(rc.templateKey(), func() any { return g.rewrite(rc, p.Object) }).(*rewriting)
	if made.err != nil {
		g.reportOrigin(fmt.Errorf("%w: %w", origin.ErrInvalidPlaylist, made.err), rc)
		resp.refuse(http.StatusBadGateway, "the origin sent no valid playlist")
		return nil
	}
	if info := made.Info(); rc.session != nil && !info.IsMultivariant && info.TargetDuration > 0 {
		rc.session.SetTargetDuration(info.TargetDuration, info.HasEndList)
	}
	g.renderPlaylist(rc, made.Template, p.Object, resp)
	return nil
}

// renderPlaylist writes the viewer's version into the response.
func (g *Gateway) renderPlaylist(rc *requestContext, tpl *hls.Template, o *origin.Object, resp *Response) {
	ticketIn := rc.target.route.config.TicketIn
	resp.Status = http.StatusOK
	if tpl.IsStatic() {
		resp.Body = tpl.Body()
	} else {
		var room [4]string
		tickets := g.appendTickets(room[:0], rc, tpl.Scopes())
		resp.Body = tpl.Append(make([]byte, 0, tpl.Size(tickets...)), tickets...)
	}
	resp.Set("Content-Type", playlistContentType(o.ContentType))
	resp.Set("Content-Length", strconv.Itoa(len(resp.Body)))
	resp.Set("Cache-Control", "no-store")
	if ticketIn == hls.TicketInCookie {
		g.setCookies(rc, tpl.Scopes(), resp)
	}
}

// appendTickets appends the session's ticket for the target, and one for each of the scopes.
func (g *Gateway) appendTickets(tickets []string, rc *requestContext, scopes []string) []string {
	tickets = append(tickets, g.signer.Sign(rc.claims, rc.target.scope()))
	for _, text := range scopes {
		tickets = append(tickets, g.signer.Sign(rc.claims, rc.target.listedScope(text)))
	}
	return tickets
}

// rewrite parses a playlist once for all viewers of a route.
func (g *Gateway) rewrite(rc *requestContext, o *origin.Object) *rewriting {
	t := &rc.target
	tpl, err := hls.Parse(o.Body, hls.Options{
		Origin:         o.Source.URL(),
		Path:           t.path,
		TicketIn:       t.route.config.TicketIn,
		UnderTicket:    rc.isTicketInPath,
		QueryParameter: g.options.Config.Tickets.Parameter,
		Locate:         func(ref string) (string, bool) { return g.locate(t.route, ref) },
		SameOrigin:     func(scheme, host string) bool { return t.route.isSameOrigin(scheme, host, t.channel) },
		TicketScope:    t.listedBy(),
	})
	if err != nil {
		return &rewriting{err: err}
	}
	g.listed.record(t.route, t.channel, tpl)
	return &rewriting{Template: tpl}
}

// locate calls the route's locate. The first time that no mapping matches it warns the operator: players will be refused
// what the playlist names, although nothing in it looks wrong.
func (g *Gateway) locate(r *route, ref string) (string, bool) {
	path, found := r.locate(ref)
	if !found && !r.hasWarnedUnmapped.Swap(true) {
		unmapped, _, _ := strings.Cut(ref, "?")
		g.options.Logger.Warn("playlist names a path that its route does not serve, add a pattern for it to the route's media",
			slog.String("route", r.name), slog.String("path", unmapped))
	}
	return path, found
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

// freshness returns how long a playlist is fresh, and how long it may be served stale if the origin fails. Half a target
// duration is the most that RFC 8216 lets a cache add, and half a part if the origin publishes parts.
func freshness(body []byte) (fresh, stale time.Duration) {
	info, err := hls.Scan(body)
	switch {
	case err != nil:
		return 0, 0
	case info.IsMultivariant:
		return masterPlaylistFreshness, time.Minute
	case info.PartTarget > 0 && !info.HasEndList:
		return info.PartTarget / 2, 3 * info.TargetDuration
	default:
		return info.TargetDuration / 2, 3 * info.TargetDuration
	}
}

// directives returns the query's delivery directives, sorted, so that identical reloads share a cache entry. Unknown
// directives and values that no player sends are dropped, because they would only miss the cache.
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
	return strings.Join(slices.Compact(kept), "&")
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

// setCookies sets the ticket's cookie for everything that the channel's playlists may list, one for each mapping of the
// route, and one for each folder outside the entry's that this playlist lists, so that cookies of two channels never mix. Browsers keep a Secure cookie only from HTTPS, and send one to a
// player on another site only if it is SameSite=None and Partitioned.
func (g *Gateway) setCookies(rc *requestContext, scopes []string, resp *Response) {
	t := &rc.target
	c := http.Cookie{
		Name: g.options.Config.Tickets.CookieName, HttpOnly: true,
		Value:  g.signer.Sign(rc.claims, t.scope()),
		MaxAge: int(g.options.Config.Tickets.ReviveFor / time.Second),
	}
	if rc.viewer.scheme == "https" {
		c.Secure, c.SameSite, c.Partitioned = true, http.SameSiteNoneMode, true
	}
	for i := range t.route.mappings {
		if t.kind == ticket.PathAlone {
			break // the playlist that lists this one set its cookie
		}
		// A mapping with variables that this path lacks is skipped: the viewer got its cookie where the path has them.
		if path, ok := t.folderPath(t.route.mappings[i].viewer); ok {
			c.Path = urlpath.Escape(path)
			resp.Set("Set-Cookie", c.String())
		}
	}
	for _, text := range scopes {
		c.Path, c.Value = urlpath.Escape(text[1:]), g.signer.Sign(rc.claims, t.listedScope(text))
		if !strings.Contains(c.Path, ";") { // which ends an attribute
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
		resp.refuse(http.StatusNotFound, "the origin does not have this path")
	case backends.IsOverload(err), errors.Is(err, origin.ErrClosed):
		resp.retryLater(g.options.RetryAfter, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		resp.refuse(http.StatusGatewayTimeout, "the origin did not answer in time")
	default:
		resp.refuse(http.StatusBadGateway, "the origin failed")
	}
	return nil
}
