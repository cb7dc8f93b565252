package process

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"usher/bench/result"
)

// Host describes the machine, as far as it says.
func Host() result.Host {
	h := result.Host{
		CPUs: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), System: runtime.GOOS, Go: runtime.Version(),
	}
	if kilobytes, err := strconv.ParseUint(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		h.Memory = kilobytes << 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.System += " " + strings.TrimSpace(string(release))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				h.Commit = s.Value
			}
		}
	}
	return h
}

// field returns the first value of a name in a file of lines "name : value".
func field(file, name string) string {
	text, _ := os.ReadFile(file) // empty on other systems
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
