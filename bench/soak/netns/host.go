package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"usher/bench/process"
)

// Host is a network namespace and a mount namespace. Safe for concurrent use.
type Host struct {
	Name    string
	Address netip.Addr

	life context.Context // ends with the network
	// holder is a process that does nothing but keep the namespaces.
	holder *process.Process
	tun    *os.File
}

// start makes the namespaces, and the interface in them.
func (h *Host) start(ctx context.Context) (err error) {
	h.holder, err = process.Start(exec.CommandContext(context.WithoutCancel(ctx), "unshare", "--net", "--mount", "--propagation", "private", "--",
		"setpriv", "--pdeathsig", "KILL", "sleep", "infinity"))
	if err != nil {
		return err
	}
	if err := h.awaitHolder(ctx); err != nil {
		return err
	}
	if err := h.Do(func() (err error) { h.tun, err = openTUN("eth0"); return err }); err != nil {
		return fmt.Errorf("make eth0: %w", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"addr", "add", h.Address.String() + "/24", "dev", "eth0"}, {"link", "set", "eth0", "up"},
	} {
		if err := h.Run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// awaitHolder waits until the holder is in its own namespaces, which it enters after its start.
func (h *Host) awaitHolder(ctx context.Context) error {
	const timeout, pause = 10 * time.Second, time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		name, err := os.ReadFile(h.proc("comm"))
		if err == nil && string(name) == "sleep\n" {
			return nil
		}
		select {
		case <-h.holder.Ended():
			return fmt.Errorf("unshare ended: %s", h.holder.Output())
		case <-ctx.Done():
			return fmt.Errorf("unshare does not start: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

func (h *Host) proc(name string) string { return "/proc/" + strconv.Itoa(h.holder.PID()) + "/" + name }

// Path returns where this process finds a file of the host, such as one in a file system that only the host has mounted.
func (h *Host) Path(file string) string { return h.proc("root") + file }

// Command returns a command that runs in the host. It becomes the program itself, by the same process id, and ends with this
// process even while it is stopped.
func (h *Host) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	all := append([]string{
		"--net=" + h.proc("ns/net"), "--mount=" + h.proc("ns/mnt"), "--", "setpriv", "--pdeathsig", "KILL", program,
	}, args...)
	return exec.CommandContext(context.WithoutCancel(ctx), "nsenter", all...)
}

// Run runs a command in the host until it ends.
func (h *Host) Run(ctx context.Context, program string, args ...string) error {
	if out, err := h.Command(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", program, args, err, out)
	}
	return nil
}

// Do runs f on a thread that is in the host's network. Sockets that f makes belong to it, also afterwards.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and nothing else runs in the host
		err := enterNetwork(h.proc("ns/net"))
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// dialTimeout bounds the wait for a connection, as players do.
const dialTimeout = 4 * time.Second

// Dial connects from the host to an IP address and port. It ends with the network too: http.Transport dials on for a request that is
// over.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(h.life, cancel)() //nolint:contextcheck // either of two contexts ends it
	err = h.Do(func() (err error) {
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens in the host.
func (h *Host) Listen(ctx context.Context, address string) (l net.Listener, err error) {
	err = h.Do(func() (err error) {
		var config net.ListenConfig
		l, err = config.Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

// receive gives a packet to the host. One that its interface does not take is lost, as on a wire.
func (h *Host) receive(packet []byte) { _, _ = h.tun.Write(packet) }

func (h *Host) close() {
	if h.tun != nil {
		_ = h.tun.Close()
	}
	if h.holder != nil {
		h.holder.Stop()
	}
}
