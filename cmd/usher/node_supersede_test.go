package main

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors"
	"usher/actors/records"
	"usher/actors/session"
	"usher/backends"
	"usher/gateway/admin"
)

// TestCluster_SupersededSession_IsNoKick has a viewer zap on one device: nothing says that an operator ended the session.
func TestCluster_SupersededSession_IsNoKick(t *testing.T) {
	t.Parallel()
	log := new(logBuffer)
	written, err := records.Open(records.Options{
		Config: records.Config{Log: true}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	withNodes(t, 2, func(o *actors.Options, p *fakePortal) {
		p.user.UserID, p.user.MaxSessions = "17", 1
		o.Logger, o.OnClosed = slog.New(slog.NewTextHandler(log, nil)), written.Closed
	}, func(c *nodeGroup) {
		open := func(node int, channel string, ticket session.Ticket) session.Handle {
			c.t.Helper()
			r := session.OpenRequest{Ticket: ticket, HasCredentials: ticket.IsZero(), Request: &backends.Request{
				Session: backends.SessionID{0: channel[0]}, Route: "play", Channel: channel, Backend: "portal", Device: "stb",
			}}
			if r.HasCredentials {
				r.Request.Query = "token=s3cret"
			}
			s, err := c.nodes[node].Open(c.t.Context(), r)
			if err != nil {
				c.t.Fatal(err)
			}
			for range 2 {
				s.Seen(time.Now(), true)
			}
			synctest.Wait()
			return s
		}
		first := open(0, "a", session.Ticket{})
		ticket := first.Ticket()
		open(1, "a", ticket)
		time.Sleep(time.Second)
		open(1, "b", session.Ticket{})
		time.Sleep(time.Second)
		synctest.Wait()
		if d := first.Decision(); d.Verdict != backends.Denied || d.Source != backends.FromLimit {
			c.t.Fatalf("the first channel is %v by %v: %s", d.Verdict, d.Source, d.Reason)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for node := range c.nodes {
			if d := open(node, "a", ticket).Decision(); d.Verdict != backends.Denied || d.Source == backends.FromOperator {
				c.t.Errorf("node %d: the old ticket is %v by %v: %s", node, d.Verdict, d.Source, d.Reason)
			}
		}
		if d := open(0, "a", session.Ticket{}).Decision(); d.Verdict != backends.Allowed {
			c.t.Errorf("back on the first channel the viewer is %v by %v: %s", d.Verdict, d.Source, d.Reason)
		}
	})
	closed := log.lines(`msg="session closed"`)
	if len(closed) == 0 || !strings.Contains(closed[0], "channel=a ") || !strings.Contains(closed[0], "why=superseded") {
		t.Errorf("closing records: %q; want that of channel a, superseded", closed)
	}
	if found := append(log.lines("operator"), log.lines("kick")...); len(found) > 0 {
		t.Errorf("the log tells of a kick: %q", found)
	}
}

// scrapedCluster is the part of a cluster that a scrape reads.
type scrapedCluster struct{ admin.Cluster }

func (scrapedCluster) Live() int           { return 2 }
func (scrapedCluster) RedisDown() bool     { return false }
func (scrapedCluster) Bans() []session.Ban { return nil }
func (scrapedCluster) RoundTrips() uint64  { return 0 }

// TestCluster_Evictions_CountedOnceANode has a viewer whom the limit evicts, and one who zaps. Both played on two nodes, which are
// told by the store, by the other node and by their own reports: each node counts each of them once, by its reason.
func TestCluster_Evictions_CountedOnceANode(t *testing.T) {
	t.Parallel()
	for device, want := range map[string]map[string]string{
		"": {
			`usher_stream_evictions_total{reason="limit",route="play"}`:      "2",
			`usher_stream_evictions_total{reason="superseded",route="play"}`: "0",
		},
		"stb": {
			`usher_stream_evictions_total{reason="limit",route="play"}`:      "0",
			`usher_stream_evictions_total{reason="superseded",route="play"}`: "2",
		},
	} {
		recorder := admin.NewRecorder()
		recorder.AddRoute("play", "portal")
		withNodes(t, 2, func(o *actors.Options, p *fakePortal) {
			p.user.UserID, p.user.MaxSessions = "17", 1
			o.Observer = recorder
		}, func(c *nodeGroup) {
			metrics := scraper{c.t, admin.Handler(admin.Config{}, admin.Options{
				Recorder: recorder, Sessions: c.nodes[0], Cluster: scrapedCluster{},
				Ready: func() bool { return true }, Backends: func() []admin.Backend { return nil },
			})}
			watch := func(node int, channel string, ticket session.Ticket) session.Handle {
				c.t.Helper()
				r := session.OpenRequest{Ticket: ticket, HasCredentials: ticket.IsZero(), Request: &backends.Request{
					Session: backends.SessionID{0: channel[0]}, Route: "play", Channel: channel, Backend: "portal", Device: device,
				}}
				if r.HasCredentials {
					r.Request.Query = "token=s3cret" + channel
				}
				s, err := c.nodes[node].Open(c.t.Context(), r)
				if err != nil {
					c.t.Fatal(err)
				}
				s.Seen(time.Now(), true)
				s.Seen(time.Now(), true)
				synctest.Wait()
				return s
			}
			first := watch(0, "a", session.Ticket{})
			watch(1, "a", first.Ticket())
			time.Sleep(time.Second)
			second := watch(1, "b", session.Ticket{})
			for range 60 {
				time.Sleep(time.Second)
				watch(1, "b", second.Ticket())
				if device == "" { // both go on, on both nodes
					watch(0, "b", second.Ticket())
					watch(0, "a", first.Ticket())
					watch(1, "a", first.Ticket())
				}
			}
			if d := first.Decision(); d.Verdict != backends.Denied || d.Source != backends.FromLimit {
				c.t.Errorf("device %q: the first channel is %v by %v: %s", device, d.Verdict, d.Source, d.Reason)
			}
			metrics.want(want)
		})
	}
}
