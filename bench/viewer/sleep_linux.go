package viewer

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// newSleeper returns a function that sleeps for a duration to some microseconds, and one that ends it. The runtime's timers round up
// to a millisecond when nothing else happens, and a system call that sleeps keeps a processor from other goroutines.
func newSleeper() (sleep func(time.Duration), end func(), err error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("create a timer: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timer")
	expired := make([]byte, 8)
	sleep = func(d time.Duration) {
		if d <= 0 {
			return
		}
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
		if err := unix.TimerfdSettime(fd, 0, &at, nil); err != nil {
			time.Sleep(d)
			return
		}
		_, _ = timer.Read(expired) // if it ends early, the scheduler looks again
	}
	return sleep, func() { _ = timer.Close() }, nil
}
