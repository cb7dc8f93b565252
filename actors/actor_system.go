package actors

import (
	"runtime"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// mailbox is an actor.Mailbox that holds no memory while it is empty, since a million of them mostly are.
// protoactor's own keep a ring of ten slots or a stub node each.
type mailbox struct {
	mu         sync.Mutex
	system     []any
	user       []any
	running    bool
	suspended  bool
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
}

var _ actor.Mailbox = (*mailbox)(nil)

func newMailbox() actor.Mailbox { return &mailbox{} }

// PostUserMessage queues a message of ours.
func (m *mailbox) PostUserMessage(message any) {
	m.mu.Lock()
	m.user = append(m.user, message)
	m.scheduleLocked()
}

// PostSystemMessage queues a message of the actor system's, which goes before all others.
func (m *mailbox) PostSystemMessage(message any) {
	m.mu.Lock()
	m.system = append(m.system, message)
	m.scheduleLocked()
}

// scheduleLocked starts a run if none is on, and unlocks.
func (m *mailbox) scheduleLocked() {
	start := !m.running && m.invoker != nil
	m.running = m.running || start
	m.mu.Unlock()
	if start {
		m.dispatcher.Schedule(m.run)
	}
}

// RegisterHandlers is called once, before the first message.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.mu.Lock()
	m.invoker, m.dispatcher = invoker, dispatcher
	m.mu.Unlock()
}

// Start is called once after the first system message was posted; posting has started the run already.
func (m *mailbox) Start() {}

// UserMessageCount is how many messages of ours wait.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.user)
}

// run handles messages until none is left, giving way to other goroutines now and then.
func (m *mailbox) run() {
	for handled := 1; m.handleNext(); handled++ {
		if handled%m.dispatcher.Throughput() == 0 {
			runtime.Gosched()
		}
	}
}

// handleNext handles one message and reports whether there was one. A panic goes to the supervisor, which suspends the
// mailbox, restarts the actor and resumes.
func (m *mailbox) handleNext() (more bool) {
	message, system, ok := m.next()
	if !ok {
		return false
	}
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, message)
			more = true
		}
	}()
	if system {
		m.handleSystem(message)
	} else {
		m.invoker.InvokeUserMessage(message)
	}
	return true
}

func (m *mailbox) handleSystem(message any) {
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.suspend(true)
	case *actor.ResumeMailbox:
		m.suspend(false)
	default:
		m.invoker.InvokeSystemMessage(message)
	}
}

func (m *mailbox) suspend(on bool) {
	m.mu.Lock()
	m.suspended = on
	m.mu.Unlock()
}

// next takes the first message off its queue, or marks the mailbox as idle.
func (m *mailbox) next() (message any, system, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(m.system) > 0:
		message, m.system = pop(m.system)
		return message, true, true
	case len(m.user) > 0 && !m.suspended:
		message, m.user = pop(m.user)
		return message, false, true
	default:
		m.running = false
		return nil, false, false
	}
}

// pop takes the first element, and lets go of the array with the last one.
func pop(queue []any) (any, []any) {
	first := queue[0]
	queue[0] = nil
	if len(queue) == 1 {
		return first, nil
	}
	return first, queue[1:]
}
