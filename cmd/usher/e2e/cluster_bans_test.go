package e2e

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// TestCluster_BanInOutage_TicketRefused bans a user while Redis is away. The viewer then shows both nodes nothing but their
// ticket, of which the second node and Redis know nothing.
func TestCluster_BanInOutage_TicketRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, r *redisServer, outage func()){
		"frozen": func(_ *testing.T, r *redisServer, outage func()) {
			r.signal(syscall.SIGSTOP)
			outage()
			r.signal(syscall.SIGCONT)
		},
		"frozen, then flushed": func(t *testing.T, r *redisServer, outage func()) {
			r.signal(syscall.SIGSTOP)
			outage()
			r.signal(syscall.SIGCONT)
			eventually(t, waitTimeout, "redis is flushed", func() error {
				_, err := r.try("FLUSHALL")
				return err
			})
		},
		"restarted empty": func(t *testing.T, r *redisServer, outage func()) {
			r.signal(syscall.SIGKILL)
			r.wait(t)
			outage()
			r.start(t)
		},
		"banned before it is restarted empty": func(t *testing.T, r *redisServer, outage func()) {
			outage()
			r.signal(syscall.SIGKILL)
			r.wait(t)
			r.start(t)
		},
		"flushed": func(t *testing.T, r *redisServer, outage func()) {
			outage()
			r.do(t, "FLUSHALL")
		},
	}
	for name, during := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			c := startCluster(t, 2, clusterSetup{
				origin: startWideStage(t, ""), redis: r.standalone(), binary: plainBinary(t), idle: time.Hour,
				sessions: "denial_ttl: 1s",
			})
			early, err := c.nodes[0].open("good-early", "a001")
			if err != nil {
				t.Fatal(err)
			}
			late := openedSession{}
			during(t, r, func() {
				id, err := c.nodes[0].ban("good-early")
				if err != nil {
					t.Errorf("a ban in the outage: %v", err)
				}
				t.Logf("ban %s", id)
				if late, err = c.nodes[0].open("good-late", "a002"); err != nil {
					t.Errorf("a session opened in the outage: %v", err)
				}
				if _, err := c.nodes[0].ban("good-late"); err != nil {
					t.Errorf("a second ban in the outage: %v", err)
				}
			})
			c.wantTicketsRefused(t, early, late)
		})
	}
}

// wantTicketsRefused waits until every node refuses the sessions, and requires them to go on refusing them when they no
// longer remember the denial.
func (c *cluster) wantTicketsRefused(t *testing.T, banned ...openedSession) {
	t.Helper()
	for _, m := range c.nodes {
		for _, w := range banned {
			eventually(t, waitTimeout, m.name+" refuses the ticket of "+w.token, func() error {
				status, err := m.serves(w)
				if err == nil && status != http.StatusForbidden {
					err = fmt.Errorf("status %d", status)
				}
				return err
			})
		}
	}
	for range 12 { // longer than a denial is remembered
		for _, m := range c.nodes {
			for _, w := range banned {
				if status, err := m.serves(w); err != nil || status == http.StatusOK {
					t.Errorf("%s serves the ticket of %s again: %d, %v", m.name, w.token, status, err)
				}
			}
		}
		pause(t, 500*time.Millisecond)
	}
}
