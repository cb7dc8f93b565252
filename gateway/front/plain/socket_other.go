//go:build !linux || race

package plain

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// tryRead reads what has arrived on a socket that does not block.
func tryRead(fd uintptr, p []byte) (int, unix.Errno) { return withErrno(syscall.Read(int(fd), p)) }

// tryWrite writes what a socket takes that does not block.
func tryWrite(fd uintptr, parts *[3][]byte) (int, unix.Errno) { return announcedWrite(fd, parts) }
