package viewer

import (
	"syscall"
	"time"
)

// sleep sleeps by the system's clock, because the runtime's timers round up to a millisecond when nothing else happens.
func sleep(d time.Duration) {
	if d > 0 {
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil) // a signal ends it early, and the scheduler looks again
	}
}
