package gateway

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

// BoundsReached returns how often each bound of what the gateway remembers was reached, by its name.
func (g *Gateway) BoundsReached() map[string]uint64 {
	reached := map[string]uint64{
		"edge_fingerprints": g.fingerprints.Evicted(), "playback_ids": g.hasher.playbackIDs.evicted.Count(),
		"variants": g.variants.Evicted(), "unenforced_refusals": g.unenforced.Evicted(), "route_warnings": 0,
	}
	for _, r := range g.routes {
		reached["route_warnings"] += r.evicted.Count()
	}
	return reached
}

// minViewerRate is the rate in bytes per second below which a viewer counts as stalled. No stream plays at it.
const minViewerRate = 8 << 10

// TimeToWrite returns how long a viewer may take to receive n bytes of a response.
func (g *Gateway) TimeToWrite(n int) time.Duration {
	return g.options.Config.Limits.WriteTimeout + time.Duration(n/minViewerRate)*time.Second
}

// What a reload may ask an origin to wait for.
const (
	// maxSegmentsAhead is how many segments behind the next one a reload may be for: two behind the last one. Origins refuse what is
	// further ahead (RFC 8216bis, 6.2.5.2).
	maxSegmentsAhead = 1
	// maxPartsAhead is for how many parts of a segment a reload may be besides those of a target duration. A player that is not in a
	// hurry asks for the last one.
	maxPartsAhead = 3
	// maxHeld is how many different reloads of one playlist, and of one viewer, an origin may hold for another one to be sent. If that is
	// for what comes next, it is twice as many: players find room, whatever a viewer asks for besides.
	maxHeld = 8
)

// boundReload leaves in the directives of a reload what the origin is to be asked for: each version that it shall wait for is a request
// of its own, and a viewer could name any. OvenMediaEngine's directives choose among playlists, so that they belong to the query, and so
// does what a playlist lists. The origin is not asked to wait where nothing is known of the playlist, or a viewer chose it by directives
// that no playlist listed.
func boundReload(rc *requestContext, o *origin.Origin, r *origin.Request) {
	listed := strings.Split(rc.sealed.target.Query, "&")
	choosing := filterQuery(r.Directives, func(name, value string) bool {
		return name == "_HLS_legacy" || name == "_HLS_rewind" || slices.Contains(listed, name+"="+value)
	})
	directives := withoutPairs(r.Directives, choosing)
	r.Query = joinQuery(r.Query, choosing)
	var info hls.Info
	if withoutPairs(choosing, rc.sealed.target.Query) == "" {
		info, _ = o.LastInfo(r).(hls.Info)
	}
	var ahead int
	r.Directives, ahead = awaitedVersion(&info, directives)
	if skip := parameter(directives, "_HLS_skip"); skip != "" && info.CanSkipUntil > 0 {
		r.Directives = joinQuery(r.Directives, "_HLS_skip="+skip)
	}
	r.IsLate = ahead < 0
	r.MaxHeld = maxHeld
	if ahead <= 0 {
		r.MaxHeld *= 2
	}
	r.MaxHeldForViewer, r.ViewerAddress = r.MaxHeld, unique.Make(backends.SubscriberPrefix(rc.viewer.address))
}

// awaitedVersion returns the directives by which a reload asks the origin for a version, given the last one that it sent. All reloads
// for what that one lists ask for the newest that it lists, so that they share a response: what is cached without directives may be older.
// Without directives the origin answers at once. ahead is zero if the version is the one that comes next, negative if the origin has it, and
// positive if it comes later.
func awaitedVersion(info *hls.Info, directives string) (awaited string, ahead int) {
	sequence, part, ok := parseReload(directives)
	if !ok || !info.CanBlockReload || !info.IsLive() {
		return "", -1
	}
	next, nextPart := info.Next()
	if ahead = cmp.Compare(sequence, next); ahead == 0 && part != wholeSegment {
		ahead = cmp.Compare(part, nextPart)
	}
	switch {
	case ahead < 0:
		return newestListed(next, nextPart), ahead
	case sequence-next > maxSegmentsAhead || part != wholeSegment && part > max(maxPart(info), nextPart):
		return "", -1
	default:
		return reloadDirectives(sequence, part), ahead
	}
}

// wholeSegment is the part of a reload that is for a whole segment.
const wholeSegment = math.MaxInt

// parseReload returns the segment and the part that a reload is for.
func parseReload(directives string) (sequence uint64, part int, ok bool) {
	sequence, err := strconv.ParseUint(parameter(directives, "_HLS_msn"), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	part, err = strconv.Atoi(parameter(directives, "_HLS_part"))
	if err != nil {
		part = wholeSegment
	}
	return sequence, part, true
}

func reloadDirectives(sequence uint64, part int) string {
	if part == wholeSegment {
		return fmt.Sprintf("_HLS_msn=%d", sequence)
	}
	return fmt.Sprintf("_HLS_msn=%d&_HLS_part=%d", sequence, part)
}

// newestListed returns the directives for the last segment or part before the next ones.
func newestListed(next uint64, nextPart int) string {
	if nextPart == 0 {
		return reloadDirectives(next-1, wholeSegment)
	}
	return reloadDirectives(next, nextPart-1)
}

// maxPart returns the last part of a segment for which a reload may be.
func maxPart(info *hls.Info) int {
	if info.PartTarget == 0 {
		return maxPartsAhead
	}
	return maxPartsAhead + int(info.TargetDuration/info.PartTarget)
}
