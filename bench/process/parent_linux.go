package process

import "syscall"

// endWithParent has the kernel end the process when the thread that starts it ends, or its process.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGTERM }
