package redisclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/backends"
	"usher/cluster/redistest"
)

func startClient(t *testing.T) (*redistest.Server, *Client) {
	t.Helper()
	server := redistest.Start(t)
	return server, connectClient(t, Config{Addresses: []string{server.Socket}})
}

func connectClient(t *testing.T, c Config) *Client {
	t.Helper()
	c.KeyPrefix, c.PoolSize = "usher", 8
	client, err := New(c, 5*time.Second, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

// TestClient_RunWithExpiry tries a call once more that a server with another clock took for late, and no call that is late.
func TestClient_RunWithExpiry(t *testing.T) {
	t.Parallel()
	_, c := startClient(t)
	// The server's clock stands at 10,000 ms. A call must run by then.
	const clock = `redis.call('INCR', KEYS[1])
		if tonumber(ARGV[1]) > 0 and tonumber(ARGV[1]) < 10000 then return {10000, 'expired'} end
		return {10000, 'done', ARGV[2]}`
	for name, test := range map[string]struct {
		source string
		clock  int64 // as the client estimates it; 0: it does not know
		want   string
		late   bool
	}{
		"the clock is unknown":        {clock, 0, "done x", false},
		"the clock is as estimated":   {clock, 10_000, "done x", false},
		"the clock is another one":    {clock, 1_000, "done x", false},
		"every call is late":          {`return {10000, 'expired'}`, 0, "", true},
		"a script that tells no time": {`return {10000}`, 0, "", false},
	} {
		s := newScript(name, test.source)
		c.clocks.clocks[0].last.Store(nil)
		if test.clock > 0 {
			c.clocks.clocks[0].Set(test.clock, time.Now())
		}
		reply, err := c.RunWithExpiry(t.Context(), s, "usher:k", "x")
		if (err == nil) != (test.want != "") || errors.Is(err, backends.ErrStoreUnavailable) != test.late {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		if err != nil {
			continue
		}
		if got := Text(reply[1]) + " " + Text(reply[2]); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if now, known := c.Now("usher:k"); !known || now < 10_000 || now > 70_000 {
			t.Errorf("%s: the clock is %d, %t; want that of the server", name, now, known)
		}
	}
}

func TestNewClient_ClockTolerance(t *testing.T) {
	t.Parallel()
	_, c := startClient(t)
	if got := c.clocks.tolerance; got != 6*time.Second {
		t.Errorf("a call is late after %v, want the timeout and a second", got)
	}
}

// TestClient_RunDirect_KnownAgain runs a script on a server that does not know it.
func TestClient_RunDirect_KnownAgain(t *testing.T) {
	t.Parallel()
	server, c := startClient(t)
	ctx := t.Context()
	for name, test := range map[string]struct {
		source string
		want   string
		err    string
	}{
		"a script":             {`return 'yes'`, "yes", ""},
		"one without a result": {`return nil`, "", ""},
		"one that fails":       {`return redis.error_reply('ERR no')`, "", "one that fails: ERR no"},
	} {
		s := newScript(name, test.source)
		for range 2 { // the second time the server knows it
			reply, err := c.RunDirect(ctx, s, []string{"usher:k"})
			if Text(reply) != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: got %v and %v, want %q and %q", name, reply, err, test.want, test.err)
			}
		}
		must(t, server.Client.ScriptFlush(ctx).Err())
		if reply, _ := c.Run(ctx, s, []string{"usher:k"}); Text(reply) != test.want {
			t.Errorf("%s: for a caller that waits got %v, want %q", name, reply, test.want)
		}
	}
}

// TestClient_RunDirect_LateReply has a server answer after 60 ms: too late for a session with a timeout of 20 ms, in time for what
// runs in the background.
func TestClient_RunDirect_LateReply(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, err := New(Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 8}, 20*time.Millisecond, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(c.Close)
	s := newScript("late", `return 'yes'`)
	direct := func() error {
		reply, err := c.RunDirect(t.Context(), s, []string{"usher:k"})
		if err == nil && Text(reply) != "yes" {
			t.Errorf("the background call got %v", reply)
		}
		return err
	}
	redistest.Eventually(t, "the client is connected", func() bool { return direct() == nil })
	for range 20 { // a machine that is busy may answer later
		must(t, server.Client.ClientPause(t.Context(), 60*time.Millisecond).Err())
		if err = direct(); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("the background call failed: %v", err)
	}
	must(t, server.Client.ClientPause(t.Context(), redistest.Timeout).Err())
	if reply, err := c.Run(t.Context(), s, []string{"usher:k"}); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("a session's call got %v and %v, want that it has timed out", reply, err)
	}
}

// TestClient_RoundTrips counts the pipelines that sessions wait for.
func TestClient_RoundTrips(t *testing.T) {
	t.Parallel()
	_, c := startClient(t)
	background, awaited := newScript("a", `return 1`), newScript("b", `return 2`)
	awaited.delaysSessions = true
	for _, step := range []struct {
		script *Script
		want   uint64
	}{{background, 0}, {awaited, 2}, {awaited, 3}, {background, 3}} { // the first time the server does not know the script
		if _, err := c.Run(t.Context(), step.script, []string{"usher:k"}); err != nil {
			t.Fatal(err)
		}
		if got := c.RoundTrips(); got != step.want {
			t.Errorf("after script %s: %d round trips, want %d", step.script.name, got, step.want)
		}
	}
}

// TestPipeline_Work_SharesPipelines sends the calls that wait by as few pipelines as hold them.
func TestPipeline_Work_SharesPipelines(t *testing.T) {
	t.Parallel()
	_, c := startClient(t)
	s := newScript("a", `return 1`)
	s.delaysSessions = true
	if _, err := c.Run(t.Context(), s, []string{"usher:k"}); err != nil { // from now on the server knows it
		t.Fatal(err)
	}
	p := &pipeline{redis: c.redis, breaker: c.breaker, timeout: 5 * time.Second, log: slog.New(slog.DiscardHandler)}
	p.ctx, p.stop = context.WithCancel(t.Context())
	queue := make(chan *call, queueSize)
	var calls []*call
	for range 2*maxPipelineCalls + 1 {
		one := &call{script: s, command: s.command([]string{"usher:k"}, 0), done: make(chan result, 1)}
		calls = append(calls, one)
		queue <- one
	}
	p.workers.Go(func() { p.work(queue) })
	for i, one := range calls {
		if r := <-one.done; r.err != nil || Int(r.value) != 1 {
			t.Fatalf("call %d: %v and %v", i, r.value, r.err)
		}
	}
	p.close()
	if got := p.roundTrips.Load(); got != 3 {
		t.Errorf("%d round trips for %d calls, want 3", got, len(calls))
	}
}

// TestPipeline_Execute_OneFails answers each call of a pipeline by itself.
func TestPipeline_Execute_OneFails(t *testing.T) {
	t.Parallel()
	_, c := startClient(t)
	newCall := func(source string) *call {
		s := newScript(source, source)
		return &call{script: s, command: s.command([]string{"usher:k"}, 0), done: make(chan result, 1)}
	}
	for range 2 { // at first the server knows no script
		calls := []*call{newCall(`return 1`), newCall(`error('no')`), newCall(`return nil`), newCall(`return 4`)}
		must(t, c.pipeline.execute(calls))
		for i, want := range []int64{1, 0, 0, 4} {
			if r := <-calls[i].done; Int(r.value) != want || (r.err != nil) != (i == 1) {
				t.Errorf("call %d: %v and %v, want %d", i, r.value, r.err, want)
			}
		}
	}
}

// TestClient_Run_CallerLeaves returns when the caller's time is over, and lets the others' calls alone.
func TestClient_Run_CallerLeaves(t *testing.T) {
	t.Parallel()
	_, c := startClient(t)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	s := newScript("a", `return 1`)
	if _, err := c.Run(ctx, s, []string{"usher:k"}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the caller", err)
	}
	if reply, err := c.Run(t.Context(), s, []string{"usher:k"}); err != nil || Int(reply) != 1 {
		t.Errorf("the next call: %v and %v", reply, err)
	}
}

// TestClient_OnCall tells of every call what it was and how it ended.
func TestClient_OnCall(t *testing.T) {
	t.Parallel()
	server, c := startClient(t)
	var got []string
	c.OnCall(func(operation, outcome string, took time.Duration) {
		if took <= 0 {
			t.Errorf("%s took %v", operation, took)
		}
		got = append(got, operation+" "+outcome)
	})
	ctx, keys := t.Context(), []string{"usher:k"}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	run := func(ctx context.Context, name, source string) {
		_, _ = c.Run(ctx, newScript(name, source), keys)
		_, _ = c.RunDirect(ctx, newScript(name, source), keys)
	}
	run(ctx, "a", `return 1`)
	run(ctx, "without_result", `return nil`)
	run(ctx, "wrong", `return redis.error_reply('WRONGTYPE no')`)
	must(t, c.Publish(ctx, "usher:x", "y"))
	server.Signal(syscall.SIGSTOP)
	run(cancelled, "a", `return 1`)
	run(soon, "a", `return 1`)
	server.Signal(syscall.SIGCONT)
	want := []string{
		"a ok", "a ok", "without_result ok", "without_result ok", "wrong failed", "wrong failed", "publish ok",
		"a cancelled", "a cancelled", "a unavailable", "a unavailable",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSubscription_Run subscribes again when its connection breaks, and says so each time.
func TestSubscription_Run(t *testing.T) {
	t.Parallel()
	server, c := startClient(t)
	var mu sync.Mutex
	var got []string
	subscribed := make(chan struct{}, 10)
	s := c.NewSubscription([]string{"usher:a", "usher:b", "usher:c"}, func(channel, payload string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(channel, " ", payload))
	}, func() { subscribed <- struct{}{} })
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	await := func() {
		t.Helper()
		select {
		case <-subscribed:
		case <-time.After(20 * time.Second):
			t.Fatal("never subscribed")
		}
	}
	await()
	for i, breakIt := range []func(){s.Reconnect, func() { must(t, server.Client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err()) }} {
		must(t, c.Publish(t.Context(), "usher:a", fmt.Sprint(i)))
		must(t, c.Publish(t.Context(), "usher:b", fmt.Sprint(i)))
		redistest.Eventually(t, "messages arrive", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) == 2*(i+1) && got[2*i] == fmt.Sprint("usher:a ", i) && got[2*i+1] == fmt.Sprint("usher:b ", i)
		})
		breakIt()
		await()
	}
	if len(subscribed) != 0 {
		t.Error("it was subscribed more often than it broke")
	}
	end()
	<-done
}

// startClusterClient returns a client of a Redis Cluster.
func startClusterClient(t *testing.T) (*redistest.Cluster, *Client) {
	t.Helper()
	server := redistest.StartCluster(t)
	return server, connectClient(t, Config{Addresses: []string{server.Address}, Cluster: true})
}

// TestClient_Cluster_SendsOnce sends no call again that a Redis Cluster may have run: it would count twice.
func TestClient_Cluster_SendsOnce(t *testing.T) {
	t.Parallel()
	server, c := startClusterClient(t)
	increment := newScript("increment", "return redis.call('INCR', KEYS[1])")
	for name, call := range map[string]func(key string) error{
		"a pipeline": func(key string) error {
			_, err := c.Run(t.Context(), increment, []string{key}, "x")
			return err
		},
		"alone": func(key string) error {
			_, err := c.RunDirect(t.Context(), increment, []string{key}, "x")
			return err
		},
	} {
		must(t, call("usher:before:"+name)) // the server knows the script from then on
		key := "usher:" + name
		var answersLost atomic.Int32
		server.Intercept(func(request string) (reply string, isTaken bool) {
			return "", strings.Contains(request, key) && answersLost.Add(1) <= 2
		})
		if err := call(key); err == nil {
			t.Errorf("%s: the call succeeded, though its answer was lost", name)
		}
		redistest.Eventually(t, "the call has run", func() bool { return server.Client.Exists(t.Context(), key).Val() == 1 })
		if runs := server.Client.Get(t.Context(), key).Val(); runs != "1" {
			t.Errorf("%s: the call ran %s times, want once", name, runs)
		}
	}
}

// TestClient_Cluster_Publish_Once publishes no message twice.
func TestClient_Cluster_Publish_Once(t *testing.T) {
	t.Parallel()
	server, c := startClusterClient(t)
	subscription := server.Client.Subscribe(t.Context(), "usher:a", "usher:end")
	defer func() { _ = subscription.Close() }()
	messages := subscription.Channel()
	redistest.Eventually(t, "it is subscribed", func() bool { return server.Client.Publish(t.Context(), "usher:end", "").Val() == 1 })
	var answersLost atomic.Int32
	server.Intercept(func(request string) (reply string, isTaken bool) {
		return "", strings.Contains(request, "once") && answersLost.Add(1) <= 2
	})
	if err := c.Publish(t.Context(), "usher:a", "once"); err == nil {
		t.Error("the call succeeded, though its answer was lost")
	}
	must(t, c.Publish(t.Context(), "usher:a", "last"))
	received := 0
	for m := range messages {
		if m.Payload == "last" {
			break
		}
		if m.Payload == "once" {
			received++
		}
	}
	if received != 1 {
		t.Errorf("the message was published %d times, want once", received)
	}
}

// TestClient_Cluster_Redirected follows a hash slot to another master, which it has moved to or moves to.
func TestClient_Cluster_Redirected(t *testing.T) {
	t.Parallel()
	from, c := startClusterClient(t)
	to := redistest.StartCluster(t)
	s := newScript("store", "redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]")
	for _, redirect := range []string{"MOVED", "ASK"} {
		key := "usher:" + redirect
		from.Intercept(func(request string) (reply string, isTaken bool) {
			if !strings.Contains(request, key) {
				return "", false
			}
			return fmt.Sprintf("-%s %d %s\r\n", redirect, hashSlot(key), to.Address), true
		})
		if reply, err := c.Run(t.Context(), s, []string{key}, redirect); err != nil || Text(reply) != redirect {
			t.Errorf("%s: got %v, %v", redirect, reply, err)
		}
		if stored := to.Client.Get(t.Context(), key).Val(); stored != redirect {
			t.Errorf("%s: the other master has %q, want %q", redirect, stored, redirect)
		}
		if reply, err := c.RunDirect(t.Context(), s, []string{key}, "alone"); err != nil || Text(reply) != "alone" {
			t.Errorf("%s, alone: got %v, %v", redirect, reply, err)
		}
	}
}
