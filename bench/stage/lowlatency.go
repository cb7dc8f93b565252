package stage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// directives are the delivery directives of a playlist request (rfc8216bis §6.2.5).
type directives struct {
	// blocking requests that the response waits until the playlist has the segment, or its part if part is not negative.
	blocking bool
	segment  int64
	part     int64
	// skip requests a delta update.
	skip bool
}

// parseDirectives parses the _HLS_ parameters of a query. An error means a bad request.
func parseDirectives(query url.Values) (directives, error) {
	d := directives{part: -1}
	d.skip = query.Get("_HLS_skip") == "YES" || query.Get("_HLS_skip") == "v2"
	var err error
	if msn := query.Get("_HLS_msn"); msn != "" {
		d.blocking = true
		if d.segment, err = parseNumber(msn); err != nil {
			return directives{}, fmt.Errorf("read _HLS_msn: %w", err)
		}
	}
	if part := query.Get("_HLS_part"); part != "" {
		if !d.blocking {
			return directives{}, errors.New("_HLS_part without _HLS_msn")
		}
		if d.part, err = parseNumber(part); err != nil {
			return directives{}, fmt.Errorf("read _HLS_part: %w", err)
		}
	}
	return d, nil
}

// parseNumber parses an unsigned decimal number of at most 48 bits.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 48)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return int64(n), nil
}

// maxPartsAhead is how many parts ahead of the playlist a request may name: three seconds.
const maxPartsAhead = int64(3 * time.Second / PartDuration)

var errTooFarAhead = errors.New("too far ahead of the playlist")

// blockedUntil returns when the response to a blocking request can be sent, which may be in the past. errTooFarAhead
// means that the request is rejected at once.
func (t timeline) blockedUntil(d directives, now time.Time) (time.Time, error) {
	if !d.blocking {
		return now, nil
	}
	if d.segment > t.nextSegment(now)-1+2 {
		return time.Time{}, errTooFarAhead
	}
	if d.part < 0 {
		return t.start(d.segment + 1), nil
	}
	// A part past a segment's last is the first of the next segment (rfc8216bis §6.2.5.2).
	part := d.segment*t.parts() + min(d.part, t.parts())
	if part > t.nextPart(now)-1+maxPartsAhead {
		return time.Time{}, errTooFarAhead
	}
	return partEnd(part), nil
}

// serveLowLatencyPlaylist responds once the playlist satisfies the directives.
func (o *Origin) serveLowLatencyPlaylist(w http.ResponseWriter, r *http.Request, base string) {
	d, err := parseDirectives(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	until, err := o.timeline.blockedUntil(d, o.now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := o.wait(r.Context(), until); err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if d.blocking {
		// Every response to this request satisfies the same directives (rfc8216bis §6.2.5.2).
		w.Header().Set("Cache-Control", "max-age="+strconv.FormatInt(6*o.timeline.seconds(), 10))
	}
	o.writePlaylist(w, r, o.timeline.lowLatencyPlaylist(base, o.now(), d.skip))
}

// servePart serves a complete part as a file, and the next part as it becomes available.
func (o *Origin) servePart(w http.ResponseWriter, r *http.Request, segment, index int64) {
	now := o.now()
	part := segment*o.timeline.parts() + index
	if index >= o.timeline.parts() || segment < o.timeline.oldestServed(now) || part > o.timeline.nextPart(now) {
		writeNotFound(w)
		return
	}
	entry := o.cache.get(lowLatency, segment, o.timeline.oldestServed(now))
	body := entry.part(index)
	if part < o.timeline.nextPart(now) {
		o.serveMedia(w, r, "video/mp4", body)
		return
	}
	setMediaHeaders(w, "video/mp4")
	if r.Method == http.MethodHead {
		return
	}
	half := len(body) / 2
	_, _ = w.Write(body[:half])
	_ = http.NewResponseController(w).Flush()
	if o.wait(r.Context(), partEnd(part)) != nil {
		// The status is sent; only a broken connection can tell the client that the part is incomplete.
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body[half:])
}

// wait returns when the origin's clock has reached until. It returns an error after three target durations, as the draft
// recommends, or when ctx ends.
func (o *Origin) wait(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 3*o.timeline.segmentDuration)
	defer cancel()
	for {
		left := until.Sub(o.now())
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for the live edge: %w", ctx.Err())
		}
	}
}
