package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"usher/bench/process"
)

// usherName is the name of Usher among the servers.
const usherName = "Usher"

const (
	// defaultRecheckRate is Usher's own, so that what operators have by default is measured.
	defaultRecheckRate = 200
	// manyRechecks is above what decisions of a few seconds need.
	manyRechecks = 10_000
)

// usherSettings are those of a node for the table: limits that would refuse a load from one address are off.
const usherSettings = `listen: %q
limits: { max_connections_per_address: 0 }
admin: { listen: %q, token: "a token of the table" }
identity: { secret: "a secret of the table" }
tickets: { keys: [ { id: a, secret: "a secret of the table" } ] }
origins: { media: { url: %q } }
backends:
  portal: { kind: httprequest, address: %q, validity: %s, recheck_rate: %d, max_in_flight: 1024, max_waiting: 20000 }
routes:
  - { path: "/single/{channel}/*", origin: media, backend: portal }
  - path: /auth/nginx
    backend: portal
    edge: { dialect: nginx, networks: [ 127.0.0.1/32 ], viewer_path: "/single/{channel}/*" }
sessions:
  max: %d
  open_rate_per_address: 1000000
  open_burst_per_address: 1000000
  open_rate_per_network: 1000000 # all viewers come from this machine
  open_burst_per_network: 2000000
  open_rate: 1000000
  open_burst: 2000000
  max_variants: 0
  idle_timeout: %s
  recheck: { min: 1s }
drain: { readiness_delay: 0s }
log: { level: error }
%s
`

// startUsher starts a node, and waits until it is ready.
func (b *bed) startUsher(ctx context.Context, s setting) (_ *target, err error) {
	folder, err := os.MkdirTemp("", "usher-table-")
	if err != nil {
		return nil, err
	}
	public, err1 := process.ReservePort()
	admin, err2 := process.ReservePort()
	leave := func() {
		public.Release()
		admin.Release()
		_ = os.RemoveAll(folder)
	}
	t := &target{name: usherName, authPath: "/auth/nginx", isGuarded: true, metricsURL: "http://" + admin.Address + "/metrics", close: leave}
	t.request = func(path, token string) string { return path + "?token=" + token }
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "usher.yaml")
	const room = 1_000_000 // for the sessions that a row on new viewers opens
	text := fmt.Sprintf(usherSettings, public.Address, admin.Address, b.originURL, b.middleware.URL()+"/auth", s.validity, cmp.Or(s.recheckRate, defaultRecheckRate), b.Sessions+room,
		cmp.Or(s.idle, time.Minute), s.yaml)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	node, err := process.Start(exec.CommandContext(context.WithoutCancel(ctx), b.Usher, "serve", "--config", file))
	if err != nil {
		return nil, err
	}
	t.address, t.pid, t.died = public.Address, node.PID(), node.Err
	t.close = func() {
		node.Stop()
		leave()
	}
	return t, awaitReady(ctx, node, "http://"+admin.Address+"/readyz")
}

func awaitReady(ctx context.Context, node *process.Process, url string) error {
	const pause = 20 * time.Millisecond
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if answer, err := client.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-node.Ended():
			return fmt.Errorf("usher ended: %s", node.Output())
		case <-ctx.Done():
			return fmt.Errorf("usher is not ready: %w: %s", ctx.Err(), node.Output())
		case <-time.After(pause):
		}
	}
}
