package edge

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

// decode decodes an edge's request, and checks what holds for every result and every error.
func decode(t *testing.T, d Dialect, in *HTTPRequest) (CheckRequest, bool) {
	t.Helper()
	q := CheckRequest{IsPublish: true, Method: "of the one before"}
	if err := d.Decode(in, &q); err != nil {
		what, found := strings.CutSuffix(err.Error(), ": "+errMissing.Error())
		switch what {
		case "name", "ip", "the query", "the body, a JSON object", "X-Original-URI", "X-Real-IP", "X-Forwarded-Uri", "X-Forwarded-For":
		default:
			found = false
		}
		if !found {
			t.Errorf("the error says more than what is missing: %v", err)
		}
		return q, false
	}
	if a := q.Address; a.IsValid() && (a.Is4In6() || a.Zone() != "") {
		t.Errorf("address %v is mapped or has a zone", a)
	}
	if q.Scheme != "" && q.Scheme != "http" && q.Scheme != "https" {
		t.Errorf("scheme %q", q.Scheme)
	}
	if q.Method == "" {
		t.Error("no method")
	}
	if d.KeepsSessions() {
		return q, true
	}
	if !q.Address.IsValid() || !strings.HasPrefix(q.Path, "/") || strings.Contains(q.Path, "?") {
		t.Errorf("address %v, path %q", q.Address, q.Path)
	}
	return q, true
}

func FuzzDecodeAstra(f *testing.F) {
	f.Add("token=123", "/play/a001/index.m3u8", "live.example.com:8000", "http://live.example.com", "192.0.2.7", "a001")
	f.Add("", "", "", "https://", "::ffff:192.0.2.7", "")
	f.Add("%zz&&=", "x", "", "://x", "[fe80::1%eth0]:80", "\x00")
	f.Fuzz(func(t *testing.T, query, path, host, origin, address, channel string) {
		for _, d := range []Dialect{Astra, Alta} {
			q, ok := decode(t, d, &HTTPRequest{Method: "GET", Query: query, Header: headerOf("X-Real-Path: "+path, "X-Real-Host: "+host,
				"X-Real-Origin: "+origin, "X-Real-Ip: "+address, "X-Channel-Id: "+channel, "X-Session-Id: "+channel)})
			if !ok || q.IsPublish || q.Method != http.MethodGet || q.Query != query || q.Path != path || q.Channel != channel || q.Header != nil {
				t.Errorf("%s: got %+v", d, q)
			}
		}
	})
}

func FuzzDecodeFlussonic(f *testing.F) {
	f.Add("name=cam0&ip=192.0.2.7&request_number=0&qs=token%3D1&token=1&session_id=s", "")
	f.Add("name=%2F..&ip=::1", `{"name": "fake", "ip": "10.77.0.150", "request_number": 1, "qs": null, "token": "t"}`)
	f.Add("name=%zz;a", `{"name": "\u0000\ud800", "ip": "::ffff:1.2.3.4"}`)
	f.Add("name=*&ip=1.2.3.4", `{"name": 1}{`)
	f.Fuzz(func(t *testing.T, query, body string) {
		for method, publish := range map[string]bool{"GET": false, "POST": true} {
			in := HTTPRequest{Method: method, Query: query, Body: []byte(body), Header: headerOf()}
			q, ok := decode(t, Flussonic, &in)
			if !ok {
				continue
			}
			if !q.Address.IsValid() || q.Channel == "" || !strings.HasPrefix(q.Path, "/") || strings.ContainsAny(q.Path, "?# \x00") ||
				q.IsPublish != publish || q.Method != http.MethodGet || q.Header != nil {
				t.Errorf("%s: got %+v", method, q)
			}
			if publish && !utf8.ValidString(q.Channel) {
				t.Errorf("a channel of JSON that is no text: %q", q.Channel)
			}
		}
	})
}

func FuzzDecodeNginx(f *testing.F) {
	f.Add("/play/a001/index.m3u8?token=123&x=?", "192.0.2.7", "HEAD", "https")
	f.Add("//?", "[::1]:80", "", "wss")
	f.Add("?/", "192.0.2.7, 10.0.0.1", "get", "")
	f.Fuzz(func(t *testing.T, uri, address, method, scheme string) {
		q, ok := decode(t, Nginx, &HTTPRequest{Method: "GET", Host: "tv.example.com", Header: headerOf(
			"X-Original-Uri: "+uri, "X-Real-Ip: "+address, "X-Original-Method: "+method, "X-Forwarded-Proto: "+scheme)})
		if ok && joinURI(q, uri) != uri {
			t.Errorf("of %q became %q and %q", uri, q.Path, q.Query)
		}
	})
}

func FuzzDecodeForwardAuth(f *testing.F) {
	f.Add("/play/a001/index.m3u8?token=123", "198.51.100.1, 192.0.2.7", "10.0.0.1")
	f.Add("/", "::ffff:10.0.0.1", ",")
	f.Add("/?", "[2001:db8::7]:4321,fe80::1%x", "")
	f.Fuzz(func(t *testing.T, uri, first, second string) {
		lists := []string{"X-Forwarded-For: " + first, "X-Forwarded-For: " + second}
		in := HTTPRequest{Method: "GET", IsForwarder: isOurs, Header: headerOf(append(lists, "X-Forwarded-Uri: "+uri)...)}
		q, ok := decode(t, ForwardAuth, &in)
		if !ok {
			return
		}
		if joinURI(q, uri) != uri {
			t.Errorf("of %q became %q and %q", uri, q.Path, q.Query)
		}
		if !isListed(q.Address, first+","+second) {
			t.Errorf("%v is not among %q, %q", q.Address, first, second)
		}
	})
}

// joinURI returns the URI that a request's path and query were cut from.
func joinURI(q CheckRequest, uri string) string {
	if strings.Contains(uri, "?") {
		return q.Path + "?" + q.Query
	}
	return q.Path
}

// isListed reports whether an address is in a list.
func isListed(a netip.Addr, list string) bool {
	for text := range strings.SplitSeq(list, ",") {
		if parseAddress(text) == a {
			return true
		}
	}
	return false
}
