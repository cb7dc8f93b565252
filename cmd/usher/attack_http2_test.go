package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is an HTTP/2 connection on which a test writes frames as it likes.
type frames struct {
	*http2.Framer
	conn    net.Conn
	headers bytes.Buffer
	encoder *hpack.Encoder
}

// openFrames connects, and exchanges the first frames.
func (a *target) openFrames(t *testing.T) *frames {
	t.Helper()
	outer, isTLS := a.dial(t).(*tls.Conn)
	if !isTLS {
		t.Fatal("HTTP/2 needs TLS")
	}
	conn := tls.Client(outer.NetConn(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // only of a test that fails
	f := &frames{Framer: http2.NewFramer(conn, conn), conn: conn}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.encoder = hpack.NewEncoder(&f.headers)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	if err := errors.Join(f.WriteSettings(), f.WriteSettingsAck()); err != nil {
		t.Fatal(err)
	}
	return f
}

// block encodes fields, each "name: value".
func (f *frames) block(fields ...string) []byte {
	f.headers.Reset()
	for _, field := range fields {
		at := 1 + strings.IndexByte(field[1:], ':')
		_ = f.encoder.WriteField(hpack.HeaderField{Name: field[:at], Value: strings.TrimPrefix(field[at+1:], " ")})
	}
	return slices.Clone(f.headers.Bytes())
}

// get is a sound request's fields, with further ones.
func (f *frames) get(more ...string) []byte {
	return f.block(append([]string{":method: GET", ":scheme: https", ":authority: tv.example.com", ":path: /play/a001/index.m3u8?token=good"}, more...)...)
}

// open writes the frame that opens a stream.
func (f *frames) open(id uint32, block []byte, endsStream bool) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: endsStream, EndHeaders: true})
}

// outcome reads until what is wanted, or until the node ends the connection. It may answer a stream before it reads the broken frame
// that follows.
func (f *frames) outcome(want []string) string {
	got := "nothing"
	for {
		frame, err := f.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), err != nil && strings.HasPrefix(got, "goaway"):
			return got
		case err != nil:
			return "closed"
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			got = "goaway " + frame.ErrCode.String()
		case *http2.RSTStreamFrame:
			got = "reset " + frame.ErrCode.String()
		case *http2.MetaHeadersFrame:
			got = "status " + frame.PseudoValue("status")
		}
		if slices.Contains(want, got) {
			return got
		}
	}
}

// brokenFrames are what RFC 9113 and RFC 7541 forbid, by section, with the outcomes that they allow. A connection error may
// always end a connection without a word.
func brokenFrames() map[string]struct {
	write func(f *frames)
	want  []string
} {
	setting := func(id http2.SettingID, value uint32) func(f *frames) {
		return func(f *frames) { _ = f.WriteSettings(http2.Setting{ID: id, Val: value}) }
	}
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) func(f *frames) {
		return func(f *frames) { _ = f.WriteRawFrame(kind, flags, id, payload) }
	}
	request := func(more ...string) func(f *frames) { return func(f *frames) { f.open(1, f.get(more...), true) } }
	fields := func(all ...string) func(f *frames) { return func(f *frames) { f.open(1, f.block(all...), true) } }
	const protocol, frameSize, flow, done = "goaway PROTOCOL_ERROR", "goaway FRAME_SIZE_ERROR", "goaway FLOW_CONTROL_ERROR", "goaway STREAM_CLOSED"
	malformed := []string{"reset PROTOCOL_ERROR", "status 400", protocol}
	return map[string]struct {
		write func(f *frames)
		want  []string
	}{
		"a sound request":               {request(), []string{"status 200"}},
		"4.1 an unknown frame":          {func(f *frames) { _ = f.WriteRawFrame(0xbe, 0, 0, []byte("x")); request()(f) }, []string{"status 200"}},
		"4.2 a frame that is too large": {raw(http2.FramePing, 0, 0, make([]byte, 20_000)), []string{frameSize}},
		"4.3 a block that is none":      {func(f *frames) { f.open(1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, true) }, []string{"goaway COMPRESSION_ERROR"}},
		"4.3 a ping within a block": {func(f *frames) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.get()})
			_ = f.WritePing(false, [8]byte{})
		}, []string{protocol}},
		"4.3 another stream within a block": {func(f *frames) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.get()})
			f.open(3, nil, true)
		}, []string{protocol}},
		"5.1 data of an idle stream":       {func(f *frames) { _ = f.WriteData(1, true, []byte("x")) }, []string{protocol, done}},
		"5.1 a reset of an idle stream":    {func(f *frames) { _ = f.WriteRSTStream(1, http2.ErrCodeCancel) }, []string{protocol}},
		"5.1 a window of an idle stream":   {func(f *frames) { _ = f.WriteWindowUpdate(1, 1) }, []string{protocol}},
		"5.1.1 an even stream":             {func(f *frames) { f.open(2, f.get(), true) }, []string{protocol}},
		"5.1.1 a stream below another":     {func(f *frames) { f.open(5, f.get(), false); f.open(3, f.get(), true) }, []string{protocol, done}},
		"5.3.1 a stream that needs itself": {func(f *frames) { _ = f.WritePriority(1, http2.PriorityParam{StreamDep: 1}); request()(f) }, []string{"reset PROTOCOL_ERROR", protocol, "status 200"}},
		"6.1 data of no stream":            {func(f *frames) { _ = f.WriteData(0, true, []byte("x")) }, []string{protocol}},
		"6.1 padding longer than the frame": {func(f *frames) {
			f.open(1, f.get(), false)
			raw(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 0})(f)
		}, []string{protocol}},
		"6.2 headers of no stream":         {func(f *frames) { f.open(0, f.get(), true) }, []string{protocol}},
		"6.3 a priority of a wrong length": {raw(http2.FramePriority, 0, 1, make([]byte, 4)), []string{frameSize, "reset FRAME_SIZE_ERROR"}},
		"6.4 a reset of no stream":         {func(f *frames) { _ = f.WriteRSTStream(0, http2.ErrCodeCancel) }, []string{protocol}},
		"6.4 a reset of a wrong length":    {func(f *frames) { f.open(1, f.get(), false); raw(http2.FrameRSTStream, 0, 1, make([]byte, 3))(f) }, []string{frameSize}},
		"6.5 settings of a stream":         {raw(http2.FrameSettings, 0, 1, nil), []string{protocol}},
		"6.5 settings of a wrong length":   {raw(http2.FrameSettings, 0, 0, make([]byte, 5)), []string{frameSize}},
		"6.5 an acknowledgement that says": {raw(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6)), []string{frameSize}},
		"6.5.2 a push that is neither":     {setting(http2.SettingEnablePush, 2), []string{protocol}},
		"6.5.2 too large a window":         {setting(http2.SettingInitialWindowSize, 1<<31), []string{flow}},
		"6.5.2 too small a frame":          {setting(http2.SettingMaxFrameSize, 1), []string{protocol}},
		"6.5.2 too large a frame":          {setting(http2.SettingMaxFrameSize, 1<<24), []string{protocol}},
		"6.6 a push of a client":           {raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, make([]byte, 4)), []string{protocol}},
		"6.7 a ping of a stream":           {raw(http2.FramePing, 0, 1, make([]byte, 8)), []string{protocol}},
		"6.7 a ping of a wrong length":     {raw(http2.FramePing, 0, 0, make([]byte, 7)), []string{frameSize}},
		"6.8 an end of a stream":           {raw(http2.FrameGoAway, 0, 1, make([]byte, 8)), []string{protocol}},
		"6.9 a window of nothing":          {raw(http2.FrameWindowUpdate, 0, 0, make([]byte, 4)), []string{protocol}},
		"6.9 a window of a wrong length":   {raw(http2.FrameWindowUpdate, 0, 0, make([]byte, 3)), []string{frameSize}},
		"6.9.1 a window beyond all bounds": {func(f *frames) { _ = f.WriteWindowUpdate(0, 1<<31-1); _ = f.WriteWindowUpdate(0, 1<<31-1) }, []string{flow}},
		"6.10 a continuation of nothing":   {func(f *frames) { _ = f.WriteContinuation(1, true, f.get()) }, []string{protocol}},
		"8.2.1 a name in capitals":         {request("X-Capital: 1"), malformed},
		"8.2.1 a line end in a value":      {request("x-a: b\r\nx-injected: 1"), malformed},
		"8.2.1 a NUL in a value":           {request("x-a: b\x00"), malformed},
		"8.2.2 a field of the connection":  {request("connection: keep-alive"), malformed},
		"8.2.2 chunks":                     {request("transfer-encoding: chunked"), malformed},
		"8.2.2 another te than trailers":   {request("te: gzip"), malformed},
		"8.3 a pseudo-field at the end":    {fields(":method: GET", ":scheme: https", "x-a: b", ":path: /play/a001/index.m3u8?token=good"), malformed},
		"8.3 an unknown pseudo-field":      {request(":smuggled: 1"), malformed},
		"8.3 one of a response":            {request(":status: 200"), malformed},
		"8.3.1 two methods":                {request(":method: POST"), malformed},
		"8.3.1 two paths":                  {request(":path: /play/a001/index.m3u8?token=good-smuggled"), malformed},
		"8.3.1 no path":                    {fields(":method: GET", ":scheme: https", ":authority: tv"), malformed},
		"8.3.1 an empty path":              {fields(":method: GET", ":scheme: https", ":authority: tv", ":path: "), malformed},
		"8.3.1 no method":                  {fields(":scheme: https", ":authority: tv", ":path: /play/a001/index.m3u8?token=good"), malformed},
		"8.3.1 a path with a line end":     {fields(":method: GET", ":scheme: https", ":authority: tv", ":path: /play/a001/index.m3u8?token=good\r\nx: y"), malformed},
		"8.3.1 a path with a space":        {fields(":method: GET", ":scheme: https", ":authority: tv", ":path: /play/a001/index.m3u8?token=good HTTP/1.1"), append(malformed, "status 200")},
		"8.1.1 a length that is not the sum": {func(f *frames) {
			f.open(1, f.get("content-length: 1"), false)
			_ = f.WriteData(1, true, []byte("more"))
		}, append(malformed, "status 200")},
	}
}

// TestNode_HTTP2_BrokenFrames sends each on a connection of its own.
func TestNode_HTTP2_BrokenFrames(t *testing.T) {
	t.Parallel()
	a := secureTarget(t)
	cases := brokenFrames()
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		f := a.openFrames(t)
		cases[name].write(f)
		if got := f.outcome(cases[name].want); got != "closed" && !slices.Contains(cases[name].want, got) {
			t.Errorf("%s: got %q, want one of %q", name, got, cases[name].want)
		} else if got == "closed" && slices.Contains(cases[name].want, "status 200") && len(cases[name].want) == 1 {
			t.Errorf("%s: closed, want it served", name)
		}
		_ = f.conn.Close()
	}
	if a.sawSmuggled() {
		t.Error("a hidden request was served")
	}
	for _, r := range a.middleware.seen() {
		if r.Header.Get("X-Injected") != "" {
			t.Errorf("the middleware got a field more: %v", r.Header)
		}
	}
}

// secureTarget returns the node that speaks TLS.
func secureTarget(t *testing.T) *target {
	t.Helper()
	all := targets(t)
	return all[slices.IndexFunc(all, func(a *target) bool { return a.name == "TLS" })]
}

// TestNode_HTTP2_Floods writes what costs a client nothing until the node ends the connection, or for as long as it bears it. Other
// viewers are served all the while, and what reaches the middleware is bounded.
func TestNode_HTTP2_Floods(t *testing.T) {
	t.Parallel()
	a := secureTarget(t)
	const bytesOfFlood = 64 << 20
	for name, test := range map[string]struct {
		write    func(f *frames, i uint32) error
		mustEnd  bool // the node may not read all of it
		numTimes int
	}{
		"rapid resets": {func(f *frames, i uint32) error {
			f.open(2*i+1, f.get(), true)
			return f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}, false, 20_000},
		"continuations": {func(f *frames, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.get()})
			}
			return f.WriteContinuation(1, false, f.block(fmt.Sprintf("x-%d: %s", i, strings.Repeat("a", 8000))))
		}, true, bytesOfFlood / 8000},
		"empty continuations": {func(f *frames, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.get()})
			}
			return f.WriteContinuation(1, false, nil)
		}, false, 200_000},
		"a field from the table, again and again": {func(f *frames, i uint32) error {
			bomb := append(f.block("x-bomb: "+strings.Repeat("a", 4000)), bytes.Repeat([]byte{0x80 | 62}, 16_000)...)
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: append(f.get(), bomb...)[:16_000], EndStream: true, EndHeaders: true})
		}, false, 100},
		"pings":    {func(f *frames, i uint32) error { return f.WritePing(false, [8]byte{byte(i)}) }, false, 200_000},
		"settings": {func(f *frames, _ uint32) error { return f.WriteSettings() }, false, 200_000},
		"windows":  {func(f *frames, i uint32) error { return f.WriteWindowUpdate(0, 1+i%2) }, false, 200_000},
		"priorities": {func(f *frames, i uint32) error {
			return f.WritePriority(2*i+1, http2.PriorityParam{StreamDep: 0, Weight: byte(i)})
		}, false, 200_000},
		"streams without an end": {func(f *frames, i uint32) error { f.open(2*i+1, f.get(), false); return nil }, false, 5_000},
		"tiny windows": {func(f *frames, i uint32) error {
			if i == 0 {
				_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			}
			f.open(2*i+1, f.get(), true)
			return nil
		}, false, 5_000},
		"unknown frames": {func(f *frames, i uint32) error {
			return f.WriteRawFrame(0xfe, 0, i, binary.BigEndian.AppendUint32(nil, i))
		}, false, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			f := a.openFrames(t)
			ended := false
			for i := range uint32(test.numTimes) { // nothing that the node sends is read
				if err := test.write(f, i); err != nil {
					ended = true
					break
				}
			}
			if test.mustEnd && !ended {
				t.Error("the node read all of it")
			}
			if resp, _ := a.get(t, "/play/a001/index.m3u8?token=good"); resp.StatusCode != http.StatusOK {
				t.Errorf("another viewer got %d", resp.StatusCode)
			}
			_ = f.conn.Close()
		})
	}
	if n := len(a.middleware.seen()); n > 10 {
		t.Errorf("the middleware was asked %d times about one viewer", n)
	}
}
