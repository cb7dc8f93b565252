// Package socket reads and writes stream sockets that do not block, from the callbacks of a [syscall.RawConn].
//
// Decided: on Linux the scheduler is not told of the system calls that read, or write up to 64 kB. They do not block, and take less
// time than it takes another thread to be handed the processor whenever the machine runs something else. In alternation, by wrk
// with 64 connections, medians and ranges of 5 rounds: 29 % (11 to 38) more playlists and 25 % (19 to 30) more questions of an edge, at
// a fifth to a quarter less processor time and no worse p99. The race detector knows what it is to see of a socket from the usual calls
// only, so its builds make those.
package socket

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxParts is how many parts one write has at most.
const MaxParts = 3

// Read reads what has arrived. The error is EAGAIN if nothing has. At the stream's end it reads 0 bytes.
func Read(fd uintptr, p []byte) (n int, errno unix.Errno) {
	for {
		if n, errno = read(fd, p); errno != unix.EINTR {
			return n, errno
		}
	}
}

// Write writes what the socket takes. The error is EAGAIN if it takes nothing.
func Write(fd uintptr, p []byte) (n int, errno unix.Errno) {
	for {
		if n, errno = write(fd, p); errno != unix.EINTR {
			return n, errno
		}
	}
}

// WriteParts writes what the socket takes of the parts, one after the other, as Write does. Parts may be empty, but not all.
func WriteParts(fd uintptr, parts *[MaxParts][]byte) (n int, errno unix.Errno) {
	if len(parts[1])+len(parts[2]) == 0 {
		return Write(fd, parts[0])
	}
	for {
		if n, errno = writeParts(fd, parts); errno != unix.EINTR {
			return n, errno
		}
	}
}

func announcedWrite(fd uintptr, p []byte) (int, unix.Errno) {
	return withErrno(syscall.Write(int(fd), p))
}

func announcedWriteParts(fd uintptr, parts *[MaxParts][]byte) (int, unix.Errno) {
	return withErrno(unix.Writev(int(fd), parts[:]))
}

func withErrno(n int, err error) (int, unix.Errno) {
	errno, _ := errors.AsType[unix.Errno](err)
	return n, errno
}
