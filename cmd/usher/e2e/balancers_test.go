package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/bench/strict"
)

// TestNode_BehindBalancers_RollingRestartFailsNoRequest restarts one node after the other behind the balancers of deploy/balancers, while
// clients ask that never repeat a request.
func TestNode_BehindBalancers_RollingRestartFailsNoRequest(t *testing.T) {
	t.Parallel()
	for name, startBalancer := range map[string]func(t *testing.T, nodes []*node) (address string, balancer *process){
		"HAProxy": startHTTPHAProxy, "nginx": startBalancingNginx,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup{
				origin: startStage(t, nil), middleware: startMiddleware(t).URL(), more: "drain: { readiness_delay: 3s, timeout: 1m }",
				isPlain: true, // as the samples say
			}
			nodes := []*node{startNode(t, s), startNode(t, s)}
			address, balancer := startBalancer(t, nodes)
			path := "http://" + address + "/play/a001/index.m3u8?token=good-"
			eventually(t, waitTimeout, "the balancer answers", func() error {
				if balancer.ended() {
					t.Fatalf("the balancer ended: %s", balancer.errs)
				}
				status, _, err := fetch(newClient(t, ""), path+"first")
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("status %d", status)
				}
				return err
			})
			var loads []*strict.Load
			for _, kind := range []strict.Kind{strict.Kept, strict.Each} {
				load, err := strict.Start(t.Context(), strict.Options{
					URL: path + string(kind), Kind: kind, Clients: 4, Pause: 100 * time.Millisecond, Timeout: waitTimeout,
				})
				if err != nil {
					t.Fatal(err)
				}
				loads = append(loads, load)
			}
			for _, n := range nodes {
				awaitRequests(t, loads, 40)
				n.signal(syscall.SIGTERM)
				if code := n.wait(t); code != 0 {
					t.Errorf("the node ended with %d, want 0", code)
				}
				awaitRequests(t, loads, 40) // the other node serves alone
				n.start(t)
			}
			awaitRequests(t, loads, 40)
			for _, load := range loads {
				result := load.Stop()
				if result.Failed > 0 {
					t.Errorf("%v", result)
				}
				t.Log(result)
			}
			if got := nodes[0].sessions(t, "channel=a001"); len(got) == 0 || got[0].Address != "127.0.0.1" {
				t.Errorf("sessions of the first node: %+v; want some of 127.0.0.1, which X-Forwarded-For says", got)
			}
		})
	}
}

// startHTTPHAProxy runs HAProxy with the sample's configuration.
func startHTTPHAProxy(t *testing.T, nodes []*node) (address string, balancer *process) {
	t.Helper()
	address = freePort(t)
	values := []string{"bind :80", "bind " + address, "maxconn 100000", "maxconn 1000"}
	for i, n := range nodes {
		values = append(values, fmt.Sprintf("10.0.0.1%d:8080 port 8081", i+1), host(n.public)+" port "+port(host(n.admin)))
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(balancerSample(t, "haproxy.cfg", values...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return address, start(t, tool(t, "haproxy", "haproxy"), "-db", "-f", file)
}

// startBalancingNginx runs nginx with the sample's configuration.
func startBalancingNginx(t *testing.T, nodes []*node) (address string, balancer *process) {
	t.Helper()
	address = freePort(t)
	values := []string{"listen 80", "listen " + address}
	for i, n := range nodes {
		values = append(values, fmt.Sprintf("10.0.0.1%d:8080", i+1), host(n.public))
	}
	own := t.TempDir()
	file := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(file, []byte(inNginx(own, balancerSample(t, "nginx.conf", values...))), 0o600); err != nil {
		t.Fatal(err)
	}
	return address, start(t, tool(t, "nginx", "nginx"), "-p", own, "-c", file, "-e", "stderr")
}

// balancerSample reads a sample, and replaces values of the sample, which it must contain, with the test's.
func balancerSample(t *testing.T, name string, values ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../../deploy/balancers", name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(values); i += 2 {
		if !strings.Contains(string(raw), values[i]) {
			t.Fatalf("%s has no %q", name, values[i])
		}
	}
	return strings.NewReplacer(values...).Replace(string(raw))
}
