package origin

import (
	"math"
	"net/http"
	"strconv"
	"strings"
)

// byteRange is a single range as a viewer asks for it. The zero value is no range.
type byteRange struct {
	set bool
	// first is the first byte, or -1: the last `last` bytes. last is the last byte, or -1: to the end.
	first, last int64
}

// parseRange reads a Range field. What it does not understand, several ranges above all, is no range: the whole is a
// correct answer to that.
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
		last = -1 // as far as anyone can count
	}
	return byteRange{set: true, first: first, last: last}
}

// parseOffset reads a byte position; -1 stands for none.
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

// everything reports whether the range is the whole object, which some players ask for by habit.
func (b byteRange) everything() bool { return b.set && b.first == 0 && b.last < 0 }

// String is the range as it is asked of the origin, the same for all spellings.
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

// resolve says which bytes [lo, hi) of an object of that length are meant; ok is false if there are none.
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

// contentRange is what a Content-Range says: bytes [lo, hi) of total, or of -1 for unknown.
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
	if !okLo || !okLast || !okTotal || lo < 0 || last < lo || last == math.MaxInt64 || (total >= 0 && last >= total) {
		return contentRange{}, false
	}
	return contentRange{lo: lo, hi: last + 1, total: total}, true
}

// answers reports whether an origin's part is what was asked for. It may end earlier than asked.
func (c contentRange) answers(b byteRange) bool {
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

// unsatisfied is the Content-Range of a 416.
func unsatisfied(length int64) string { return "bytes */" + strconv.FormatInt(length, 10) }

// outcome is how an object is answered to one viewer: bytes [lo, hi) of it, hi -1 to the end.
type outcome struct {
	status       int
	contentRange string
	lo, hi       int64
}

// decide evaluates a viewer's conditions and range against a whole object of that length (-1: not known yet).
func decide(r *Request, want byteRange, h *Header, length int64) outcome {
	if notModified(r, h) {
		return outcome{status: http.StatusNotModified}
	}
	if !want.set || length < 0 || r.Head || !sameVersion(r.IfRange, h) {
		return outcome{status: http.StatusOK, hi: length}
	}
	lo, hi, ok := want.resolve(length)
	if !ok {
		return outcome{status: http.StatusRequestedRangeNotSatisfiable, contentRange: unsatisfied(length)}
	}
	return outcome{http.StatusPartialContent, contentRange{lo, hi, length}.String(), lo, hi}
}

// decidePart evaluates a viewer's conditions against a part that the origin gave. Its If-Range holds.
func decidePart(r *Request, h *Header, contentRange string, length int64) outcome {
	if notModified(r, h) {
		return outcome{status: http.StatusNotModified}
	}
	return outcome{status: http.StatusPartialContent, contentRange: contentRange, hi: length}
}

// notModified reports whether the viewer has this version already.
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

// matchesAny compares weakly, as If-None-Match wants it.
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

// sameVersion evaluates If-Range, which wants a strong match.
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
