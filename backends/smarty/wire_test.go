package smarty

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// Go's own server rewrites header names; middlewares are not all that tolerant, so the bytes are looked at.
func TestTheBytesOnTheWire(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	defer listener.Close()
	sent := make(chan string, 1)
	go func() { sent <- answerOnce(listener) }()

	b := newBackend(t, "http://"+listener.Addr().String(), func(c *Config) { c.Send = []string{"name", "ip"} })
	_, err = b.Check(t.Context(), &backends.Request{
		Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}, Channel: "a001",
		Query: "token=a%2Bb&ip=10.0.0.1&name=a002&token=2", Path: "/play/a001/index.m3u8", Scheme: "https",
		Host: "live.example.com", UserAgent: "VLC/3.0.20", Address: netip.MustParseAddr("2001:db8::7"),
		Headers: []backends.Header{{Name: "Cookie", Value: "sid=1"}},
	})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	want, err := os.ReadFile("testdata/request.txt")
	if err != nil {
		t.Fatalf("read the expected request: %v", err)
	}
	got := strings.ReplaceAll(<-sent, listener.Addr().String(), "smarty.example.com")
	if diff := cmp.Diff(string(want), strings.ReplaceAll(got, "\r\n", "\n")); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// answerOnce lets one request in, and returns its head.
func answerOnce(listener net.Listener) string {
	conn, err := listener.Accept()
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	var head strings.Builder
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			break
		}
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"error\": 0}")
	return head.String()
}
