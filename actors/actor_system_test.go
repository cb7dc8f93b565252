package actors

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"
)

// recordingInvoker records the messages that a mailbox invokes it with.
type recordingInvoker struct {
	mu      sync.Mutex
	handled []any
	on      func(message any)
	failed  func(message any)
}

func (r *recordingInvoker) record(message any) {
	r.mu.Lock()
	r.handled = append(r.handled, message)
	r.mu.Unlock()
	if r.on != nil {
		r.on(message)
	}
}

func (r *recordingInvoker) InvokeSystemMessage(message any) { r.record(message) }
func (r *recordingInvoker) InvokeUserMessage(message any)   { r.record(message) }
func (r *recordingInvoker) EscalateFailure(_, message any) {
	if r.failed != nil {
		r.failed(message)
	}
}

// manualDispatcher runs what was scheduled when run is called.
type manualDispatcher struct{ scheduled []func() }

func (d *manualDispatcher) Schedule(run func()) { d.scheduled = append(d.scheduled, run) }
func (d *manualDispatcher) Throughput() int     { return 2 }

func (d *manualDispatcher) run() {
	for len(d.scheduled) > 0 {
		next := d.scheduled[0]
		d.scheduled = d.scheduled[1:]
		next()
	}
}

func newTestMailbox() (*mailbox, *recordingInvoker, *manualDispatcher) {
	m, r, d := &mailbox{}, &recordingInvoker{}, &manualDispatcher{}
	m.RegisterHandlers(r, d)
	m.Start()
	return m, r, d
}

func TestMailbox_HandlesInOrder(t *testing.T) {
	t.Parallel()
	started, stop := &actor.Started{}, &actor.Stop{}
	cases := map[string]struct {
		post func(*mailbox)
		want []any
	}{
		"messages in the order of posting": {
			func(m *mailbox) { m.PostUserMessage(1); m.PostUserMessage(2); m.PostUserMessage(3) },
			[]any{1, 2, 3},
		},
		"system messages first": {
			func(m *mailbox) { m.PostUserMessage(1); m.PostSystemMessage(started); m.PostSystemMessage(stop) },
			[]any{started, stop, 1},
		},
		"no user messages while suspended": {
			func(m *mailbox) {
				m.PostUserMessage(1)
				m.PostSystemMessage(&actor.SuspendMailbox{})
				m.PostSystemMessage(started)
			},
			[]any{started},
		},
		"all user messages after resuming": {
			func(m *mailbox) {
				m.PostUserMessage(1)
				m.PostSystemMessage(&actor.SuspendMailbox{})
				m.PostSystemMessage(&actor.ResumeMailbox{})
				m.PostUserMessage(2)
			},
			[]any{1, 2},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, r, d := newTestMailbox()
			c.post(m)
			if runs := len(d.scheduled); runs != 1 {
				t.Errorf("scheduled %d runs, want 1", runs)
			}
			d.run()
			if diff := cmp.Diff(c.want, r.handled, cmp.Comparer(func(a, b actor.SystemMessage) bool { return a == b })); diff != "" {
				t.Errorf("handled (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMailbox_RunsAgainAfterSuspension(t *testing.T) {
	t.Parallel()
	m, r, d := newTestMailbox()
	m.PostSystemMessage(&actor.SuspendMailbox{})
	m.PostUserMessage(1)
	d.run()
	if n := m.UserMessageCount(); n != 1 {
		t.Fatalf("%d messages queued, want 1", n)
	}
	m.PostSystemMessage(&actor.ResumeMailbox{})
	d.run()
	if diff := cmp.Diff([]any{1}, r.handled); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
}

func TestMailbox_HandlesMessagesPostedDuringRun(t *testing.T) {
	t.Parallel()
	m, r, d := newTestMailbox()
	r.on = func(message any) {
		if n := message.(int); n < 5 {
			m.PostUserMessage(n + 1)
		}
	}
	m.PostUserMessage(1)
	d.run()
	if diff := cmp.Diff([]any{1, 2, 3, 4, 5}, r.handled); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
}

func TestMailbox_HandlesMessagesAfterPanic(t *testing.T) {
	t.Parallel()
	m, r, d := newTestMailbox()
	var failed []any
	r.failed = func(message any) { failed = append(failed, message) }
	r.on = func(message any) {
		if message == 2 {
			panic("broken")
		}
	}
	for i := range 3 {
		m.PostUserMessage(i + 1)
	}
	d.run()
	if diff := cmp.Diff([]any{1, 2, 3}, r.handled); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{2}, failed); diff != "" {
		t.Errorf("escalated (-want +got):\n%s", diff)
	}
}

func TestMailbox_Empty_HoldsNoMemory(t *testing.T) {
	t.Parallel()
	m, _, d := newTestMailbox()
	for i := range 1000 {
		m.PostUserMessage(i)
		m.PostSystemMessage(&actor.Started{})
	}
	d.run()
	if m.user != nil || m.system != nil {
		t.Errorf("an empty mailbox keeps room for %d and %d messages", cap(m.user), cap(m.system))
	}
	if size := unsafe.Sizeof(*m); size > 104 {
		t.Errorf("a mailbox has %d bytes, want at most 104", size)
	}
}

func TestMailbox_ConcurrentProducers_KeepEachOrder(t *testing.T) {
	t.Parallel()
	const producers, each = 8, 2000
	type message struct{ producer, number int }
	var (
		m    mailbox
		last [producers]int
		busy sync.Mutex // fails to lock if two run at once
		done = make(chan struct{})
		seen int
	)
	r := &recordingInvoker{on: func(msg any) {
		if !busy.TryLock() {
			t.Error("two messages handled at once")
			return
		}
		defer busy.Unlock()
		got := msg.(message)
		if got.number != last[got.producer]+1 {
			t.Errorf("producer %d: message %d after %d", got.producer, got.number, last[got.producer])
		}
		last[got.producer] = got.number
		if seen++; seen == producers*each {
			close(done)
		}
	}}
	m.RegisterHandlers(r, actor.NewDefaultDispatcher(300))
	for p := range producers {
		go func() {
			for i := range each {
				m.PostUserMessage(message{p, i + 1})
			}
		}()
	}
	<-done
}
