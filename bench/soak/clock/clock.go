package clock

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Variable is the environment variable that names a node's clock file to a program of Build.
const Variable = "BENCH_CLOCK_USHER"

// What the replaced time.Now does beside. It makes no system call: the runtime calls it where none is allowed.
const (
	original = "sec, nsec, mono := runtimeNow()\n"
	replaced = original + "\tsec += *benchStep\n"
)

// stepFile is added to package time. A program without the variable has the machine's clock.
const stepFile = `package time

import (
	"syscall"
	"unsafe"
)

var benchStep = mapBenchStep()

func mapBenchStep() *int64 {
	name, isNamed := syscall.Getenv("` + Variable + `")
	if !isNamed {
		return new(int64)
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("the clock file " + name + ": " + err.Error())
	}
	mapped, err := syscall.Mmap(fd, 0, int(unsafe.Sizeof(int64(0))), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("the clock file " + name + ": " + err.Error())
	}
	_ = syscall.Close(fd)
	return (*int64)(unsafe.Pointer(unsafe.SliceData(mapped)))
}
`

// ErrUnknownGo is wrapped by Build's error for a release of Go whose time.Now reads the clock in another way.
var ErrUnknownGo = errors.New("this release of go reads the clock in a way that is not known here")

// Usher is the package of the program usher.
const Usher = "usher/cmd/usher"

// Build builds a program of a main package in folder, with a clock that can be set. It needs Go, and the package's module around it.
// The first time it takes minutes: all packages are built anew.
func Build(ctx context.Context, folder, pkg string) (program string, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), original) != 1 {
		return "", fmt.Errorf("%w: %s", ErrUnknownGo, source)
	}
	overlay := map[string]map[string]string{"Replace": {}}
	add := func(name, content string) error {
		file := filepath.Join(folder, name)
		overlay["Replace"][filepath.Join(filepath.Dir(source), name)] = file
		return os.WriteFile(file, []byte(content), 0o600)
	}
	err = errors.Join(add("time.go", strings.Replace(string(text), original, replaced, 1)), add("bench_step.go", stepFile))
	list, _ := json.Marshal(overlay) // of strings
	list, file := append(list, '\n'), filepath.Join(folder, "overlay.json")
	if err = errors.Join(err, os.WriteFile(file, list, 0o600)); err != nil {
		return "", err
	}
	program = filepath.Join(folder, filepath.Base(pkg))
	build := exec.CommandContext(ctx, "go", "build", "-overlay", file, "-o", program, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return program, nil
}

// IsSettable reports whether a program is one of Build.
func IsSettable(program string) bool {
	text, err := os.ReadFile(program)
	return err == nil && bytes.Contains(text, []byte(Variable))
}

// File is a node's clock.
type File struct{ name string }

// Open makes a clock file. Its clock is the machine's until it is set.
func Open(name string) (File, error) {
	f := File{name}
	return f, f.Set(0)
}

// Environment returns the variable with its value for the node's process.
func (f File) Environment() string { return Variable + "=" + f.name }

// Set sets the clock to that much after the machine's, in whole seconds. It holds at once, also for a process that runs.
func (f File) Set(after time.Duration) error {
	b := binary.NativeEndian.AppendUint64(nil, uint64(int64(after/time.Second)))
	file, err := os.OpenFile(f.name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b) // in place: the process has mapped the file
	return errors.Join(err, file.Close())
}
