package listener

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// FuzzConn_Read begins connections of a load balancer with any bytes. Whatever they say, the bytes behind a
// header arrive as they are, and no connection is counted after its end.
func FuzzConn_Read(f *testing.F) {
	for _, h := range []*proxyproto.Header{
		proxyproto.HeaderProxyFromAddrs(1, &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 80}),
		proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 80}),
		{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC},
	} {
		text, err := h.Format()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 9999999 1\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, first []byte) {
		const request = "GET /what-follows HTTP/1.1\r\n\r\n"
		balancer := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
		l := New(nil, Options{
			ProxyProtocol: ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
			Limits:        Limits{MaxConnections: 10, MaxConnectionsPerAddress: 10}, HeaderTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
		})
		c := l.wrap(&spoken{rest: slices.Concat(first, []byte(request)), from: balancer})
		if !l.enterAll(c) {
			t.Fatal("the first connection was refused")
		}
		text, err := io.ReadAll(c)
		if address, isIP := addressOf(c); isIP && (!address.IsValid() || address.Is4In6()) { // a socket's is none
			t.Errorf("address %v", c.RemoteAddr())
		}
		sent := string(first) + request
		if err == nil && len(text) > 0 && sent[len(sent)-len(text):] != string(text) {
			t.Errorf("%q: read %q", sent, text)
		}
		_ = c.Close()
		if len(l.open.conns) != 0 || len(l.bySource) != 0 {
			t.Errorf("after its end %d and %d are counted", len(l.open.conns), len(l.bySource))
		}
	})
}

// spoken is a connection whose other end has said all that it says.
type spoken struct {
	net.Conn
	rest []byte
	from net.Addr
}

func (s *spoken) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *spoken) RemoteAddr() net.Addr             { return s.from }
func (s *spoken) LocalAddr() net.Addr              { return s.from }
func (s *spoken) Close() error                     { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }
func (s *spoken) SetDeadline(time.Time) error      { return nil }
