//go:build !race

package plain

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostUnannounced is how much a write may copy, in bytes, of which the scheduler is not told: some 50 µs of work.
const mostUnannounced = 64 << 10

// tryRead reads what has arrived on a socket that does not block. The scheduler is not told: see the package's doc.
func tryRead(fd uintptr, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))) //nolint:gosec // audited: p is kept for the call
	return int(n), errno
}

// tryWrite writes what a socket takes that does not block.
func tryWrite(fd uintptr, parts *[3][]byte) (int, unix.Errno) {
	var vectors [len(parts)]unix.Iovec
	count, size := 0, 0
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		vectors[count].Base = unsafe.SliceData(p) //nolint:gosec // audited: a pointer, with p's length
		vectors[count].SetLen(len(p))
		count, size = count+1, size+len(p)
	}
	if size > mostUnannounced {
		return announcedWrite(fd, parts)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vectors)), uintptr(count)) //nolint:gosec // audited: as above
	return int(n), errno
}
