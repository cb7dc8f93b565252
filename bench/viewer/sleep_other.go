//go:build !linux

package viewer

import "time"

func sleep(d time.Duration) { time.Sleep(d) }
