//go:build !linux

package viewer

import "time"

// newSleeper returns a function that sleeps for a duration, and one that ends it.
func newSleeper() (sleep func(time.Duration), end func(), err error) {
	return time.Sleep, func() {}, nil
}
