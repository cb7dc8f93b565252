package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// ticketPath returns the path of the first segment of a playlist.
func ticketPath(t *testing.T, playlist string) string {
	t.Helper()
	for line := range strings.Lines(playlist) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	t.Fatalf("no segment in %q", playlist)
	return ""
}

// TestNode_Traversal asks for what is no viewer's in every form that some server takes for a way up, on every kind of route, with
// a valid ticket and without.
func TestNode_Traversal(t *testing.T) {
	t.Parallel()
	ups := []string{
		"..", "%2e%2e", "%2E%2e", ".%2e", "%252e%252e", "%25252e%25252e", "..;", "..;/a", "..%3b", "..%00", "..%20", "...", "%c0%ae%c0%ae",
		"%e0%80%ae%e0%80%ae", "\xc0\xae\xc0\xae", "..\\", "..%5c", "..%255c", "..%2f..", "%2f..", "..%c0%af..", "..%ef%bc%8f..",
	}
	for _, a := range targets(t) {
		t.Run(a.name, func(t *testing.T) {
			_, playlist := a.get(t, "/play/a001/index.m3u8?token=good")
			ticket, _, _ := strings.Cut(strings.TrimPrefix(ticketPath(t, playlist), "/~"), "/")
			a.origin.seen()
			for _, route := range []string{
				"/play/a001/%s", "/~" + ticket + "/play/a001/%s", "/play/%s/a001", "/deep/%s/a001", "/query/a001/%s", "/query/a001/%s?ticket=" + ticket,
				"/cookie/a001/%s", "/open/a001/%s", "/~" + ticket + "/play/%s", "/~%s/play/a001", "/play/a001/~%s", "/%s/play/a001",
			} {
				for _, up := range ups {
					for _, name := range []string{"secret.ts", "secret.m3u8"} {
						at := strings.Replace(route, "%s", strings.Repeat(up+"/", 3)+name, 1)
						if !strings.Contains(at, "?") {
							at += "?token=good"
						}
						responses, bodies, _ := a.exchange(t, "GET "+at+" HTTP/1.1\r\nHost: tv.example.com\r\nConnection: close\r\n\r\n")
						if len(responses) != 1 || responses[0].StatusCode == http.StatusOK && strings.Contains(bodies[0], operatorSecret) {
							t.Errorf("%s: got %d responses with %q", at, len(responses), bodies)
						}
					}
				}
			}
			for _, r := range a.origin.seen() {
				if !strings.HasPrefix(r.URL.EscapedPath(), "/live/") {
					t.Errorf("the origin was asked for %s", r.URL.EscapedPath())
				}
			}
			a.traverseEdges(t, ups)
		})
	}
}

// traverseEdges has edges ask for a path out of the channel, which they may read as one into another.
func (a *target) traverseEdges(t *testing.T, ups []string) {
	t.Helper()
	for _, up := range ups {
		at := "/live/a001/" + up + "/a002/index.m3u8?token=good"
		for endpoint, field := range map[string]string{"/nginx": "X-Original-URI: ", "/forward": "X-Forwarded-Uri: "} {
			responses, _, _ := a.exchange(t, "GET "+endpoint+" HTTP/1.1\r\nHost: edge\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.7\r\n"+
				"X-Forwarded-Method: GET\r\nX-Forwarded-Host: tv\r\n"+field+at+"\r\nConnection: close\r\n\r\n")
			if len(responses) == 1 && responses[0].StatusCode < 300 && up != "..." {
				t.Errorf("%s, %s: allowed with %d", endpoint, at, responses[0].StatusCode)
			}
		}
	}
}

// TestNode_Injection sends line ends and NULs in every value that a viewer chooses. Nobody whom the node tells of it gets a header
// field more.
func TestNode_Injection(t *testing.T) {
	t.Parallel()
	const field = "X-Injected: 1"
	injected := regexp.MustCompile(`(?i)(^|[\r\n])X-Injected:`)
	for _, a := range targets(t) {
		t.Run(a.name, func(t *testing.T) {
			for _, end := range []string{"%0d%0a", "%0D%0A", "%0a", "%0d", "%00", "%e5%98%8a%e5%98%8d", "%c4%8a", "\r", "\x00", "\x0b", "\xe5\x98\x8a"} {
				value := "a" + end + strings.ReplaceAll(field, " ", "%20")
				raw := "a" + end + field
				for _, request := range []string{
					"/play/" + value + "/index.m3u8?token=good", "/play/a001/index.m3u8?token=good" + value, "/play/a001/index.m3u8?token=good&" + value + "=" + value,
					"/deep/" + value + "/index.m3u8?token=good", "/open/a001/" + value + ".ts", "/~" + value + "/play/a001/index.m3u8?token=good", "/" + value,
				} {
					a.inject(t, injected, "GET "+request+" HTTP/1.1\r\nHost: tv.example.com\r\nConnection: close\r\n\r\n")
				}
				for _, name := range []string{
					"User-Agent", "Origin", "Access-Control-Request-Headers", "Cookie", "X-Playback-Session-Id", "X-Forwarded-For", "X-Forwarded-Host", "Range",
					"Authorization", "X-Real-Ip", "Referer",
				} {
					for _, method := range []string{"GET", "OPTIONS"} {
						a.inject(t, injected, method+" /play/a001/index.m3u8?token=good HTTP/1.1\r\nHost: tv.example.com\r\n"+name+": "+raw+"\r\nConnection: close\r\n\r\n")
					}
				}
				a.inject(t, injected, "GET /play/a001/index.m3u8?token=good HTTP/1.1\r\nHost: "+raw+"\r\nConnection: close\r\n\r\n")
			}
			for _, w := range []*witness{a.origin, a.middleware} {
				for _, r := range w.seen() {
					if r.Header.Get("X-Injected") != "" {
						t.Errorf("%s got a field more: %v", r.URL, r.Header)
					}
				}
			}
			for line := range strings.Lines(a.log.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("a line of the log is broken: %q", line)
				}
			}
		})
	}
}

// inject sends a request, whose response must not have the field.
func (a *target) inject(t *testing.T, injected *regexp.Regexp, raw string) {
	t.Helper()
	responses, _, all := a.exchange(t, raw)
	head, _, _ := strings.Cut(all, "\r\n\r\n")
	if len(responses) > 1 || injected.MatchString(head) {
		t.Errorf("%q: got\n%s", raw, all)
	}
}

// TestNode_CachePoisoning has one viewer try to change what the next one gets from the cache, by all that is not part of its key.
func TestNode_CachePoisoning(t *testing.T) {
	t.Parallel()
	for _, a := range targets(t) {
		t.Run(a.name, func(t *testing.T) {
			_, clean := a.get(t, "/play/clean/index.m3u8?token=good-b")
			for i, lines := range [][]string{
				{"X-Forwarded-Host: evil.example.com", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /evil", "X-Original-URL: /evil", "X-Rewrite-URL: /evil"},
				{"Forwarded: host=evil.example.com", "X-Host: evil.example.com", "X-Forwarded-Server: evil.example.com", "X-HTTP-Method-Override: POST"},
				{"Range: bytes=0-3"},
				{"Range: bytes=5-"},
				{"Range: bytes=0-0,2-3"},
				{"If-Range: x", "Range: bytes=0-1"},
				{"If-None-Match: *"},
				{"Accept-Encoding: gzip, br"},
				{"Origin: https://evil.example.com"},
				{"Origin: https://tv.example.com"},
				{"Cookie: a=evil"},
				{"Authorization: Basic evil"},
				{"User-Agent: evil"},
				{"Cache-Control: no-store"},
				{"TE: trailers"},
				{"Accept: evil"},
				{"Via: 1.1 evil"},
				{"X-Usher: evil"},
			} {
				for _, method := range []string{"GET", "HEAD"} {
					channel := fmt.Sprintf("c%d%s", i, method)
					a.poison(t, method, channel, lines)
					a.wantClean(t, channel, clean)
				}
			}
		})
	}
}

// poison is the attacker's visit to a channel: its playlist, a segment, and one in which the origin shows what it was sent.
func (a *target) poison(t *testing.T, method, channel string, lines []string) {
	t.Helper()
	fields := strings.Join(lines, "\r\n") + "\r\nConnection: close\r\n\r\n"
	_, playlist := a.get(t, "/play/"+channel+"/index.m3u8?token=good-a")
	ticket, _, _ := strings.Cut(strings.TrimPrefix(ticketPath(t, playlist), "/~"), "/")
	for _, at := range []string{
		"/play/" + channel + "/other.m3u8?token=good-a&evil=1", "/~" + ticket + "/play/" + channel + "/seg-17.ts?evil=1", "/~" + ticket + "/play/" + channel + "/echo.ts",
	} {
		_, _, _ = a.exchange(t, method+" "+at+" HTTP/1.1\r\nHost: evil.example.com\r\n"+fields)
	}
}

// wantClean checks what the next viewer of the channel gets.
func (a *target) wantClean(t *testing.T, channel, clean string) {
	t.Helper()
	resp, playlist := a.get(t, "/play/"+channel+"/index.m3u8?token=good-b")
	first := ticketPath(t, playlist)
	ticket, _, _ := strings.Cut(strings.TrimPrefix(first, "/~"), "/")
	cleanTicket, _, _ := strings.Cut(strings.TrimPrefix(ticketPath(t, clean), "/~"), "/")
	want := strings.NewReplacer(cleanTicket, ticket, "/clean/", "/"+channel+"/").Replace(clean)
	if playlist != want || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: the playlist is %q (%v), want %q", channel, playlist, resp.Header, want)
	}
	a.wantNothingOfOthers(t, resp, playlist)
	resp, body := a.get(t, "/~"+ticket+"/play/"+channel+"/seg-17.ts")
	if resp.StatusCode != http.StatusOK || body != attackSegment || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("%s: the segment is %d %q (%v)", channel, resp.StatusCode, body, resp.Header)
	}
	a.wantNothingOfOthers(t, resp, body)
	resp, body = a.get(t, "/~"+ticket+"/play/"+channel+"/echo.ts")
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: what the origin was sent: status %d", channel, resp.StatusCode)
	}
	a.wantNothingOfOthers(t, resp, body)
	for _, r := range a.origin.seen() {
		if text := fmt.Sprint(r.URL, r.Host, r.Header); strings.Contains(text, "good-") || strings.Contains(text, ticket) {
			t.Errorf("the origin got a ticket or credentials: %s", text)
		}
	}
}

// wantNothingOfOthers checks that a response has nothing of the attacker's, and no cookie of the origin's.
func (a *target) wantNothingOfOthers(t *testing.T, resp *http.Response, body string) {
	t.Helper()
	if all := fmt.Sprint(resp.Header) + body; strings.Contains(all, "evil") || strings.Contains(all, "good-a") || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s\n%s", resp.Header, body)
	}
	if strings.Contains(resp.Header.Get("Access-Control-Allow-Origin"), "tv.example.com") || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("a viewer without an Origin got another's: %v", resp.Header)
	}
}
