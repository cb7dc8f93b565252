package testproc

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the command when the thread that starts it ends, or its process.
func endWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
