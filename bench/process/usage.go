package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Usage is what processes used.
type Usage struct {
	// CPU is user and system time.
	CPU time.Duration
	// Resident is the memory in RAM in bytes. Pages that several of the processes share count once (PSS).
	Resident uint64
}

// ErrNotLinux is returned where there is no /proc.
var ErrNotLinux = errors.New("the use of a process can be read on Linux only")

// tick is the unit of times in /proc, which is the same on all of Linux's machines.
const tick = 10 * time.Millisecond

// CPU returns the time that the processes and all that descend from them used, those that have ended and were waited for too.
func CPU(pids ...int) (time.Duration, error) {
	all, err := tree(pids)
	var sum time.Duration
	for _, s := range all {
		sum += s.cpu
	}
	return sum, err
}

// Measure returns what the processes and all that descend from them use. It is slower than CPU: the kernel walks all pages.
func Measure(pids ...int) (Usage, error) {
	all, err := tree(pids)
	var u Usage
	for _, s := range all {
		u.CPU += s.cpu
		u.Resident += resident(s.pid)
	}
	return u, err
}

// stat is a line of /proc/PID/stat.
type stat struct {
	pid, parent int
	cpu         time.Duration
}

// tree returns the processes and their descendants that live.
func tree(roots []int) ([]stat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		return nil, ErrNotLinux
	}
	all := make(map[int]stat, len(files))
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if s, err := parseStat(line); err == nil {
			all[s.pid] = s
		}
	}
	var kept []stat
	for _, s := range all {
		if descends(all, s.pid, roots) {
			kept = append(kept, s)
		}
	}
	return kept, nil
}

// descends reports whether a process is one of roots or a descendant of one.
func descends(all map[int]stat, pid int, roots []int) bool {
	const deepest = 64 // parents change while they are read
	for range deepest {
		if slices.Contains(roots, pid) {
			return true
		}
		if pid = all[pid].parent; pid == 0 {
			return false
		}
	}
	return false
}

var errStat = errors.New("not a line of /proc/PID/stat")

// parseStat reads a line of /proc/PID/stat. The name in it may hold spaces and brackets.
func parseStat(line []byte) (stat, error) {
	const parent, user, system, childUser, childSystem = 1, 11, 12, 13, 14 // fields after the name, from 0
	first, end := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ')')
	if first < 0 || end < first {
		return stat{}, errStat
	}
	fields := bytes.Fields(line[end+1:])
	if len(fields) <= childSystem {
		return stat{}, errStat
	}
	numbers := [][]byte{line[:first], fields[parent], fields[user], fields[system], fields[childUser], fields[childSystem]}
	var values [6]int
	for i, text := range numbers {
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return stat{}, fmt.Errorf("%w: %w", errStat, err)
		}
		values[i] = n
	}
	ticks := values[2] + values[3] + values[4] + values[5]
	return stat{pid: values[0], parent: values[1], cpu: time.Duration(ticks) * tick}, nil
}

// Peak returns the most memory in RAM that a process had at any time, in bytes.
func Peak(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return kilobytesOf(text, "VmHWM:"), nil
}

// resident returns the memory of a process, 0 if it has ended.
func resident(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	return kilobytesOf(text, "Pss:")
}

// kilobytesOf returns the value of a line such as "Pss:  42 kB" in bytes, 0 without it.
func kilobytesOf(text []byte, name string) uint64 {
	for line := range bytes.Lines(text) {
		if size, ok := bytes.CutPrefix(line, []byte(name)); ok {
			kilobytes, _ := strconv.ParseUint(string(bytes.TrimSuffix(bytes.TrimSpace(size), []byte(" kB"))), 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}

// Machine returns the time that all processes of the machine have used, and what a hypervisor took from them.
func Machine() (time.Duration, error) {
	const user, nice, system, irq, softIRQ, steal = 1, 2, 3, 6, 7, 8 // fields of the first line
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, ErrNotLinux
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) <= steal {
		return 0, ErrNotLinux
	}
	var ticks time.Duration
	for _, i := range []int{user, nice, system, irq, softIRQ, steal} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += time.Duration(n)
	}
	return ticks * tick, nil
}
