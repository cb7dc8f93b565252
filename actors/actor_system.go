package actors

import (
	"log/slog"
	"runtime"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// actorSystem runs the actors of sessions. It is safe for concurrent use.
type actorSystem struct {
	system *actor.ActorSystem
	props  *actor.Props
}

// actorRef addresses the actor of a session.
type actorRef struct{ pid *actor.PID }

func newActorSystem(newActor func() actor.Actor) *actorSystem {
	return &actorSystem{
		// protoactor logs each message to a stopped actor, which is normal here.
		system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			return slog.New(slog.DiscardHandler)
		})),
		props: actor.PropsFromProducer(newActor,
			actor.WithMailbox(newMailbox), actor.WithGuardian(actor.NewRestartingStrategy())),
	}
}

// spawn starts an actor. It fails if the name is taken.
func (as *actorSystem) spawn(name string) (actorRef, error) {
	pid, err := as.system.Root.SpawnNamed(as.props, name)
	return actorRef{pid}, err
}

// send queues a message for the session's actor. A stopped actor drops it.
func (as *actorSystem) send(s *Session, message any) { as.system.Root.Send(s.ref.pid, message) }

// stop ends the session's actor after the message that it handles.
func (as *actorSystem) stop(s *Session) { as.system.Root.Stop(s.ref.pid) }

// shutdown ends the system, once all actors have stopped.
func (as *actorSystem) shutdown() { as.system.Shutdown() }

// mailbox is an actor.Mailbox that holds no memory while it is empty, as most of a million are. protoactor's own mailboxes
// keep a ring of ten slots or a stub node each.
type mailbox struct {
	mu          sync.Mutex
	system      []any
	user        []any
	isRunning   bool
	isSuspended bool
	invoker     actor.MessageInvoker
	dispatcher  actor.Dispatcher
}

var _ actor.Mailbox = (*mailbox)(nil)

func newMailbox() actor.Mailbox { return &mailbox{} }

// PostUserMessage queues an event for the session.
func (m *mailbox) PostUserMessage(message any) {
	m.mu.Lock()
	m.user = append(m.user, message)
	m.scheduleLocked()
}

// PostSystemMessage queues a message of the actor system. It is handled before all user messages.
func (m *mailbox) PostSystemMessage(message any) {
	m.mu.Lock()
	m.system = append(m.system, message)
	m.scheduleLocked()
}

// scheduleLocked starts a run unless one is in progress, and unlocks.
func (m *mailbox) scheduleLocked() {
	start := !m.isRunning && m.invoker != nil
	m.isRunning = m.isRunning || start
	m.mu.Unlock()
	if start {
		m.dispatcher.Schedule(m.run)
	}
}

// RegisterHandlers sets what handles messages. protoactor calls it once, before the first message.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.mu.Lock()
	m.invoker, m.dispatcher = invoker, dispatcher
	m.mu.Unlock()
}

// Start does nothing: posting the first system message has started the run already.
func (m *mailbox) Start() {}

// UserMessageCount returns the number of queued user messages.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.user)
}

// run handles messages until none is left, and yields to other goroutines now and then.
func (m *mailbox) run() {
	for handled := 1; m.handleNext(); handled++ {
		if handled%m.dispatcher.Throughput() == 0 {
			runtime.Gosched()
		}
	}
}

// handleNext handles one message and reports whether there was one. A panic is escalated to the supervisor, which suspends
// the mailbox, restarts the actor and resumes the mailbox.
func (m *mailbox) handleNext() (handled bool) {
	message, isSystem, ok := m.next()
	if !ok {
		return false
	}
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, message)
			handled = true
		}
	}()
	if isSystem {
		m.handleSystem(message)
	} else {
		m.invoker.InvokeUserMessage(message)
	}
	return true
}

func (m *mailbox) handleSystem(message any) {
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.setSuspended(true)
	case *actor.ResumeMailbox:
		m.setSuspended(false)
	default:
		m.invoker.InvokeSystemMessage(message)
	}
}

func (m *mailbox) setSuspended(isSuspended bool) {
	m.mu.Lock()
	m.isSuspended = isSuspended
	m.mu.Unlock()
}

// next removes the first message from its queue, or marks the mailbox as idle.
func (m *mailbox) next() (message any, isSystem, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(m.system) > 0:
		message, m.system = popMessage(m.system)
		return message, true, true
	case len(m.user) > 0 && !m.isSuspended:
		message, m.user = popMessage(m.user)
		return message, false, true
	default:
		m.isRunning = false
		return nil, false, false
	}
}

// popMessage removes the first message, and frees the array with the last one.
func popMessage(queue []any) (any, []any) {
	first := queue[0]
	queue[0] = nil
	if len(queue) == 1 {
		return first, nil
	}
	return first, queue[1:]
}
