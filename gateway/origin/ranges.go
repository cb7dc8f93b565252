package origin

import (
	"math"
	"net/http"
	"strconv"
	"strings"
)

// byteRange is a single requested range. The zero value is no range.
type byteRange struct {
	isSet bool
	// first is the first byte. -1 means a suffix range: last is then the number of bytes at the end.
	first int64
	// last is the last byte, or -1 for the end of the object.
	last int64
}

// parseRange parses a Range field. A field that it does not understand, and one with several ranges, is no range: the
// whole object is a correct response to it.
func parseRange(field string) byteRange {
	spec, ok := cutPrefixFold(field, "bytes=")
	if !ok {
		return byteRange{}
	}
	from, to, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return byteRange{}
	}
	first, okFirst := parseOffset(from)
	last, okLast := parseOffset(to)
	switch {
	case !okFirst || !okLast, first < 0 && last < 0, last >= 0 && first > last:
		return byteRange{}
	case first >= 0 && last == math.MaxInt64:
		last = -1 // beyond any object
	}
	return byteRange{isSet: true, first: first, last: last}
}

// parseOffset parses a byte position; an empty text is -1.
func parseOffset(s string) (int64, bool) {
	if s == "" {
		return -1, true
	}
	if s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// isWhole reports whether the range is the whole object. Some players always request bytes=0-.
func (b byteRange) isWhole() bool { return b.isSet && b.first == 0 && b.last < 0 }

// String returns the canonical Range field that is sent to the origin.
func (b byteRange) String() string {
	buf := append(make([]byte, 0, 48), "bytes="...)
	if b.first >= 0 {
		buf = strconv.AppendInt(buf, b.first, 10)
	}
	buf = append(buf, '-')
	if b.last >= 0 {
		buf = strconv.AppendInt(buf, b.last, 10)
	}
	return string(buf)
}

// resolve returns the bytes [lo, hi) of an object of the length; ok is false if there are none.
func (b byteRange) resolve(length int64) (lo, hi int64, ok bool) {
	switch {
	case b.first < 0:
		lo, hi = max(0, length-b.last), length
	case b.last < 0:
		lo, hi = b.first, length
	default:
		lo, hi = b.first, min(b.last, length-1)+1
	}
	return lo, hi, lo < hi
}

// contentRange is a Content-Range: bytes [lo, hi) of total; total is -1 if unknown.
type contentRange struct{ lo, hi, total int64 }

func parseContentRange(field string) (contentRange, bool) {
	spec, ok := cutPrefixFold(field, "bytes ")
	if !ok {
		return contentRange{}, false
	}
	span, size, ok := strings.Cut(spec, "/")
	from, to, okSpan := strings.Cut(span, "-")
	if !ok || !okSpan {
		return contentRange{}, false
	}
	if size == "*" {
		size = ""
	}
	lo, okLo := parseOffset(from)
	last, okLast := parseOffset(to)
	total, okTotal := parseOffset(size)
	c := contentRange{lo: lo, hi: last + 1, total: total}
	if !okLo || !okLast || !okTotal || last == math.MaxInt64 || !c.isValid() {
		return contentRange{}, false
	}
	return c, true
}

// isValid reports whether the range has at least one byte and lies within the total, if that is known.
func (c contentRange) isValid() bool {
	return c.lo >= 0 && c.hi > c.lo && (c.total < 0 || c.hi <= c.total)
}

// satisfies reports whether the range is the requested one. It may end earlier than requested.
func (c contentRange) satisfies(b byteRange) bool {
	switch {
	case b.first >= 0:
		return c.lo == b.first && (b.last < 0 || c.hi <= b.last+1)
	case c.total >= 0:
		return c.hi == c.total && c.lo == max(0, c.total-b.last)
	default:
		return c.hi-c.lo <= b.last
	}
}

func (c contentRange) String() string {
	buf := append(make([]byte, 0, 64), "bytes "...)
	buf = strconv.AppendInt(buf, c.lo, 10)
	buf = append(buf, '-')
	buf = strconv.AppendInt(buf, c.hi-1, 10)
	buf = append(buf, '/')
	if c.total < 0 {
		return string(append(buf, '*'))
	}
	return string(strconv.AppendInt(buf, c.total, 10))
}

// unsatisfied returns the Content-Range of a 416.
func unsatisfied(length int64) string { return "bytes */" + strconv.FormatInt(length, 10) }

// outcome is the response to one viewer: the bytes [lo, hi) of an object; hi is -1 for the end.
type outcome struct {
	status       int
	contentRange string
	lo, hi       int64
}

// evaluate evaluates a viewer's conditions and range against a whole object of the length (-1: not known yet).
func evaluate(r *Request, want byteRange, h *Header, length int64) outcome {
	if notModified(r, h) {
		return outcome{status: http.StatusNotModified}
	}
	if !want.isSet || length < 0 || r.Head || !sameVersion(r.IfRange, h) {
		return outcome{status: http.StatusOK, hi: length}
	}
	lo, hi, ok := want.resolve(length)
	if !ok {
		return outcome{status: http.StatusRequestedRangeNotSatisfiable, contentRange: unsatisfied(length)}
	}
	return outcome{http.StatusPartialContent, contentRange{lo, hi, length}.String(), lo, hi}
}

// evaluatePart evaluates a viewer's conditions against a partial response of the origin whose If-Range matches.
func evaluatePart(r *Request, h *Header, contentRange string, length int64) outcome {
	if notModified(r, h) {
		return outcome{status: http.StatusNotModified}
	}
	return outcome{status: http.StatusPartialContent, contentRange: contentRange, hi: length}
}

// notModified reports whether the viewer already has this version.
func notModified(r *Request, h *Header) bool {
	switch {
	case r.IfNoneMatch != "":
		return matchesAny(r.IfNoneMatch, h.ETag)
	case r.IfModifiedSince != "" && h.LastModified != "":
		if r.IfModifiedSince == h.LastModified {
			return true
		}
		since, errSince := http.ParseTime(r.IfModifiedSince)
		modified, errModified := http.ParseTime(h.LastModified)
		return errSince == nil && errModified == nil && !modified.After(since)
	default:
		return false
	}
}

// matchesAny reports whether the list holds the ETag by weak comparison, as If-None-Match requires.
func matchesAny(list, etag string) bool {
	if strings.TrimSpace(list) == "*" {
		return true
	}
	etag = strings.TrimPrefix(etag, "W/")
	for len(list) > 0 && etag != "" {
		list = strings.TrimPrefix(strings.TrimLeft(list, " \t,"), "W/")
		if !strings.HasPrefix(list, `"`) {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == etag {
			return true
		}
		list = list[end+2:]
	}
	return false
}

// sameVersion evaluates If-Range, which requires a strong match.
func sameVersion(ifRange string, h *Header) bool {
	switch {
	case ifRange == "":
		return true
	case strings.HasPrefix(ifRange, "W/"):
		return false
	case strings.HasPrefix(ifRange, `"`):
		return ifRange == h.ETag
	default:
		return ifRange == h.LastModified
	}
}
