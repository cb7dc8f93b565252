package edge

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends"
)

// headerOf makes a header of "Name: value" lines.
func headerOf(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// isOurs reports whether an address is in 10.0.0.0/8, which stands for edges and proxies.
func isOurs(a netip.Addr) bool { return netip.MustParsePrefix("10.0.0.0/8").Contains(a) }

// decodeCase is one case of Decode. err is the error's whole text.
type decodeCase struct {
	in   HTTPRequest
	want CheckRequest
	err  string
}

func (tc decodeCase) run(t *testing.T, d Dialect) {
	t.Helper()
	if tc.in.Header == nil {
		tc.in.Header = http.Header{}
	}
	if tc.in.Method == "" {
		tc.in.Method = http.MethodGet
	}
	got := CheckRequest{Method: "DELETE", EdgeSession: "of the one before", IsPublish: true}
	err := d.Decode(&tc.in, &got)
	if tc.err != "" {
		if err == nil || err.Error() != tc.err {
			t.Errorf("error: got %v, want %s", err, tc.err)
		}
		return
	}
	if err != nil {
		t.Fatalf("error: %v", err)
	}
	if diff := cmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestDialect_Decode_Astra(t *testing.T) {
	t.Parallel()
	cases := map[string]decodeCase{
		"all that Astra sends": {
			in: HTTPRequest{Query: "token=123&x=a%2Fb", Host: "usher:8080", Header: headerOf(
				"X-Session-ID: 17", "X-Channel-ID: a001", "X-Real-IP: 192.0.2.7", "X-Real-Path: /play/a001/index.m3u8",
				"X-Real-UA: MAG250", "X-Real-Host: live.example.com:8000",
				"User-Agent: Astra", "Referer: http://not.theirs/", "X-Forwarded-For: 198.51.100.1")},
			want: CheckRequest{
				Method: "GET", Host: "live.example.com:8000", Path: "/play/a001/index.m3u8", Query: "token=123&x=a%2Fb",
				Address: addr("192.0.2.7"), UserAgent: "MAG250", Channel: "a001", EdgeSession: "17", HasHost: true,
			},
		},
		"all that Alta sends": {
			in: HTTPRequest{Query: "token=123", Header: headerOf(
				"X-Session-Id: f00", "X-Real-Ip: 2001:db8::7", "X-Real-Path: /a001/index.m3u8", "X-Real-Ua: VLC/3.0",
				"X-Real-Origin: https://live.example.com:8443")},
			want: CheckRequest{
				Method: "GET", Scheme: "https", Host: "live.example.com:8443", Path: "/a001/index.m3u8", Query: "token=123",
				Address: addr("2001:db8::7"), UserAgent: "VLC/3.0", EdgeSession: "f00",
				Origin: "https://live.example.com:8443",
			},
		},
		"both names of the host: Astra's counts": {
			in:   HTTPRequest{Header: headerOf("X-Real-Host: a.example.com", "X-Real-Origin: http://b.example.com")},
			want: CheckRequest{Method: "GET", Scheme: "http", Host: "a.example.com", HasHost: true, Origin: "http://b.example.com"},
		},
		"an origin of another scheme": {
			in:   HTTPRequest{Header: headerOf("X-Real-Origin: rtsp://a.example.com")},
			want: CheckRequest{Method: "GET", Host: "a.example.com", Origin: "rtsp://a.example.com"},
		},
		"an origin without scheme": {
			in:   HTTPRequest{Header: headerOf("X-Real-Origin: a.example.com")},
			want: CheckRequest{Method: "GET", Origin: "a.example.com"},
		},
		"nothing, as auth-proxy may": {want: CheckRequest{Method: "GET"}},
		"an address that is none":    {in: HTTPRequest{Header: headerOf("X-Real-IP: unknown")}, want: CheckRequest{Method: "GET"}},
		"an IPv4 address in IPv6": {
			in:   HTTPRequest{Header: headerOf("X-Real-IP: ::ffff:192.0.2.7")},
			want: CheckRequest{Method: "GET", Address: addr("192.0.2.7")},
		},
		"a POST is about a GET as well": {
			in:   HTTPRequest{Method: "POST", Body: []byte("x"), Query: "token=1"},
			want: CheckRequest{Method: "GET", Query: "token=1"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, Astra)
			tc.run(t, Alta)
		})
	}
}

func TestDialect_Decode_FlussonicPlay(t *testing.T) {
	t.Parallel()
	const missing = ": missing or not what it should be; set the edge up as in deploy/edges"
	cases := map[string]decodeCase{
		"all that it sends": {
			in: HTTPRequest{Query: "name=live%2Fustream&ip=192.0.2.7&proto=hls&request_type=new_session&request_number=0&" +
				"session_id=6217fd62-16da-4206-9da9-0173d7552a14&stream_clients=0&total_clients=0&token=60334b207baa&duration=0&" +
				"bytes=0&qs=token%3D60334b207baa%26x%3Da%252Fb&user_agent=curl%2F7.68.0&referer=http%3A%2F%2Fya.ru%2F%3Ftoken%3D456%26name%3Dlalala&" +
				"host=tv.example.com%3A8080&dvr=true", Host: "usher:8080", Header: headerOf("User-Agent: Flussonic")},
			want: CheckRequest{
				Method: "GET", Host: "tv.example.com:8080", Path: "/live/ustream", Query: "token=60334b207baa&x=a%2Fb", Token: "60334b207baa",
				Address: addr("192.0.2.7"), UserAgent: "curl/7.68.0", Referer: "http://ya.ru/?token=456&name=lalala",
				Channel: "live/ustream", EdgeSession: "6217fd62-16da-4206-9da9-0173d7552a14", Protocol: "hls", IsArchive: true,
			},
		},
		"without counters, and with a token that it made for a viewer who sent no query": {
			in: HTTPRequest{Query: "name=cam0&ip=2001:db8::7&proto=hls&request_type=new_session&session_id=s&token=a%2Bb+c"},
			want: CheckRequest{
				Method: "GET", Path: "/cam0", Token: "a+b c", Address: addr("2001:db8::7"), Channel: "cam0", EdgeSession: "s",
				Protocol: "hls",
			},
		},
		"the viewer's own query and the token that it made": {
			in:   HTTPRequest{Query: "name=cam0&ip=192.0.2.7&qs=user%3Dme&token=made"},
			want: CheckRequest{Method: "GET", Path: "/cam0", Query: "user=me", Token: "made", Address: addr("192.0.2.7"), Channel: "cam0"},
		},
		"neither query nor token": {
			in:   HTTPRequest{Query: "name=cam0&ip=192.0.2.7&qs=&token="},
			want: CheckRequest{Method: "GET", Path: "/cam0", Address: addr("192.0.2.7"), Channel: "cam0"},
		},
		"a name that needs escapes": {
			in: HTTPRequest{Query: "name=caf%C3%A9%2F100%25%3F%23&ip=192.0.2.7"},
			want: CheckRequest{
				Method: "GET", Path: "/caf%C3%A9/100%25%3F%23", Address: addr("192.0.2.7"), Channel: "café/100%?#",
			},
		},
		"the first of two names": {
			in:   HTTPRequest{Query: "name=cam0&ip=192.0.2.7&name=cam1&ip=192.0.2.8"},
			want: CheckRequest{Method: "GET", Path: "/cam0", Address: addr("192.0.2.7"), Channel: "cam0"},
		},
		"HEAD as GET": {
			in:   HTTPRequest{Method: "HEAD", Query: "name=cam0&ip=192.0.2.7"},
			want: CheckRequest{Method: "GET", Path: "/cam0", Address: addr("192.0.2.7"), Channel: "cam0"},
		},
		"nothing":         {err: "name" + missing},
		"no name":         {in: HTTPRequest{Query: "ip=192.0.2.7&token=s3cret"}, err: "name" + missing},
		"an empty name":   {in: HTTPRequest{Query: "name=&ip=192.0.2.7&token=s3cret"}, err: "name" + missing},
		"no address":      {in: HTTPRequest{Query: "name=cam0&token=s3cret"}, err: "ip" + missing},
		"no such address": {in: HTTPRequest{Query: "name=cam0&ip=s3cret"}, err: "ip" + missing},
		"what a viewer's odd player breaks is left out": {
			in:   HTTPRequest{Query: "name=cam0&ip=192.0.2.7&user_agent=a;b&referer=%zz&qs=token%3D1"},
			want: CheckRequest{Method: "GET", Path: "/cam0", Query: "token=1", Address: addr("192.0.2.7"), Channel: "cam0"},
		},
		"a broken name is none": {in: HTTPRequest{Query: "name=s3cret%zz&ip=192.0.2.7"}, err: "name" + missing},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, Flussonic)
		})
	}
}

func TestDialect_Decode_FlussonicPublish(t *testing.T) {
	t.Parallel()
	const missing = ": missing or not what it should be; set the edge up as in deploy/edges"
	post := func(body string) HTTPRequest {
		return HTTPRequest{Method: "POST", Query: "name=of-the-query&ip=198.51.100.1", Body: []byte(body)}
	}
	cases := map[string]decodeCase{
		"the published sample": {
			in: post(`{"name": "fake", "proto": "hls", "ip": "10.77.0.150", "request_number": 1,
				"session_id": "6217fd62-16da-4206-9da9-0173d7552a14", "stream_clients": 1, "total_clients": 2,
				"token": "60334b207baa", "duration": 2, "bytes": 12345, "qs": "token=60334b207baa",
				"user_agent": "curl%2F7.68.0", "referer": "hey.com"}`),
			want: CheckRequest{
				Method: "GET", Path: "/fake", Query: "token=60334b207baa", Token: "60334b207baa", Address: addr("10.77.0.150"),
				UserAgent: "curl%2F7.68.0", // as it came
				Referer:   "hey.com", Channel: "fake", EdgeSession: "6217fd62-16da-4206-9da9-0173d7552a14", IsPublish: true,
				Protocol: "hls",
			},
		},
		"numbers are texts, and other kinds are left out": {
			in: post(`{"name": "fake", "ip": "10.77.0.150", "qs": null, "token": 17, "host": ["a"], "referer": {"a": "b"}, "user_agent": true}`),
			want: CheckRequest{
				Method: "GET", Path: "/fake", Token: "17", Address: addr("10.77.0.150"), Channel: "fake", IsPublish: true,
			},
		},
		"the last of two names": {
			in:   post(`{"name": "a", "name": "b", "ip": "10.77.0.150"}`),
			want: CheckRequest{Method: "GET", Path: "/b", Address: addr("10.77.0.150"), Channel: "b", IsPublish: true},
		},
		"no body":             {in: post(""), err: "the body, a JSON object" + missing},
		"half a body":         {in: post(`{"name": "fake", "token": "s3cret`), err: "the body, a JSON object" + missing},
		"a list":              {in: post(`["s3cret"]`), err: "the body, a JSON object" + missing},
		"two objects":         {in: post(`{"name": "fake"} {"ip": "s3cret"}`), err: "the body, a JSON object" + missing},
		"nothing but null":    {in: post(`null`), err: "name" + missing},
		"no name":             {in: post(`{"ip": "10.77.0.150", "token": "s3cret"}`), err: "name" + missing},
		"a name that is none": {in: post(`{"name": ["s3cret"], "ip": "10.77.0.150"}`), err: "name" + missing},
		"no address":          {in: post(`{"name": "fake", "ip": "s3cret"}`), err: "ip" + missing},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, Flussonic)
		})
	}
}

func TestDialect_Decode_Nginx(t *testing.T) {
	t.Parallel()
	const missing = ": missing or not what it should be; set the edge up as in deploy/edges"
	passedOn := headerOf(
		"X-Original-URI: /play/a001/index.m3u8?token=a%2Bb&x=?", "X-Real-IP: 192.0.2.7", "X-Original-Method: HEAD",
		"X-Forwarded-Proto: HTTPS", "User-Agent: MAG250", "Referer: http://portal/", "Cookie: a=b",
		"X-Forwarded-For: 198.51.100.1", "X-Session-Id: forged", "X-Channel-Id: forged", "X-Forwarded-Host: forged", "X-Forwarded-Uri: /forged")
	bare := headerOf("X-Original-URI: /", "X-Real-IP: [2001:db8::7]:443")
	cases := map[string]decodeCase{
		"all that it sends, and what a viewer adds": {
			in: HTTPRequest{Query: "of=its+own", Host: "tv.example.com", Header: passedOn, IsForwarder: isOurs},
			want: CheckRequest{
				Method: "HEAD", Scheme: "https", Host: "tv.example.com", Path: "/play/a001/index.m3u8", Query: "token=a%2Bb&x=?",
				Address: addr("192.0.2.7"), UserAgent: "MAG250", Referer: "http://portal/", Header: passedOn,
			},
		},
		"the least": {
			in:   HTTPRequest{Header: bare},
			want: CheckRequest{Method: "GET", Path: "/", Address: addr("2001:db8::7"), Header: bare},
		},
		"no path":            {in: HTTPRequest{Header: headerOf("X-Real-IP: 192.0.2.7")}, err: "X-Original-URI" + missing},
		"a path of no slash": {in: HTTPRequest{Header: headerOf("X-Original-URI: s3cret", "X-Real-IP: 192.0.2.7")}, err: "X-Original-URI" + missing},
		"no address":         {in: HTTPRequest{Header: headerOf("X-Original-URI: /?token=s3cret")}, err: "X-Real-IP" + missing},
		"no such address":    {in: HTTPRequest{Header: headerOf("X-Original-URI: /", "X-Real-IP: s3cret")}, err: "X-Real-IP" + missing},
		"a list of addresses": {
			in:  HTTPRequest{Header: headerOf("X-Original-URI: /", "X-Real-IP: 192.0.2.7, 192.0.2.8")},
			err: "X-Real-IP" + missing,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, Nginx)
		})
	}
}

func TestDialect_Decode_ForwardAuth(t *testing.T) {
	t.Parallel()
	const missing = ": missing or not what it should be; set the edge up as in deploy/edges"
	passedOn := headerOf(
		"X-Forwarded-Uri: /play/a001/index.m3u8?token=1", "X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.0.0.5", "X-Forwarded-Method: OPTIONS",
		"X-Forwarded-Proto: http", "X-Forwarded-Host: tv.example.com", "User-Agent: MAG250", "Referer: http://portal/", "Cookie: a=b",
		"X-Real-Ip: 198.51.100.2", "X-Session-Id: forged", "X-Original-Uri: /forged")
	bare := headerOf("X-Forwarded-Uri: /a", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: wss")
	cases := map[string]decodeCase{
		"all that it sends, and what a viewer adds": {
			in: HTTPRequest{Query: "of=its+own", Host: "usher:8080", Header: passedOn, IsForwarder: isOurs},
			want: CheckRequest{
				Method: "OPTIONS", Scheme: "http", Host: "tv.example.com", Path: "/play/a001/index.m3u8", Query: "token=1",
				Address: addr("192.0.2.7"), UserAgent: "MAG250", Referer: "http://portal/", Header: passedOn,
			},
		},
		"the least": {
			in:   HTTPRequest{Header: bare, Host: "usher:8080"},
			want: CheckRequest{Method: "GET", Path: "/a", Address: addr("192.0.2.7"), Header: bare},
		},
		"no path":            {in: HTTPRequest{Header: headerOf("X-Forwarded-For: 192.0.2.7")}, err: "X-Forwarded-Uri" + missing},
		"a path of no slash": {in: HTTPRequest{Header: headerOf("X-Forwarded-Uri: s3cret", "X-Forwarded-For: 192.0.2.7")}, err: "X-Forwarded-Uri" + missing},
		"no address":         {in: HTTPRequest{Header: headerOf("X-Forwarded-Uri: /?token=s3cret")}, err: "X-Forwarded-For" + missing},
		"no such address":    {in: HTTPRequest{Header: headerOf("X-Forwarded-Uri: /", "X-Forwarded-For: s3cret")}, err: "X-Forwarded-For" + missing},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, ForwardAuth)
		})
	}
}

func TestDialect_Decode_NotOverHTTP(t *testing.T) {
	t.Parallel()
	for d, want := range map[Dialect]string{
		NoDialect: "dialect  does not use HTTP", Envoy: "dialect envoy does not use HTTP",
	} {
		decodeCase{err: want}.run(t, d)
	}
}

func TestLastForwarded(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		lists []string
		want  string
	}{
		"one":                               {[]string{"192.0.2.7"}, "192.0.2.7"},
		"what the viewer invented before":   {[]string{"198.51.100.1, 192.0.2.7"}, "192.0.2.7"},
		"ours after the viewer":             {[]string{"192.0.2.7, 10.0.0.1,10.0.0.2"}, "192.0.2.7"},
		"fields are one list":               {[]string{"198.51.100.1", "192.0.2.7", "10.0.0.1"}, "192.0.2.7"},
		"lists in fields":                   {[]string{"198.51.100.1, 192.0.2.7", "10.0.0.1, 10.0.0.2"}, "192.0.2.7"},
		"an empty field between":            {[]string{"192.0.2.7", "", "10.0.0.1"}, "192.0.2.7"},
		"all ours: the first of them":       {[]string{"10.0.0.3, 10.0.0.2", "10.0.0.1"}, "10.0.0.3"},
		"with a port":                       {[]string{"198.51.100.1, 192.0.2.7:4321"}, "192.0.2.7"},
		"IPv6":                              {[]string{"198.51.100.1, 2001:db8::7"}, "2001:db8::7"},
		"IPv6 with a port":                  {[]string{"[2001:db8::7]:4321"}, "2001:db8::7"},
		"IPv6 with a zone":                  {[]string{"fe80::7%eth0"}, "fe80::7"},
		"IPv4 in IPv6":                      {[]string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		"ours as IPv4 in IPv6":              {[]string{"192.0.2.7, ::ffff:10.0.0.1"}, "192.0.2.7"},
		"white space":                       {[]string{" 192.0.2.7 ,\t10.0.0.1 "}, "192.0.2.7"},
		"nothing before the comma":          {[]string{",192.0.2.7"}, "192.0.2.7"},
		"nothing":                           {nil, "invalid IP"},
		"an empty field":                    {[]string{""}, "invalid IP"},
		"garbage":                           {[]string{"unknown"}, "invalid IP"},
		"garbage at the end":                {[]string{"192.0.2.7, unknown"}, "invalid IP"},
		"a comma at the end":                {[]string{"192.0.2.7,"}, "invalid IP"},
		"garbage before ours: what is left": {[]string{"192.0.2.7, unknown, 10.0.0.1"}, "10.0.0.1"},
		"garbage of a field before ours":    {[]string{"192.0.2.7", "unknown", "10.0.0.1"}, "10.0.0.1"},
		"for=, as in RFC 7239":              {[]string{"for=192.0.2.7"}, "invalid IP"},
	}
	for name, tc := range cases {
		if got := LastForwarded(tc.lists, isOurs).String(); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
	if got := LastForwarded([]string{"192.0.2.7, 10.0.0.1"}, nil).String(); got != "10.0.0.1" {
		t.Errorf("without forwarders: got %s", got)
	}
}

func TestCheckRequest_Report(t *testing.T) {
	t.Parallel()
	all := CheckRequest{
		Host: "h", Path: "/p", Channel: "c", EdgeSession: "17", HasHost: true, Origin: "https://h", Protocol: "dash", IsArchive: true,
	}
	full := backends.EdgeReport{
		AstraSession: "17", HasSession: true, HasChannel: true, HasPath: true, HasHost: true, Origin: "https://h",
	}
	derived := full
	derived.AstraSession = ""
	ofFlussonic := backends.EdgeReport{
		FlussonicSession: "17", HasSession: true, HasChannel: true, HasHost: true, Protocol: "dash", IsArchive: true,
	}
	derivedOfFlussonic := ofFlussonic
	derivedOfFlussonic.FlussonicSession = ""
	for name, tc := range map[string]struct {
		dialect Dialect
		mode    SessionIDMode
		in      CheckRequest
		want    *backends.EdgeReport
	}{
		"all, to astra":                         {Astra, SessionIDOfEdge, all, &full},
		"all, to alta":                          {Alta, SessionIDOfEdge, all, &full},
		"an id of ours":                         {Astra, SessionIDDerived, all, &derived},
		"an id that does not count":             {Alta, SessionIDIgnored, all, &derived},
		"nothing":                               {Astra, SessionIDOfEdge, CheckRequest{}, &backends.EdgeReport{}},
		"nothing, with an id of ours":           {Astra, SessionIDDerived, CheckRequest{}, &backends.EdgeReport{HasSession: true}},
		"a host as part of an origin":           {Alta, SessionIDOfEdge, CheckRequest{Host: "h", Origin: "https://h"}, &backends.EdgeReport{Origin: "https://h"}},
		"all, to flussonic":                     {Flussonic, SessionIDOfEdge, all, &ofFlussonic},
		"to flussonic, an id of ours":           {Flussonic, SessionIDDerived, all, &derivedOfFlussonic},
		"nothing to flussonic, which needs one": {Flussonic, SessionIDOfEdge, CheckRequest{}, &backends.EdgeReport{HasSession: true}},
		"an edge without sessions":              {Nginx, SessionIDOfEdge, all, nil},
	} {
		if diff := cmp.Diff(tc.want, tc.in.Report(tc.dialect, tc.mode)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSessionIDMode_Text(t *testing.T) {
	t.Parallel()
	for want := range numSessionIDModes {
		text, _ := want.MarshalText()
		var got SessionIDMode
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var m SessionIDMode
	if got, want := fmt.Sprint(m.UnmarshalText([]byte("ours"))), `session_id "ours": want edge, derived or ignore`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestViewerHeader(t *testing.T) {
	t.Parallel()
	passedOn := headerOf("Cookie: a=1", "Cookie: b=2", "User-Agent: of the edge", "Referer: http://edge/")
	decoded := CheckRequest{UserAgent: "MAG250", Referer: "http://portal/"}
	withHeader := decoded
	withHeader.Header = passedOn
	for name, tc := range map[string]struct {
		request *CheckRequest
		field   string
		first   string
		all     []string
	}{
		"the player":                         {&decoded, "User-Agent", "MAG250", nil},
		"the page":                           {&decoded, "Referer", "http://portal/", nil},
		"a field that the edge keeps":        {&decoded, "Cookie", "", nil},
		"the player, as it was decoded":      {&withHeader, "User-Agent", "MAG250", []string{"of the edge"}},
		"the page, as it was decoded":        {&withHeader, "Referer", "http://portal/", []string{"http://edge/"}},
		"fields that the edge passes on":     {&withHeader, "Cookie", "a=1", []string{"a=1", "b=2"}},
		"a field that the viewer left out":   {&withHeader, "Authorization", "", nil},
		"a request that says nothing at all": {&CheckRequest{}, "User-Agent", "", nil},
	} {
		h := ViewerHeader{Request: tc.request}
		if got := h.Get(tc.field); got != tc.first {
			t.Errorf("%s: Get(%q) = %q, want %q", name, tc.field, got, tc.first)
		}
		if diff := cmp.Diff(tc.all, h.Values(tc.field)); diff != "" {
			t.Errorf("%s: Values(%q) (-want +got):\n%s", name, tc.field, diff)
		}
	}
}

// TestCheckRequest_MayPublish has checks that cannot be decoded: what the viewer may want is known all the same.
func TestCheckRequest_MayPublish(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		dialect Dialect
		in      HTTPRequest
		want    bool
	}{
		"flussonic's publisher":      {Flussonic, HTTPRequest{Method: "POST", Body: []byte("{")}, true},
		"flussonic's viewer":         {Flussonic, HTTPRequest{Method: "GET"}, false},
		"nginx, PUT":                 {Nginx, HTTPRequest{Method: "GET", Header: http.Header{"X-Original-Method": {"PUT"}}}, true},
		"nginx, POST by the edge":    {Nginx, HTTPRequest{Method: "POST", Header: http.Header{"X-Original-Method": {"GET"}}}, false},
		"nginx, no method":           {Nginx, HTTPRequest{Method: "GET", Header: http.Header{}}, false},
		"forward-auth, DELETE":       {ForwardAuth, HTTPRequest{Method: "GET", Header: http.Header{"X-Forwarded-Method": {"DELETE"}}}, true},
		"forward-auth, a preflight":  {ForwardAuth, HTTPRequest{Method: "GET", Header: http.Header{"X-Forwarded-Method": {"OPTIONS"}}}, false},
		"forward-auth, HEAD":         {ForwardAuth, HTTPRequest{Method: "GET", Header: http.Header{"X-Forwarded-Method": {"HEAD"}}}, false},
		"forward-auth, a lower case": {ForwardAuth, HTTPRequest{Method: "GET", Header: http.Header{"X-Forwarded-Method": {"get"}}}, true},
	} {
		var q CheckRequest
		if err := tc.dialect.Decode(&tc.in, &q); err == nil || q.MayPublish() != tc.want {
			t.Errorf("%s: %v after %v, want %v and an error", name, q.MayPublish(), err, tc.want)
		}
	}
}
