package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"usher/gateway/origin"
)

// serveMedia answers with a segment, part, key or init section.
func (g *Gateway) serveMedia(ctx context.Context, v *visit, a *Answer) error {
	t := &v.target
	path := t.originPath()
	h := v.view.Header
	s, err := t.route.origin.Media(ctx, origin.Request{
		Path:            path,
		Query:           g.originQuery(v, path),
		Head:            v.view.Method == http.MethodHead,
		Range:           h.Get("Range"),
		IfRange:         h.Get("If-Range"),
		IfNoneMatch:     h.Get("If-None-Match"),
		IfModifiedSince: h.Get("If-Modified-Since"),
	})
	if err != nil {
		return g.originFailed(err, v, a)
	}
	if v.session == nil && isPlaylistType(s.ContentType) {
		_ = s.Close()
		a.refuse(http.StatusForbidden, "a playlist by another name; only those that end in .m3u8 are served")
		return nil
	}
	a.Status = s.Status
	a.set("Content-Type", mediaContentType(s.ContentType, path))
	a.set("Last-Modified", s.LastModified)
	a.set("Etag", s.ETag)
	a.set("Cache-Control", s.CacheControl)
	a.set("Content-Range", s.ContentRange)
	if age := v.now.Sub(s.Fetched) / time.Second; age > 0 {
		a.set("Age", strconv.FormatInt(int64(age), 10))
	}
	if s.ContentLength >= 0 && s.Status != http.StatusNotModified {
		a.set("Content-Length", strconv.FormatInt(s.ContentLength, 10))
		a.set("Accept-Ranges", "bytes")
	}
	a.send(s)
	return nil
}

// send takes the body from the stream if it is all in memory, and else leaves that to who sends the answer.
func (a *Answer) send(s origin.Stream) {
	if body, whole := s.Bytes(); whole {
		a.Body = body
		_ = s.Close()
		return
	}
	a.stream = s
	a.Stream = &a.stream
}

// mediaContentType is the origin's, or what the name says: a server must not have to guess by the bytes.
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
