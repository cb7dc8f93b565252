package peers

import "syscall"

// openFiles returns how many files a process may have open.
func openFiles() int {
	const most = 1 << 16
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Max, most))
}
