package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCluster_RedisUnavailable_OneTicket opens sessions on both nodes while Redis stores nothing, a second apart. Each session
// then has one ticket, the same on both nodes, with the bytes of one that was given out.
func TestCluster_RedisUnavailable_OneTicket(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, r *redisServer, outage func()){
		"out of memory": func(t *testing.T, r *redisServer, outage func()) {
			r.do(t, "CONFIG", "SET", "maxmemory", "1")
			outage()
			r.do(t, "CONFIG", "SET", "maxmemory", "0")
		},
		"out of memory now and then": func(t *testing.T, r *redisServer, outage func()) {
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for limit := 1; ; limit = 1 - limit {
					select {
					case <-stop:
						return
					case <-time.After(70 * time.Millisecond):
						_, _ = r.try("CONFIG", "SET", "maxmemory", fmt.Sprint(limit))
					}
				}
			}()
			outage()
			close(stop)
			<-done
			r.do(t, "CONFIG", "SET", "maxmemory", "0")
		},
		"frozen": func(_ *testing.T, r *redisServer, outage func()) {
			r.signal(syscall.SIGSTOP)
			outage()
			r.signal(syscall.SIGCONT)
		},
	}
	for name, during := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const sessions = 50
			r := startRedis(t)
			c := startCluster(t, 2, clusterSetup{
				origin: startWideStage(t, ""), redis: r.standalone(), binary: plainBinary(t), idle: time.Hour,
			})
			given := map[string]bool{}
			during(t, r, func() {
				for _, m := range c.nodes {
					for i := range sessions {
						w, err := m.open(fmt.Sprint("good-", i), "a001")
						if err != nil {
							t.Fatal(err)
						}
						given[ticketOf(w)] = true
					}
					pause(t, time.Second)
				}
			})
			t.Logf("%d tickets of %d sessions were given out meanwhile", len(given), sessions)
			for i := range sessions {
				eventually(t, waitTimeout, fmt.Sprintf("session %d has one ticket", i), func() error {
					var tickets []string
					for _, m := range c.nodes {
						w, err := m.open(fmt.Sprint("good-", i), "a001")
						if err != nil {
							return err
						}
						tickets = append(tickets, ticketOf(w))
					}
					if tickets[0] != tickets[1] || !given[tickets[0]] {
						return fmt.Errorf("%q, of which was given out: %t", tickets, given[tickets[0]])
					}
					return nil
				})
			}
		})
	}
}

// ticketOf returns the ticket of a session as its URIs have it.
func ticketOf(w openedSession) string { return strings.Split(w.segment, "/")[1] }
