package socket_test

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"usher/backends/socket"
)

// pair returns the ends of a connection.
func pair(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if here, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	if there, err = listener.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// raw returns the connection as callbacks get it.
func raw(t *testing.T, c *net.TCPConn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read waits until something can be read, and returns it, or the first error.
func read(t *testing.T, c *net.TCPConn, p []byte) (n int, errno unix.Errno) {
	t.Helper()
	err := raw(t, c).Read(func(fd uintptr) bool {
		n, errno = socket.Read(fd, p)
		return errno != unix.EAGAIN
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, errno
}

// TestRead reads from a silent connection, then text, then the end.
func TestRead(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	var errno unix.Errno
	if err := raw(t, here).Read(func(fd uintptr) bool { _, errno = socket.Read(fd, make([]byte, 1)); return true }); err != nil || errno != unix.EAGAIN {
		t.Fatalf("a silent connection: %v %v, want EAGAIN", errno, err)
	}
	if _, err := io.WriteString(there, "hello"); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 8)
	if n, errno := read(t, here, text); errno != 0 || string(text[:n]) != "hello" {
		t.Fatalf("got %q %v, want hello", text[:n], errno)
	}
	there.Close()
	if n, errno := read(t, here, text); n != 0 || errno != 0 {
		t.Errorf("the end: %d bytes %v, want none and no error", n, errno)
	}
}

// TestWriteParts writes parts of all sizes to a reader, and waits while the connection is full.
func TestWriteParts(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than a connection holds
	for name, parts := range map[string][socket.MaxParts][]byte{
		"one":          {[]byte("head")},
		"all":          {[]byte("head"), []byte("body"), []byte("\r\n")},
		"an empty one": {[]byte("head"), nil, []byte("\r\n")},
		"the second":   {nil, []byte("body")},
		"one long":     {long},
		"two long":     {[]byte("head"), long, []byte("\r\n")},
		"64 kB":        {long[:32<<10], long[:32<<10]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := pair(t)
			want := bytes.Join(parts[:], nil)
			got := make(chan []byte, 1)
			go func() {
				text, _ := io.ReadAll(there)
				got <- text
			}()
			err := raw(t, here).Write(func(fd uintptr) bool {
				for len(parts[0])+len(parts[1])+len(parts[2]) > 0 {
					n, errno := socket.WriteParts(fd, &parts)
					if errno == unix.EAGAIN {
						return false
					}
					if errno != 0 {
						t.Errorf("got %v", errno)
						return true
					}
					for i, p := range parts {
						k := min(n, len(p))
						parts[i], n = p[k:], n-k
					}
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			here.Close()
			if text := <-got; !bytes.Equal(text, want) {
				t.Errorf("%d bytes arrived, want the %d that were written", len(text), len(want))
			}
		})
	}
}

// TestWrite_Closed writes to a peer that is gone, which must not end the process by a signal.
func TestWrite_Closed(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	if err := there.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	there.Close() // resets
	if _, errno := read(t, here, make([]byte, 1)); errno != unix.ECONNRESET {
		t.Fatalf("read: %v, want ECONNRESET", errno)
	}
	var errno unix.Errno
	if err := raw(t, here).Write(func(fd uintptr) bool { _, errno = socket.Write(fd, []byte("x")); return true }); err != nil || errno != unix.EPIPE {
		t.Errorf("write: %v %v, want EPIPE", errno, err)
	}
}

// BenchmarkRead compares a look at a silent connection with one of which the scheduler is told.
func BenchmarkRead(b *testing.B) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	c, err := net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r, err := c.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	for name, read := range map[string]func(uintptr, []byte){
		"untold": func(fd uintptr, p []byte) { _, _ = socket.Read(fd, p) },
		"told":   func(fd uintptr, p []byte) { _, _ = syscall.Read(int(fd), p) },
	} {
		b.Run(name, func(b *testing.B) {
			p := make([]byte, 1<<10)
			b.ReportAllocs()
			for b.Loop() {
				_ = r.Read(func(fd uintptr) bool { read(fd, p); return true })
			}
		})
	}
}
