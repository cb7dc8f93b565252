package gateway

import (
	"net/http"
	"slices"

	"usher/gateway/hls"
)

// preflightAge is how long a browser need not ask again, in seconds: a day, which browsers cut as they see fit.
const preflightAge = "86400"

// cors lets pages of listed origins read the answer, refusals included: a player that cannot read a 403 takes it for a
// broken network and tries for ever, and one that cannot read a 503 gives up. carry is the route's mode.
func (g *Gateway) cors(carry hls.TicketTransport, v *View, a *Answer) {
	from := v.Header.Get("Origin")
	if from == "" && carry != hls.TicketInNone { // only there a cache in front gives one viewer's answer to another
		return
	}
	allowed := g.o.Config.CORS.AllowedOrigins
	switch {
	case slices.Contains(allowed, "*"):
		a.set("Access-Control-Allow-Origin", "*")
	case from != "" && slices.Contains(allowed, from):
		a.set("Access-Control-Allow-Origin", from)
		a.set("Vary", "Origin")
		if carry == hls.TicketInCookie {
			a.set("Access-Control-Allow-Credentials", "true")
		}
	default:
		a.set("Vary", "Origin")
		return
	}
	if v.Method != http.MethodOptions {
		a.set("Access-Control-Expose-Headers", "Content-Length, Content-Range, Age")
	}
}

// preflight answers OPTIONS, before anybody asks who the viewer is.
func preflight(v *View, a *Answer) {
	a.Status = http.StatusNoContent
	a.set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
	a.set("Access-Control-Allow-Headers", v.Header.Get("Access-Control-Request-Headers"))
	a.set("Access-Control-Max-Age", preflightAge)
	a.set("Allow", "GET, HEAD, OPTIONS")
}
