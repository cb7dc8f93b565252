package viewer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/wire"
)

// playlistConn is a connection to a server that answers each request with one playlist, without an allocation.
type playlistConn struct {
	net.Conn

	answer string
}

func (playlistConn) Write(b []byte) (int, error)  { return len(b), nil }
func (c playlistConn) Read(b []byte) (int, error) { return copy(b, c.answer), nil }
func (playlistConn) SetDeadline(time.Time) error  { return nil }
func (playlistConn) Close() error                 { return nil }

// newReload returns what reloads a playlist of a kilobyte for one viewer in light mode, time after time.
func newReload(t testing.TB) (e *engine, reload func()) {
	t.Helper()
	body := "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n" + strings.Repeat("#EXTINF:2.000,\nhigh-1.ts?ticket=0123456789abcdef\n", 20)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	c := oneTarget(1)
	c.Light, c.Forwarded, c.TraceShare = true, netip.MustParsePrefix("10.0.0.0/8"), 0
	c.Behaviour.Watch, c.Behaviour.Zap = 1e6*time.Hour, 1e6*time.Hour
	e = newEngine(t.Context(), c, record.New(time.Now()), wire.Config{
		Dial: func(context.Context, netip.Addr, string) (net.Conn, error) { return playlistConn{answer: answer}, nil },
	})
	e.arrive(0, 0)
	w, v := newWorker(e), &e.viewers[0]
	reload = func() {
		v.due = time.Since(e.start)
		v.reload = v.due
		w.turn(0, v)
	}
	reload() // opens
	reload()
	return e, reload
}

func TestWorker_Reload_AllocatesNothing(t *testing.T) {
	e, reload := newReload(t)
	defer e.client.Close()
	if got := testing.AllocsPerRun(200, reload); got != 0 {
		t.Errorf("%v allocations", got)
	}
	m := e.recorder.Finish(time.Now())
	if o := m.Operations["playlist"]; o == nil || o.Failed() > 0 || o.Requests < 200 {
		t.Errorf("%+v, want 200 reloads", o)
	}
}

// BenchmarkWorker_Reload measures the generator's own work for a playlist, without the system's.
func BenchmarkWorker_Reload(b *testing.B) {
	e, reload := newReload(b)
	defer e.client.Close()
	b.ReportAllocs()
	for b.Loop() {
		reload()
	}
}
