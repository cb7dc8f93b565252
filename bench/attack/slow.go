package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"usher/bench/viewer/playlist"
)

// drip is the time between two bytes, or lines, of a connection that says little.
const drip = 5 * time.Second

func (t *target) slowHeaders(ctx context.Context, conn net.Conn) error {
	return dripping(ctx, conn, "GET "+t.playlist("bad-slow")+" HTTP/1.1\r\nHost: "+t.host+"\r\n", "X-More: and more\r\n")
}

func (t *target) slowBodies(ctx context.Context, conn net.Conn) error {
	return dripping(ctx, conn, "GET "+t.playlist("bad-slow")+" HTTP/1.1\r\nHost: "+t.host+"\r\nContent-Length: 1000000\r\n\r\n", "x")
}

// dripping writes a beginning, and then more again and again, until the server ends the connection.
func dripping(ctx context.Context, conn net.Conn, begin, more string) error {
	ended := discard(conn)
	for text := begin; ; text = more {
		if _, err := io.WriteString(conn, text); err != nil {
			_ = conn.Close()
			return <-ended
		}
		timer := time.NewTimer(drip)
		select {
		case <-timer.C:
		case err := <-ended:
			timer.Stop()
			return err
		case <-ctx.Done():
			timer.Stop()
			_ = conn.Close()
			return <-ended
		}
	}
}

// discard reads what the server sends, and tells when it has ended the connection.
func discard(conn net.Conn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		ended <- errors.Join(err, io.EOF)
	}()
	return ended
}

// slowReader asks for a segment and reads a hundred bytes a second.
func (t *target) slowReader(ctx context.Context, conn net.Conn) error {
	const buffer, bytes = 4096, 100
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		_ = tcp.SetReadBuffer(buffer)
	}
	if _, err := io.WriteString(conn, "GET "+t.segment+" HTTP/1.1\r\nHost: "+t.host+"\r\n\r\n"); err != nil {
		return err
	}
	for wait(ctx, time.Second) {
		if _, err := io.CopyN(io.Discard, conn, bytes); err != nil {
			return err
		}
	}
	return nil
}

// idle asks for nothing that a stranger gets, once, and then keeps the connection.
func (t *target) idle(_ context.Context, conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+t.host+"\r\n\r\n"); err != nil {
		return err
	}
	return <-discard(conn)
}

var errNoHTTP2 = errors.New("the server does not speak HTTP/2")

// reset opens streams of HTTP/2, a hundred at a time, and resets each at once. A server without HTTP/2 has no streams to reset: it is
// sent none.
func (t *target) reset(ctx context.Context, conn net.Conn) error {
	out := bufio.NewWriter(conn)
	f := http2.NewFramer(out, conn)
	_, _ = out.WriteString(http2.ClientPreface)
	_ = f.WriteSettings()
	if err := out.Flush(); err != nil {
		return err
	}
	first, err := f.ReadFrame()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoHTTP2, err)
	}
	if first.Header().Type != http2.FrameSettings {
		return errNoHTTP2
	}
	ended := discard(conn)
	err = t.resetStreams(ctx, out, f)
	_ = conn.Close()
	return errors.Join(err, <-ended)
}

func (t *target) resetStreams(ctx context.Context, out *bufio.Writer, f *http2.Framer) error {
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0) // so that the block is the same for each
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: t.host},
		{Name: ":path", Value: t.playlist("bad-reset")},
	} {
		if err := encoder.WriteField(field); err != nil {
			return fmt.Errorf("encode a request: %w", err)
		}
	}
	const burst, pause, last = 100, 50 * time.Millisecond, 1 << 30
	for id := uint32(1); id < last; {
		for range burst {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
			_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
			id += 2
		}
		if err := out.Flush(); err != nil {
			return err
		}
		t.resets.Add(burst)
		if !wait(ctx, pause) {
			return nil
		}
	}
	return nil
}

func (t *target) playlist(token string) string { return strings.ReplaceAll(t.path, "{token}", token) }

var errNoSegment = errors.New("no playlist lists a segment")

// findSegment opens a session as a viewer does, and returns the path and query of a segment.
func (t *target) findSegment(ctx context.Context) (string, error) {
	next := t.base + t.playlist("good-reader")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: t.secure}}
	defer client.CloseIdleConnections()
	const playlists = 2 // a multivariant one, and a media playlist
	for range playlists {
		text, at, err := fetch(ctx, client, next)
		if err != nil {
			return "", fmt.Errorf("open a session for slow readers: %w", err)
		}
		var list playlist.Playlist
		if err := list.Read(text); err != nil {
			return "", fmt.Errorf("open a session for slow readers: %w", err)
		}
		var found []byte
		switch {
		case len(list.Segments) > 0:
			found = list.Segments[0].URI
		case len(list.Variants) > 0:
			found = list.Lowest().URI
		default:
			return "", errNoSegment
		}
		u, err := at.Parse(string(found))
		if err != nil {
			return "", fmt.Errorf("open a session for slow readers: %w", err)
		}
		if next = u.String(); len(list.Segments) > 0 {
			return u.RequestURI(), nil
		}
	}
	return "", errNoSegment
}

// fetch returns a text, and where it was found.
func fetch(ctx context.Context, client *http.Client, address string) (text []byte, at *url.URL, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	const most = 1 << 20
	text, err = io.ReadAll(io.LimitReader(resp.Body, most))
	return text, resp.Request.URL, err
}
