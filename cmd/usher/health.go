package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// healthTimeout bounds the request. A node that is alive answers at once.
const healthTimeout = 5 * time.Second

type healthCommand struct {
	Admin string `help:"The URL of the node's admin listener." default:"http://127.0.0.1:8081"`
}

// Run requests /healthz, and fails unless the node says that it is alive.
func (c healthCommand) Run(r runtime) error {
	ctx, cancel := context.WithTimeout(r.ctx, healthTimeout)
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
	_, err = fmt.Fprintln(r.out, "alive")
	return err
}
