package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestCluster_LocalScript_StartsAndEndsAll runs the script, plays on both nodes, finds them in Prometheus and Jaeger, and interrupts
// the script, which leaves nothing behind.
func TestCluster_LocalScript_StartsAndEndsAll(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus", "prometheus")
	jaegerProgram(t)
	script := start(t, "../../../deploy/local-cluster.sh", plainBinary(t))
	eventually(t, 3*waitTimeout, "all has started", func() error {
		if script.ended() {
			t.Fatalf("the script ended by itself:\n%s", script.errs)
		}
		if !strings.Contains(script.out.String(), "Ctrl-C ends all") {
			return fmt.Errorf("it prints %s", script.out)
		}
		return nil
	})
	urls := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^(\w+) +(http://127\.0\.0\.1:\d+)$`).FindAllStringSubmatch(script.out.String(), -1) {
		urls[line[1]] = line[2]
	}
	if len(urls) != 7 {
		t.Fatalf("it prints the URLs %v, want those of two nodes and their admin listeners, origin, Jaeger and Prometheus", urls)
	}
	for _, name := range []string{"node1", "node2"} {
		wantStatusAt(t, homeAddress, urls[name]+"/play/a001/index.m3u8?token=alice", http.StatusOK)
		wantStatusAt(t, homeAddress, urls[name]+"/play/a001/index.m3u8?token=mallory", http.StatusForbidden)
	}
	j := &jaeger{query: urls["jaeger"], client: newClient(t, "")}
	j.await(t, "session.open", "node1", map[string]string{"user.name": "alice"})
	j.await(t, "session.open", "node2", map[string]string{"usher.verdict": "denied"})
	client := newClient(t, "")
	eventually(t, waitTimeout, "Prometheus reads both nodes", func() error {
		_, body, err := fetch(client, urls["prometheus"]+`/api/v1/query?query=sum(up{job="usher"})`)
		if err == nil && !strings.Contains(string(body), `,"2"]`) {
			err = fmt.Errorf("%s", body)
		}
		return err
	})

	script.signal(syscall.SIGINT) // the group's, as Ctrl-C is
	if code := script.wait(t); code != 130 {
		t.Errorf("the script ended with %d, want 130:\n%s", code, script.errs)
	}
	if err := syscall.Kill(-script.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("processes of the script run on: %v", err)
	}
	for name, url := range urls {
		if conn, err := net.Dial("tcp", host(url)); err == nil {
			_ = conn.Close()
			t.Errorf("%s listens on %s though the script has ended", name, url)
		}
	}
}
