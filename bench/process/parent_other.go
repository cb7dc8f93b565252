//go:build !linux

package process

import "syscall"

// endWithParent does nothing: other kernels have no signal for this.
func endWithParent(*syscall.SysProcAttr) {}
