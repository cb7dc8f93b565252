//go:build !linux || race

package socket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func read(fd uintptr, p []byte) (int, unix.Errno) { return withErrno(syscall.Read(int(fd), p)) }

func write(fd uintptr, p []byte) (int, unix.Errno) { return announcedWrite(fd, p) }

func writeParts(fd uintptr, parts *[MaxParts][]byte) (int, unix.Errno) {
	return announcedWriteParts(fd, parts)
}
