package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/reference"
)

// serveMedia answers with a segment, part, key or init section.
func (g *Gateway) serveMedia(ctx context.Context, rc *requestContext, resp *Response) error {
	from, ok := g.source(rc)
	if !ok {
		resp.refuse(http.StatusNotFound, "the origin of this reference is configured no more")
		return nil
	}
	h := rc.request.Header
	s, err := from.origin.Media(ctx, origin.Request{
		Version:         from.version,
		FreshFor:        rc.mediaFreshness(),
		IsComplete:      rc.isOfComplete(),
		Base:            from.base,
		Path:            from.path,
		Channel:         rc.target.channel,
		Query:           from.query,
		IsListed:        from.isListed,
		Head:            rc.request.Method == http.MethodHead,
		Range:           h.Get("Range"),
		IfRange:         h.Get("If-Range"),
		IfNoneMatch:     h.Get("If-None-Match"),
		IfModifiedSince: h.Get("If-Modified-Since"),
	})
	if errors.Is(err, origin.ErrPlaylist) {
		return g.serveUnnamedPlaylist(ctx, rc, resp)
	}
	if err != nil {
		return g.originFailed(err, rc, resp)
	}
	resp.Status = s.Status
	resp.Set("Content-Type", mediaContentType(s.ContentType, from.path))
	resp.Set("Last-Modified", s.LastModified)
	resp.Set("Etag", s.ETag)
	resp.Set("Cache-Control", rc.cacheControl(s.Header))
	resp.Set("Content-Range", s.ContentRange)
	// Not by rc.now: where this request fetched the object, that is before the origin's response, and a second would be missing.
	if age := time.Since(s.Fetched) / time.Second; age > 0 {
		resp.Set("Age", strconv.FormatInt(int64(age), 10))
	}
	resp.setBody(s)
	if s.ContentLength >= 0 && s.Status != http.StatusNotModified {
		resp.Set("Accept-Ranges", "bytes")
		if s.ContentLength != int64(len(resp.Body)) { // of a body that is not at hand: for HEAD, or while it arrives
			resp.Set("Content-Length", strconv.FormatInt(s.ContentLength, 10))
		}
	}
	return nil
}

// cacheControl returns the Cache-Control of media. Only what is not protected may be shared by a cache in front.
func (rc *requestContext) cacheControl(h *origin.Header) string {
	if rc.target.route.config.TicketIn == hls.TicketInNone {
		return h.CacheControl
	}
	return h.PrivateCacheControl
}

// reportOrigin records that the origin failed the viewer, and why. Credentials in the viewer's path may be in the origin's.
func (g *Gateway) reportOrigin(err error, rc *requestContext) {
	t := &rc.target
	s, ok := g.source(rc)
	if !ok {
		return
	}
	s.origin.Report(origin.FailedRequest{
		Err: err, Channel: t.channel, IsPlaylist: rc.isPlaylist, Base: s.base, Path: s.path, IsListed: s.isListed,
		Hide: t.hideCredentials,
	})
}

// hideCredentials hides what the path of the viewer shows of their credentials.
func (t *target) hideCredentials(text string) string {
	for i, name := range t.mapping.viewer.names {
		if value := t.match.values[i]; name != channelVariable && name != restVariable && value != "" {
			text = strings.ReplaceAll(text, value, setting.Hidden)
		}
	}
	return text
}

// StreamBroken records that a response's stream ended early, which is the origin's fault.
func (g *Gateway) StreamBroken(err error, resp *Response) {
	g.reportOrigin(err, &resp.scratch)
}

// serveUnnamedPlaylist answers with a playlist whose URI did not say that it is one. Where media are not protected, nobody has
// checked the viewer yet.
func (g *Gateway) serveUnnamedPlaylist(ctx context.Context, rc *requestContext, resp *Response) error {
	if rc.target.route.config.TicketIn == hls.TicketInNone && !rc.sealed.wasMedia {
		if err := g.admit(ctx, rc, resp); err != nil || resp.Status != 0 {
			return err
		}
		if rc.session != nil {
			resp.begin(rc.session)
		}
	}
	rc.isPlaylist = true
	return g.servePlaylist(ctx, rc, resp)
}

const (
	// unknownTargetDuration is how long media are fresh if the target duration is unknown. Few are shorter.
	unknownTargetDuration = 2 * time.Second
	// completeFreshness is how long a complete playlist keeps its media fresh: longer than any cache.media_ttl.
	completeFreshness = 24 * time.Hour
)

// mediaFreshness returns how long media are fresh if the origin does not state it and no playlist is known to list them: one
// target duration, because the origin may use their names again. Names of a complete playlist are not used again.
func (rc *requestContext) mediaFreshness() time.Duration {
	if rc.session == nil {
		return unknownTargetDuration
	}
	target, isComplete := rc.session.TargetDuration()
	if isComplete && rc.role() != hls.Key {
		return completeFreshness
	}
	return cmp.Or(target, unknownTargetDuration)
}

// isOfComplete reports whether the session's last playlist will not change any more.
func (rc *requestContext) isOfComplete() bool {
	if rc.session == nil {
		return false
	}
	_, isComplete := rc.session.TargetDuration()
	return isComplete
}

// note remembers media and keys of which the playlist tells the version.
func (l *locator) note(listed *hls.Listed, t *reference.Target) {
	if listed.Version == 0 || listed.Role != hls.Media && listed.Role != hls.Key {
		return
	}
	if l.media == nil {
		l.media = make(map[string][]origin.ListedMedia)
	}
	name := cmp.Or(t.Origin, l.target.route.config.Origin)
	l.media[name] = append(l.media[name], origin.ListedMedia{
		Base: t.Base, Path: t.Path, Query: t.Query, RequestVersion: t.Version,
		Version: listed.Version, IsKey: listed.Role == hls.Key, MayGrow: listed.MayGrow,
	})
}

// tellOrigins tells the origins what a version of a playlist lists. A live playlist is fetched anew within two target
// durations, unless nobody watches.
func (l *locator) tellOrigins(playlist string, info hls.Info, fetched time.Time) {
	target := cmp.Or(info.TargetDuration, unknownTargetDuration)
	fresh := 2 * target
	window := max(fresh, target*time.Duration(info.Segments+info.Skipped))
	if info.HasEndList {
		fresh, window = completeFreshness, completeFreshness
	}
	for name, media := range l.media {
		l.gateway.options.Origins[name].Listed(&origin.Listing{
			Playlist: playlist, Fetched: fetched, TargetDuration: target, FreshFor: fresh, Window: window, Media: media,
			IsComplete: info.HasEndList,
		})
	}
}

// setBody sets Body if the whole stream is in memory, else Stream.
func (resp *Response) setBody(s origin.Stream) {
	if body, whole := s.Bytes(); whole {
		resp.Body = body
		_ = s.Close()
		return
	}
	resp.stream = s
	resp.Stream = &resp.stream
}

// whyNoSession says why a request without ticket opens no session. If the name does not tell what the path is, it may be a
// playlist's of which the route does not know.
func (rc *requestContext) whyNoSession() string {
	const why = "no ticket; open the playlist first"
	isMedia := rc.role() == hls.Key || mediaContentType("", rc.target.path) != unknownType
	if rc.sealed.text != "" || !rc.target.opensSession || isMedia {
		return why
	}
	return why + "; if this is one, although its name does not end in .m3u8, set playlist: true in its route"
}

// unknownType is the content type of what is not known.
const unknownType = "application/octet-stream"

// mediaContentType returns the origin's content type, or one by the path's ending, so that net/http does not sniff.
func mediaContentType(given, path string) string {
	if given != "" {
		return given
	}
	switch {
	case hasSuffixFold(path, ".ts"):
		return "video/mp2t"
	case hasSuffixFold(path, ".mp4"), hasSuffixFold(path, ".m4s"), hasSuffixFold(path, ".cmfv"):
		return "video/mp4"
	case hasSuffixFold(path, ".m4a"), hasSuffixFold(path, ".cmfa"):
		return "audio/mp4"
	case hasSuffixFold(path, ".aac"):
		return "audio/aac"
	case hasSuffixFold(path, ".vtt"):
		return "text/vtt"
	default:
		return unknownType
	}
}
