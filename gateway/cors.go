package gateway

import (
	"net/http"
	"slices"

	"usher/gateway/hls"
)

// preflightAge is how long a browser need not ask again, in seconds: a day, which browsers cut as they see fit.
const preflightAge = "86400"

// setCORS lets pages of listed origins read the answer, refusals included: a player that cannot read a 403 takes it for a
// broken network and tries for ever, and one that cannot read a 503 gives up. carry is the route's mode.
func (g *Gateway) setCORS(carry hls.TicketTransport, req *Request, resp *Response) {
	from := req.Header.Get("Origin")
	if from == "" && carry != hls.TicketInNone { // only there a cache in front gives one viewer's answer to another
		return
	}
	allowed := g.options.Config.CORS.AllowedOrigins
	switch {
	case slices.Contains(allowed, "*"):
		resp.set("Access-Control-Allow-Origin", "*")
	case from != "" && slices.Contains(allowed, from):
		resp.set("Access-Control-Allow-Origin", from)
		resp.set("Vary", "Origin")
		if carry == hls.TicketInCookie {
			resp.set("Access-Control-Allow-Credentials", "true")
		}
	default:
		resp.set("Vary", "Origin")
		return
	}
	if req.Method != http.MethodOptions {
		resp.set("Access-Control-Expose-Headers", "Content-Length, Content-Range, Age")
	}
}

// answerPreflight answers OPTIONS, before anybody asks who the viewer is.
func answerPreflight(req *Request, resp *Response) {
	resp.Status = http.StatusNoContent
	resp.set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
	resp.set("Access-Control-Allow-Headers", req.Header.Get("Access-Control-Request-Headers"))
	resp.set("Access-Control-Max-Age", preflightAge)
	resp.set("Allow", "GET, HEAD, OPTIONS")
}
