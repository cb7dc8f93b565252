package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/setting"
	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

// liveOrigin serves a playlist of five six-second segments that advances with the clock.
func liveOrigin(since time.Time) gatewaytest.OriginFunc {
	return func(r *http.Request) (*http.Response, error) {
		first := int(time.Since(since) / (6 * time.Second))
		var b strings.Builder
		fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:%d\n", first)
		for n := first; n < first+5; n++ {
			fmt.Fprintf(&b, "#EXTINF:6,\nseg-%d.ts\n", n)
		}
		return gatewaytest.OriginResponse(r, int64(b.Len()), strings.NewReader(b.String())), nil
	}
}

// TestServe_URIsStayTheSameBetweenReloads plays for two hours the way browsers do, by asking for the original URL again and
// again, while the node restarts, keys are rotated and others watch.
func TestServe_URIsStayTheSameBetweenReloads(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { watchTwoHours(t, ticketIn) })
		})
	}
}

func watchTwoHours(t *testing.T, ticketIn hls.TicketTransport) {
	start := time.Now()
	c := testConfig("http://origin.example.com")
	c.Routes[0].TicketIn, c.CORS.AllowedOrigins = ticketIn, []string{"https://tv.example.com"}
	live := origin.WithTransport(liveOrigin(start))
	e, r := newBareGateway(t, c, live)
	uriOf, cookies := map[string]string{}, map[string]bool{} // by media sequence number
	for reload := 0; time.Since(start) <= 2*time.Hour; reload++ {
		switch reload {
		case 150: // a new key signs; the old one still verifies
			c.Tickets.Keys = append([]setting.Key{{ID: "b", Secret: "the second ticket secret"}}, c.Tickets.Keys...)
			fallthrough
		case 300: // another node, which has the session
			sessions := r.sessions
			e, r = newBareGateway(t, c, live)
			r.sessions = sessions
		}
		body, cookie := ask(t, e, "/play/a001/index.m3u8", fmt.Sprintf("token=1&other=%d", 0))
		cookies[cookie] = true
		number := mediaSequence(t, body)
		for _, uri := range uris(body) {
			key := fmt.Sprint(number)
			if old := uriOf[key]; old != "" && old != uri {
				t.Fatalf("%v into the stream, segment %s: got %s, was %s", time.Since(start), key, uri, old)
			}
			uriOf[key] = uri
			number++
		}
		ask(t, e, "/play/a001/index.m3u8", fmt.Sprintf("token=%d", reload)) // another viewer
		advance(7 * time.Second)                                            // each segment is seen more than once
	}
	if want := 2*3600/6 + 4; len(uriOf) < want {
		t.Errorf("saw %d segments, want %d", len(uriOf), want)
	}
	if len(cookies) != 1 {
		t.Errorf("the ticket's cookie changed: %v", cookies)
	}
}

// ask requests a playlist without a network and returns it with its cookie.
func ask(t *testing.T, e *Gateway, path, query string) (body, cookie string) {
	t.Helper()
	var a Response
	v := Request{
		Method: http.MethodGet, Scheme: "https", Host: "tv.example.com", Path: path, Query: query,
		Peer: netip.MustParseAddr("192.0.2.7"), Header: http.Header{},
	}
	if err := e.Serve(context.Background(), &v, &a); err != nil || a.Status != 200 {
		t.Fatalf("GET %s?%s: %d %q, %v", path, query, a.Status, a.Body, err)
	}
	for _, f := range a.Fields() {
		if f.Name == "Set-Cookie" {
			cookie = f.Value
		}
	}
	return string(a.Body), cookie
}

func mediaSequence(t *testing.T, playlist string) int {
	t.Helper()
	info, err := hls.Scan([]byte(playlist))
	if err != nil {
		t.Fatalf("playlist: %v\n%s", err, playlist)
	}
	return int(info.MediaSequence)
}
