package plain

import (
	"bufio"
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzHead compares a head that is accepted with what net/http reads of the same bytes: whatever is served here means the same
// there. What net/http accepts may be refused here.
func FuzzHead(f *testing.F) {
	for _, text := range []string{
		"GET /play/a001/index.m3u8?token=1 HTTP/1.1\r\nHost: tv\r\nUser-Agent: MAG250\r\n\r\n",
		"GET http://tv/a?b HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n", "OPTIONS * HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n",
		"POST /auth HTTP/1.1\r\nHost: tv\r\nContent-Length: 5\r\n\r\n", "GET /s\xc3\xa9g%41.ts HTTP/1.1\r\nHost: [::1]:80\r\nX-A: b, c\r\nx-a:d\r\n\r\n",
		"GET //a/./b;c=d#e HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
		"GET /a|b\"c HTTP/1.1\r\nHost: tv\r\n a: b\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: u@x\r\nHost: y\r\n\r\n",
	} {
		f.Add([]byte(text), []byte("GET /before HTTP/1.1\r\nHost: tv\r\n\r\n"))
	}
	f.Fuzz(func(t *testing.T, text, before []byte) {
		var h head
		if end := headEnd(before); end > 0 {
			_ = h.parse(before[:end]) // on the same connection
		}
		end := headEnd(text)
		if end == 0 || checkArrived(text[:end-1]) != nil || h.parse(text[:end]) != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text[:end])))
		if err != nil {
			t.Fatalf("accepted %q, which net/http refuses: %v", text[:end], err)
		}
		if r.Method != h.method || r.Host != h.host || r.URL.EscapedPath() != h.path || r.URL.RawQuery != h.query {
			t.Errorf("%q: got %q %q %q %q, net/http has %q %q %q %q", text[:end], h.method, h.host, h.path, h.query,
				r.Method, r.Host, r.URL.EscapedPath(), r.URL.RawQuery)
		}
		if r.ContentLength != h.framing.contentLength || h.isHTTP11 && r.Close == h.keepsAlive() {
			t.Errorf("%q: length %d, kept alive %v; net/http has %d, %v", text[:end], h.framing.contentLength, h.keepsAlive(), r.ContentLength, !r.Close)
		}
		for _, name := range h.fields.names {
			if r.Header[name] == nil && name != "Host" && name != "Transfer-Encoding" && name != "Trailer" {
				t.Errorf("%q: %s: net/http has none", text[:end], name)
			}
		}
		for name, values := range r.Header {
			if name != "Transfer-Encoding" && !slices.Equal(values, h.fields.Values(name)) {
				t.Errorf("%q: %s: got %q, net/http has %q", text[:end], name, h.fields.Values(name), values)
			}
		}
	})
}

// TestHead_Copies overwrites the bytes of each head after it was parsed. What was read of it stays.
func TestHead_Copies(t *testing.T) {
	t.Parallel()
	var h head
	type kept struct{ method, host, path, query, agent string }
	var all []kept
	for _, text := range []string{
		"GET /a?token=1 HTTP/1.1\r\nHost: tv\r\nUser-Agent: one\r\n\r\n", "GET /b?token=2 HTTP/1.1\r\nHost: tv\r\nUser-Agent: one\r\n\r\n",
		"GET /b?token=2 HTTP/1.1\r\nHost: tv\r\nUser-Agent: two\r\n\r\n", "GET /b?token=2 HTTP/1.1\r\nHost: tv\r\nUser-Agent: two\r\n\r\n",
	} {
		b := []byte(text)
		if err := h.parse(b); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, kept{h.method, h.host, h.path, h.query, h.fields.Get("User-Agent")})
		for i := range b {
			b[i] = 'x'
		}
	}
	want := []kept{
		{"GET", "tv", "/a", "token=1", "one"},
		{"GET", "tv", "/b", "token=2", "one"},
		{"GET", "tv", "/b", "token=2", "two"},
		{"GET", "tv", "/b", "token=2", "two"},
	}
	if !slices.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}

// TestHead_ForgetLarge has an idle connection keep what a player sends, and nothing of a client that sends more.
func TestHead_ForgetLarge(t *testing.T) {
	t.Parallel()
	for text, isKept := range map[string]bool{
		"GET /a HTTP/1.1\r\nHost: tv\r\n\r\n":                                            true,
		"GET /a HTTP/1.1\r\nHost: tv\r\nX-A: " + strings.Repeat("x", 8<<10) + "\r\n\r\n": false,
		"GET /" + strings.Repeat("x", 8<<10) + " HTTP/1.1\r\nHost: tv\r\n\r\n":           false,
	} {
		var h head
		for range 2 {
			if err := h.parse([]byte(text)); err != nil || h.method != "GET" || h.host != "tv" || h.fields.Get("Host") != "tv" {
				t.Errorf("%.40q: got %q %q, %v", text, h.method, h.host, err)
			}
			h.forgetLarge()
			if got := h.block != ""; got != isKept {
				t.Errorf("%.40q: kept %v, want %v", text, got, isKept)
			}
		}
	}
}

// TestHead_Again_DoesNotAllocate parses a head that is the same as the one before.
func TestHead_Again_DoesNotAllocate(t *testing.T) {
	var h head
	b := []byte("GET /play/a001/index.m3u8?token=1 HTTP/1.1\r\nHost: tv\r\nuser-agent: MAG250\r\nAccept: */*\r\n\r\n")
	if err := h.parse(b); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(500, func() { _ = h.parse(b) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkHead_Parse(b *testing.B) {
	same := []byte("GET /~a.0123456789012345678901234567890123456789012345/play/a001/seg-17.ts HTTP/1.1\r\nHost: tv.example.com\r\n" +
		"User-Agent: Mozilla/5.0 (QtEmbedded; U; Linux; C) MAG250\r\nAccept: */*\r\nConnection: Keep-Alive\r\n\r\n")
	other := bytes.Replace(same, []byte("seg-17"), []byte("seg-18"), 1)
	foreign := bytes.Replace(other, []byte("Accept: */*"), []byte("Accept: a/*"), 1)
	question := []byte("GET /auth HTTP/1.1\r\nHost: tv.example.com\r\nX-Original-URI: /play/a001/index.m3u8?token=000001\r\n" +
		"X-Original-Method: GET\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\r\n")
	next := bytes.Replace(question, []byte("=000001"), []byte("=000002"), 1)
	for name, heads := range map[string][][]byte{
		"the same": {same, same}, "another path": {same, other}, "other fields": {same, foreign}, "an edge's questions": {question, next},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var h head
			for i := 0; b.Loop(); i++ {
				if err := h.parse(heads[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
