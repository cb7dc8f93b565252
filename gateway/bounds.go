package gateway

import "time"

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
