// Package health is the command "usher health", for health checks in a container without a shell.
package health

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// timeout bounds the request. A node that is alive answers at once.
const timeout = 5 * time.Second

// Command asks a running node whether it is alive.
type Command struct {
	Admin string `help:"The URL of the node's admin listener." default:"http://127.0.0.1:8081"`
}

// Ask requests /healthz, and fails unless the node says that it is alive.
func (c Command) Ask(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Admin, "/")+"/healthz", http.NoBody)
	if err != nil {
		return fmt.Errorf("--admin=%s: %w", c.Admin, err)
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("--admin=%s: %w", c.Admin, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("--admin=%s: /healthz answers %s", c.Admin, resp.Status)
	}
	_, err = fmt.Fprintln(out, "alive")
	return err
}
