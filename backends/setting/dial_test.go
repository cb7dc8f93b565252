package setting

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errFirst  = errors.New("the first does not answer")
	errSecond = errors.New("the second does not answer")
)

// trial is what comes of one address, and when. A time of -1: nothing, until the caller gives up.
type trial struct {
	after time.Duration
	err   error
}

func TestDialFirst(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trials []trial
		after  time.Duration
		by     int // the index of the address; -1: none
		err    error
	}{
		"one":                              {[]trial{{time.Second, nil}}, time.Second, 0, nil},
		"the first in time":                {[]trial{{stagger - 1, nil}, {0, nil}}, stagger - 1, 0, nil},
		"the first fails at once":          {[]trial{{0, errFirst}, {0, nil}}, 0, 1, nil},
		"the first fails late":             {[]trial{{time.Second, errFirst}, {2 * time.Second, nil}}, stagger + 2*time.Second, 1, nil},
		"the first never answers":          {[]trial{{-1, nil}, {time.Millisecond, nil}}, stagger + time.Millisecond, 1, nil},
		"two never answer":                 {[]trial{{-1, nil}, {-1, nil}, {0, nil}}, 2 * stagger, 2, nil},
		"the first is late, but before":    {[]trial{{2 * stagger, nil}, {time.Hour, nil}}, 2 * stagger, 0, nil},
		"both at last":                     {[]trial{{time.Second, nil}, {time.Second - stagger, nil}}, time.Second, -2, nil},
		"none":                             {[]trial{{0, errFirst}, {time.Second, errSecond}}, time.Second, -1, errFirst},
		"none, and the last fails at once": {[]trial{{time.Second, errFirst}, {0, errSecond}}, time.Second, -1, errSecond},
		"none ever":                        {[]trial{{-1, nil}, {-1, nil}}, time.Minute, -1, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var to []netip.Addr
				ends := make([]net.Conn, len(tt.trials))
				for i := range tt.trials {
					to = append(to, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begun := time.Now()
				conn, err := dialFirst(ctx, to, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
					i := a.As4()[3]
					if tt.trials[i].after < 0 {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					time.Sleep(tt.trials[i].after) // also of one that takes no notice of ctx
					if tt.trials[i].err != nil {
						return nil, tt.trials[i].err
					}
					var own net.Conn
					own, ends[i] = net.Pipe()
					return own, nil
				})
				if took := time.Since(begun); took != tt.after || !errors.Is(err, tt.err) || (conn != nil) != (tt.err == nil) {
					t.Errorf("after %s: %v, error %v; want after %s, error %v", took, conn, err, tt.after, tt.err)
				}
				time.Sleep(2 * time.Hour) // all trials have ended
				synctest.Wait()
				open := -1
				for i, end := range ends {
					if end == nil {
						continue
					}
					_ = end.SetReadDeadline(time.Now())
					if _, err := end.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
						if open >= 0 {
							t.Errorf("%d and %d are open", open, i)
						}
						open = i
					}
				}
				if open != tt.by && (tt.by != -2 || open < 0) {
					t.Errorf("that of address %d is open, want %d", open, tt.by)
				}
				if conn != nil {
					_ = conn.Close()
				}
			})
		})
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
