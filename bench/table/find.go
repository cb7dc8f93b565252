package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoUsher is wrapped by FindUsher's error if there is none.
var ErrNoUsher = errors.New("usher was not found: give its path, or start the harness in Usher's source")

// FindUsher returns the program: the one beside this program, the one in PATH, or one that it builds into folder if the harness
// was started in Usher's source.
func FindUsher(ctx context.Context, folder string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if file, err := exec.LookPath(filepath.Join(filepath.Dir(self), "usher")); err == nil {
			return file, nil
		}
	}
	if file, err := exec.LookPath("usher"); err == nil {
		return file, nil
	}
	source := module(ctx)
	if source == "" {
		return "", ErrNoUsher
	}
	file := filepath.Join(folder, "usher")
	build := exec.CommandContext(ctx, "go", "build", "-o", file, "./cmd/usher")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build usher: %w: %s", err, out)
	}
	return file, nil
}
