package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

// playlistType is what a playlist is sent as if the origin says nothing that players know.
const playlistType = "application/vnd.apple.mpegurl"

// masterPlaylistFreshness is how long a multivariant playlist is fresh: it hardly ever changes, but when an operator adds a
// variant he wants to see it.
const masterPlaylistFreshness = 5 * time.Second

// templateKey tells the rewritings of one playlist apart. path is empty where every URI is written path-absolute, so
// that viewers with credentials in their path share one rewriting.
type templateKey struct {
	route          *route
	path           string
	isTicketInPath bool
}

func (rc *requestContext) templateKey() templateKey {
	k := templateKey{route: rc.target.route, isTicketInPath: rc.isTicketInPath}
	if rc.isTicketInPath || !k.route.acceptsTicketInPath() {
		k.path = rc.target.path
	}
	return k
}

// rewriting is a playlist made ready for viewers, or why that failed.
type rewriting struct {
	*hls.Template
	err error
}

// servePlaylist answers with the viewer's copy of the playlist.
func (g *Gateway) servePlaylist(ctx context.Context, rc *requestContext, resp *Response) error {
	t := &rc.target
	path := t.originPath()
	p, err := t.route.origin.Playlist(ctx, origin.Request{
		Path:       path,
		Query:      g.originQuery(rc, path),
		Directives: directives(rc.request.Query),
		Freshness:  freshness,
	})
	if err != nil {
		return g.originFailed(err, rc, resp)
	}
	made, _ := p.Derive(rc.templateKey(), func() any { return g.rewrite(rc, p.Object, path) }).(*rewriting)
	if made.err != nil {
		g.options.Logger.Warn("origin sent what is no playlist", slog.String("route", t.route.name),
			slog.String("channel", t.channel), slog.Any("error", made.err))
		resp.refuse(http.StatusBadGateway, "the origin sent what is no playlist")
		return nil
	}
	g.renderPlaylist(rc, made.Template, p.Object, resp)
	return nil
}

// renderPlaylist writes the viewer's copy into the answer.
func (g *Gateway) renderPlaylist(rc *requestContext, tpl *hls.Template, o *origin.Object, resp *Response) {
	carry := rc.target.route.config.TicketIn
	resp.Status = http.StatusOK
	if tpl.IsStatic() {
		resp.Body = tpl.Body()
	} else {
		ticket := g.signer.sign(rc.claims, ticketScope{rc.target.route.name, rc.target.channel})
		resp.Body = tpl.Append(make([]byte, 0, tpl.Size(len(ticket))), ticket)
	}
	resp.set("Content-Type", playlistContentType(o.ContentType))
	resp.set("Content-Length", strconv.Itoa(len(resp.Body)))
	resp.set("Cache-Control", "no-store")
	if carry == hls.TicketInCookie {
		g.setCookies(rc, resp)
	}
}

// rewrite scans a playlist once for all viewers of a route.
func (g *Gateway) rewrite(rc *requestContext, o *origin.Object, originPath string) *rewriting {
	t := &rc.target
	base := o.FinalURL
	if base == "" {
		base = t.route.originHosts[0] + t.route.originPrefix + originPath
	}
	tpl, err := hls.Parse(o.Body, hls.Options{
		Origin:         base,
		Path:           t.path,
		TicketIn:       t.route.config.TicketIn,
		UnderTicket:    rc.isTicketInPath,
		QueryParameter: g.options.Config.Tickets.QueryParameter,
		Locate:         func(ref string) (string, bool) { return g.locate(t.route, ref) },
		SameOrigin:     t.route.isSameOrigin,
	})
	if err != nil {
		return &rewriting{err: err}
	}
	g.listed.record(t.route, t.channel, tpl)
	return &rewriting{Template: tpl}
}

// locate is the route's, and tells the operator once of what his players will be refused: nothing in a playlist looks
// wrong when it names media that no place of its route serves.
func (g *Gateway) locate(r *route, ref string) (string, bool) {
	path, found := r.locate(ref)
	if !found && !r.hasWarnedUnmapped.Swap(true) {
		named, _, _ := strings.Cut(ref, "?")
		g.options.Logger.Warn("a playlist names what no place of its route serves, so players will be refused it; "+
			"add a pattern for it to the route's media", slog.String("route", r.name), slog.String("path", named))
	}
	return path, found
}

// playlistContentType is the origin's, if players know it.
func playlistContentType(given string) string {
	if isPlaylistType(given) {
		return given
	}
	return playlistType
}

func isPlaylistType(contentType string) bool {
	return strings.Contains(strings.ToLower(contentType), "mpegurl")
}

// freshness is how long a playlist is fresh, and how long it may be served when the origin fails. Half a target duration
// is the most that RFC 8216 lets a cache add; half a part where the origin publishes parts.
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

// directives are the query's delivery directives, sorted, so that identical reloads read the same. Others of the name
// that begins so, or values that no player sends, would only miss the cache.
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

// knownDirective reports whether a raw pair is a directive of RFC 8216bis, or of OvenMediaEngine's.
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

// setCookies carries the ticket to everything that the channel's playlists may list, one cookie for each place of the
// route: cookies of two channels must not meet. Browsers keep a Secure cookie only from HTTPS, and send one to a player
// on another site only if it is SameSite=None and Partitioned.
func (g *Gateway) setCookies(rc *requestContext, resp *Response) {
	t := &rc.target
	c := http.Cookie{
		Name: g.options.Config.Tickets.CookieName, HttpOnly: true,
		Value:  g.signer.sign(rc.claims, ticketScope{t.route.name, t.channel}),
		MaxAge: int(g.options.Config.Tickets.ReviveMaxAge / time.Second),
	}
	if rc.viewer.scheme == "https" {
		c.Secure, c.SameSite, c.Partitioned = true, http.SameSiteNoneMode, true
	}
	for i := range t.route.mappings {
		// A place that needs more than the path tells is one that the viewer came from.
		if path, ok := t.route.mappings[i].viewer.folder(t.mapping.viewer, t.match); ok {
			c.Path = path
			resp.set("Set-Cookie", c.String())
		}
	}
}

// originFailed answers when the origin did not: what it says of a missing thing is passed on, everything else is its
// trouble and not the viewer's. The origin refusing us is no refusal of the viewer.
func (g *Gateway) originFailed(err error, rc *requestContext, resp *Response) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var status *origin.StatusError
	switch {
	case errors.As(err, &status) && status.Missing():
		resp.refuse(status.Status, "the origin has no such thing")
	case errors.Is(err, origin.ErrPath):
		resp.refuse(http.StatusNotFound, "no such path on the origin")
	case backends.IsOverload(err), errors.Is(err, origin.ErrClosed):
		resp.retryLater(g.options.RetryAfter, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		resp.refuse(http.StatusGatewayTimeout, "the origin did not answer in time")
	default:
		g.options.Logger.Debug("origin failed", slog.String("route", rc.target.route.name),
			slog.String("channel", rc.target.channel), slog.Any("error", err))
		resp.refuse(http.StatusBadGateway, "the origin failed")
	}
	return nil
}
