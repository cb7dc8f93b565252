//go:build !race

package socket

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostUnannounced is how much a write may copy, in bytes, of which the scheduler is not told: some 50 µs of work.
const mostUnannounced = 64 << 10

func read(fd uintptr, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0) //nolint:gosec // audited: p is kept for the call
	return int(n), errno
}

func write(fd uintptr, p []byte) (int, unix.Errno) {
	if len(p) > mostUnannounced {
		return announcedWrite(fd, p)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0) //nolint:gosec // audited: as above
	return int(n), errno
}

func writeParts(fd uintptr, parts *[MaxParts][]byte) (int, unix.Errno) {
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
		return announcedWriteParts(fd, parts)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vectors)), uintptr(count)) //nolint:gosec // audited: as above
	return int(n), errno
}
