// Lint checks a Dockerfile with BuildKit's own linter, and a compose file with Compose's own loader:
//
//	go run . ../../Dockerfile ../../compose/compose.yaml
//
// It is a module of its own, since both need more modules than the program.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "want a Dockerfile and a compose file")
		os.Exit(2)
	}
	failed := false
	for _, check := range []struct {
		path string
		run  func(string) error
	}{{os.Args[1], dockerfile}, {os.Args[2], compose}} {
		if err := check.run(check.path); err != nil {
			failed = true
			fmt.Fprintf(os.Stderr, "%s: %v\n", check.path, err)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// dockerfile parses all instructions, and fails at the linter's first warnings, at a last stage that runs as root, and at
// instructions that run a shell, which the image lacks.
func dockerfile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return err
	}
	warnings := 0
	rules := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
		warnings++
		fmt.Fprintf(os.Stderr, "%s: %v: %s: %s\n", path, at, rule, message)
	}})
	stages, _, err := instructions.Parse(parsed.AST, rules)
	if err != nil {
		return err
	}
	if warnings > 0 || len(parsed.Warnings) > 0 {
		return fmt.Errorf("%d warnings", warnings+len(parsed.Warnings))
	}
	return lastStage(stages[len(stages)-1])
}

// lastStage reports what the image's stage lacks, or does with a shell.
func lastStage(stage instructions.Stage) error {
	user, hasHealth, hasEntry := "", false, false
	for _, c := range stage.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.HealthCheckCommand:
			hasHealth = len(c.Health.Test) > 1 && c.Health.Test[0] == "CMD"
		case *instructions.EntrypointCommand:
			hasEntry = !c.PrependShell
		case *instructions.RunCommand:
			return fmt.Errorf("the last stage runs %v: it has no shell", c)
		}
	}
	var uid, gid int
	if n, _ := fmt.Sscanf(user, "%d:%d", &uid, &gid); n != 2 || uid == 0 || gid == 0 {
		return fmt.Errorf("USER %q: want two numbers above 0, which Kubernetes can tell from root", user)
	}
	if !hasHealth || !hasEntry {
		return fmt.Errorf("want HEALTHCHECK and ENTRYPOINT without a shell")
	}
	return nil
}

// compose loads the file as Compose does, and finds files that it names and that do not exist.
func compose(path string) error {
	ctx := context.Background()
	options, err := cli.NewProjectOptions([]string{path})
	if err != nil {
		return err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return err
	}
	for name, config := range project.Configs {
		if _, err := os.Stat(config.File); err != nil {
			return fmt.Errorf("configs.%s: %w", name, err)
		}
	}
	for name, service := range project.Services {
		if service.Build != nil {
			if _, err := os.Stat(filepath.Join(service.Build.Context, service.Build.Dockerfile)); err != nil {
				return fmt.Errorf("services.%s.build: %w", name, err)
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type == "bind" {
				if _, err := os.Stat(volume.Source); err != nil {
					return fmt.Errorf("services.%s.volumes: %w", name, err)
				}
			}
		}
	}
	return nil
}
