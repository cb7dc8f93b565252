package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
	"usher/gateway/origin"
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
	if err != nil {
		return g.originFailed(err, rc, resp)
	}
	if rc.session == nil && !rc.isRefused && isPlaylistType(s.ContentType) {
		_ = s.Close()
		resp.refuse(http.StatusForbidden, "this is a playlist; only names that end in .m3u8 are served as one")
		return nil
	}
	resp.Status = s.Status
	resp.Set("Content-Type", mediaContentType(s.ContentType, from.path))
	resp.Set("Last-Modified", s.LastModified)
	resp.Set("Etag", s.ETag)
	resp.Set("Cache-Control", s.CacheControl)
	resp.Set("Content-Range", s.ContentRange)
	if age := rc.now.Sub(s.Fetched) / time.Second; age > 0 {
		resp.Set("Age", strconv.FormatInt(int64(age), 10))
	}
	if s.ContentLength >= 0 && s.Status != http.StatusNotModified {
		resp.Set("Content-Length", strconv.FormatInt(s.ContentLength, 10))
		resp.Set("Accept-Ranges", "bytes")
	}
	resp.setBody(s)
	return nil
}

// reportOrigin records that the origin failed the viewer, and why. Credentials in the viewer's path may be in the origin's.
func (g *Gateway) reportOrigin(err error, rc *requestContext) {
	t := &rc.target
	t.route.origin.Report(origin.FailedRequest{
		Err: err, Channel: t.channel, IsPlaylist: rc.isPlaylist, Path: t.originPath(),
		Hide: func(text string) string {
			for i, name := range t.mapping.viewer.names {
				if value := t.match.values[i]; name != channelVariable && name != restVariable && value != "" {
					text = strings.ReplaceAll(text, value, setting.Hidden)
				}
			}
			return text
		},
	})
}

// streamBroken records that a body ended early, unless the viewer left.
func (g *Gateway) streamBroken(err error, resp *Response) {
	g.reportOrigin(err, &resp.scratch)
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
		return "application/octet-stream"
	}
}
