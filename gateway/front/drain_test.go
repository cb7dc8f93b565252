package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway"
	"usher/gateway/gatewaytest"
)

// connectionAsk is a request on a connection, at a time since the drain began.
type connectionAsk struct {
	at   time.Duration
	path string
	// isLast is whether the response says that the connection ends with it.
	isLast bool
}

// TestServer_Drain_AnswersEachConnection drains with one connection, for drain.readiness_delay=5s and drain.timeout=30s. The
// listener is closed 5s after the drain began.
func TestServer_Drain_AnswersEachConnection(t *testing.T) {
	eachFront(t, testDrainAnswersEachConnection)
}

func testDrainAnswersEachConnection(t *testing.T, f frontKind) {
	t.Parallel()
	const slow = 8 * time.Second // of a request for /slow
	tests := map[string]struct {
		opened time.Duration // since the drain began
		asks   []connectionAsk
		closed time.Duration // after the last request
	}{
		"it asks before balancers have noticed":       {-time.Second, []connectionAsk{{-time.Second, "/fast", false}, {2 * time.Second, "/fast", true}}, 2 * time.Second},
		"it asks as late as it can":                   {-time.Second, []connectionAsk{{-time.Second, "/fast", false}, {4999 * time.Millisecond, "/fast", true}}, 4999 * time.Millisecond},
		"it is kept and silent":                       {-time.Second, []connectionAsk{{-time.Second, "/fast", false}}, 5 * time.Second},
		"it is new at the end, and asks late":         {4900 * time.Millisecond, []connectionAsk{{9800 * time.Millisecond, "/fast", true}}, 9800 * time.Millisecond},
		"it is new at the end, and never asks":        {4900 * time.Millisecond, nil, 9900 * time.Millisecond},
		"it is older, and never asks":                 {-time.Second, nil, 5 * time.Second},
		"its response was begun before the drain":     {-time.Second, []connectionAsk{{-time.Second, "/slow", false}, {10 * time.Second, "/fast", true}}, 10 * time.Second},
		"its response was begun before, and it stays": {-time.Second, []connectionAsk{{-time.Second, "/slow", false}}, -time.Second + slow + 5*time.Second},
		"its response is slow":                        {0, []connectionAsk{{4 * time.Second, "/slow", true}}, 4*time.Second + slow},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newMemoryServer(t, f, func(c *gateway.Config) { c.Drain.ReadinessDelay = 5 * time.Second }, func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/slow") {
						advance(slow)
					}
					return gatewaytest.OriginResponse(r, int64(len("served")), strings.NewReader("served")), nil
				})
				began := time.Now().Add(time.Minute)
				time.AfterFunc(time.Until(began), b.stop)
				until := func(at time.Duration) { advance(time.Until(began.Add(at))) }

				until(test.opened)
				conn, err := b.Dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				reader := bufio.NewReader(conn)
				for _, a := range test.asks {
					until(a.at)
					if isLast, err := askOnce(conn, reader, "/~"+b.ticket+"/play/a001"+a.path); err != nil || isLast != a.isLast {
						t.Errorf("%v after the drain began: %v, the last response: %t; want %t", a.at, err, isLast, a.isLast)
					}
				}
				if _, err := reader.ReadByte(); !errors.Is(err, io.EOF) {
					t.Errorf("after the last response: %v", err)
				}
				// The drain looks once an interval.
				if got := time.Since(began); got < test.closed || got > test.closed+time.Second/10 {
					t.Errorf("closed %v after the drain began, want %v", got, test.closed)
				}
				<-b.ended
				if got, want := time.Since(began), max(5*time.Second, test.closed); got < want || got > want+time.Second/10 {
					t.Errorf("ended %v after the drain began, want %v", got, want)
				}
			})
		})
	}
}

// askOnce requests once, and reports whether the response says that the connection ends.
func askOnce(conn net.Conn, reader *bufio.Reader, path string) (isLast bool, err error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: tv\r\n\r\n", path); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return false, err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "served" {
		err = fmt.Errorf("answered %d %q", resp.StatusCode, body)
	}
	return resp.Close, errors.Join(err, resp.Body.Close())
}

// TestServer_Drain_HTTP2 drains with a connection that serves requests, and with one whose client has not asked yet.
func TestServer_Drain_HTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _, client := newTLSMemoryServer(t, func(c *gateway.Config) { c.Drain.ReadinessDelay = 2 * time.Second },
			func(r *http.Request) (*http.Response, error) {
				return gatewaytest.OriginResponse(r, int64(len(segment)), strings.NewReader(segment)), nil
			})
		transport, _ := client.Transport.(*http.Transport)
		dials := 0
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			return b.Dial(ctx, network, address)
		}
		wantServed := func(wantDials int) {
			t.Helper()
			code, body := status(t, client, "https://tv/~"+b.ticket+"/play/a001/seg-17.ts")
			if code != http.StatusOK || body != segment || dials != wantDials {
				t.Errorf("got %d %q over %d connections; want them served over %d", code, body, dials, wantDials)
			}
		}
		wantServed(1)
		wantServed(1)
		b.stop()
		advance(time.Second)
		wantServed(1) // with GOAWAY
		synctest.Wait()
		wantServed(2)

		advance(900 * time.Millisecond)
		raw, err := b.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		silent := tls.Client(raw, &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "tv", NextProtos: []string{"h2"},
		})
		go func() {
			_, _ = io.WriteString(silent, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		}()
		opened := time.Now()
		if _, err := io.Copy(io.Discard, silent); err != nil {
			t.Errorf("the end of the connection: %v", err)
		}
		if got := time.Since(opened); got < 5*time.Second || got > 5*time.Second+time.Second/10 {
			t.Errorf("a connection without a request was closed after %v, want 5s", got)
		}
	})
}
