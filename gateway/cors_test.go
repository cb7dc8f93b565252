package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

func TestServe_CORS(t *testing.T) {
	t.Parallel()
	const tv, evil = "https://tv.example.com", "https://evil.example.com"
	const exposed = "Content-Length, Content-Range, Age"
	type line map[string]string
	listed := line{"Allow-Origin": tv, "Allow-Credentials": "true", "Expose-Headers": exposed, "Vary": "Origin"}
	cases := map[string]struct {
		allowed  []string
		ticketIn hls.TicketTransport
		page     string
		want     line
	}{
		"any page":                        {[]string{"*"}, hls.TicketInPath, tv, line{"Allow-Origin": "*", "Expose-Headers": exposed}},
		"a listed page":                   {[]string{tv}, hls.TicketInPath, tv, listed},
		"a listed page, by query":         {[]string{tv}, hls.TicketInQuery, tv, listed},
		"a listed page, by cookie":        {[]string{tv}, hls.TicketInCookie, tv, listed},
		"a listed page, without ticket":   {[]string{tv}, hls.TicketInNone, tv, listed},
		"a listed page beside any":        {[]string{"*", tv}, hls.TicketInPath, tv, listed},
		"another page beside any":         {[]string{tv, "*"}, hls.TicketInPath, evil, line{"Allow-Origin": "*", "Expose-Headers": exposed, "Vary": "Origin"}},
		"a page called *":                 {[]string{"*"}, hls.TicketInPath, "*", line{"Allow-Origin": "*", "Expose-Headers": exposed}},
		"another page":                    {[]string{tv}, hls.TicketInPath, evil, line{"Vary": "Origin"}},
		"a page of a longer name":         {[]string{tv}, hls.TicketInPath, tv + ".evil.com", line{"Vary": "Origin"}},
		"no page whatever":                {nil, hls.TicketInPath, tv, line{"Vary": "Origin"}},
		"a sandboxed page":                {[]string{tv}, hls.TicketInPath, "null", line{"Vary": "Origin"}},
		"another page, with cookies":      {[]string{tv}, hls.TicketInCookie, evil, line{"Vary": "Origin"}},
		"no page":                         {[]string{"*"}, hls.TicketInPath, "", line{}},
		"no page, before a cache":         {[]string{"*"}, hls.TicketInNone, "", line{"Allow-Origin": "*", "Expose-Headers": exposed}},
		"no page, before a cache, listed": {[]string{tv}, hls.TicketInNone, "", line{"Vary": "Origin"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.CORS.AllowedOrigins, c.Routes[0].TicketIn, c.Routes[0].Required = tc.allowed, tc.ticketIn, []string{"token"}
			})
			var fields []string
			if tc.page != "" {
				fields = []string{"Origin: " + tc.page}
			}
			for path, status := range map[string]int{"/play/a001/index.m3u8?token=1": 200, "/play/a001/index.m3u8": 403} {
				got := line{}
				for field, value := range g.want(t, status, path, fields...).header {
					if short, ok := strings.CutPrefix(field, "Access-Control-"); ok || field == "Vary" {
						got[short] = strings.Join(value, "|")
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
		})
	}
}

func TestServe_PreflightOfUnlistedOrigin(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.CORS.AllowedOrigins = []string{"https://tv.example.com"} })
	got := g.do(t, http.MethodOptions, "/play/a001/index.m3u8", "Origin: https://evil.example.com", "Access-Control-Request-Method: GET")
	if a := got.header.Get("Access-Control-Allow-Origin"); got.status != 204 || a != "" {
		t.Errorf("got %d with Access-Control-Allow-Origin %q, want 204 without", got.status, a)
	}
}
