package backendtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// WantRequest compares the bytes of one request with a file, in which \n stands for \r\n and host for the server's address:
// Go's own server changes the case of header names, and not every middleware tolerates another case. ask sends the request
// to address ("http://127.0.0.1:1234"), which answers 200 with the body.
func WantRequest(t *testing.T, file, host, body string, ask func(address string)) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	defer func() { _ = listener.Close() }()
	sent := make(chan string, 1)
	go func() { sent <- answerOnce(listener, body) }()
	ask("http://" + listener.Addr().String())
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read the expected request: %v", err)
	}
	got := strings.ReplaceAll(strings.ReplaceAll(<-sent, listener.Addr().String(), host), "\r\n", "\n")
	if got != string(want) {
		t.Errorf("got the request\n%s\nwant\n%s", got, want)
	}
}

// answerOnce answers one request and returns its head.
func answerOnce(listener net.Listener, body string) string {
	conn, err := listener.Accept()
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	var head strings.Builder
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			break
		}
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	return head.String()
}
