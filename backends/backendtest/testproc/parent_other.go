//go:build !linux

package testproc

import "os/exec"

// endWithParent does nothing: other kernels have no signal for this.
func endWithParent(*exec.Cmd) {}
