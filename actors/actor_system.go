package actors

import (
	"encoding/base64"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/actors/session"
	"usher/backends"
)

// sessionAddress is the address of the PIDs of sessions. protoactor asks the system's resolver for who has such an address.
const sessionAddress = "session"

// actorSystem runs the actors of sessions. A session's actor is virtual: its name always leads to it, and it exists while there
// are messages for it. It is safe for concurrent use.
type actorSystem struct {
	registry *Registry
	system   *actor.ActorSystem
	idle     sync.Pool // of *sessionActor, with room for messages
	answers  sync.Pool // of *leaseAnswered, which are empty
}

func newActorSystem(r *Registry) *actorSystem {
	as := &actorSystem{
		registry: r,
		// protoactor logs each message to a stopped actor, which is normal here.
		system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			return slog.New(slog.DiscardHandler)
		})),
	}
	as.idle.New = func() any { return &sessionActor{registry: r} }
	as.answers.New = func() any { return new(leaseAnswered) }
	as.system.ProcessRegistry.RegisterAddressResolver(as.resolve)
	return as
}

// send queues a message for the session's actor. A stopped actor drops it.
func (as *actorSystem) send(s *Session, message any) { as.system.Root.Send(s.pid(), message) }

// sendLast is send for a task that ends with it, and returns what it runs next: the actor, unless another worker runs it already. An
// opening would spend a tenth of its time on waking goroutines. It finds the session without its PID, also one that has left the table:
// what the message brings may have to be given back.
func (as *actorSystem) sendLast(s *Session, message any) (next task) {
	p := sessionProcess{as, s}
	switch active, isStopped := p.queue(message); {
	case isStopped:
		p.drop(message)
	case active != nil:
		next = func() task { return p.run(active) }
	}
	return next
}

// sendReplaced tells a session's actor that another one is in the table in its place, so that its name no longer leads to it.
func (as *actorSystem) sendReplaced(s *Session) {
	sessionProcess{as, s}.SendUserMessage(nil, session.Forgotten{IsReplaced: true})
}

// stop ends the session's actor after the message that it handles.
func (as *actorSystem) stop(s *Session) { sessionProcess{as, s}.Stop(nil) }

// shutdown ends the system, once all actors have stopped.
func (as *actorSystem) shutdown() { as.system.Shutdown() }

// resolve returns the process of a session by the name of its actor.
func (as *actorSystem) resolve(pid *actor.PID) (actor.Process, bool) {
	if pid.Address != sessionAddress {
		return nil, false
	}
	id, sequence, isName := parseActorName(pid.Id)
	s := as.registry.table.find(id)
	if !isName || s == nil || sequence != s.sequence {
		return nil, false
	}
	return sessionProcess{as, s}, true
}

// parseActorName returns what [Session.actorName] was made of. It does not allocate.
func parseActorName(name string) (id backends.SessionID, sequence uint64, isName bool) {
	text, number, _ := strings.Cut(name, ".")
	if len(text) != base64.RawURLEncoding.EncodedLen(len(id)) {
		return id, 0, false
	}
	_, errID := base64.RawURLEncoding.Decode(id[:], []byte(text))
	sequence, errSequence := strconv.ParseUint(number, sequenceBase, 64)
	return id, sequence, errID == nil && errSequence == nil
}

// sequenceBase is the base in which an actor's name has the session's sequence number.
const sequenceBase = 36

// actorName returns the id with the sequence number, so that a message to a closed session never reaches a new one.
func (s *Session) actorName() string {
	var room [40]byte
	name := base64.RawURLEncoding.AppendEncode(room[:0], s.id[:])
	return string(strconv.AppendUint(append(name, '.'), s.sequence, sequenceBase))
}

func (s *Session) pid() *actor.PID { return actor.NewPID(sessionAddress, s.actorName()) }

// sessionProcess is a session as protoactor addresses it. It runs the session's mailbox itself: an actor of protoactor's own
// takes a kilobyte and ten objects, and a stopped one drops what was sent meanwhile.
type sessionProcess struct {
	system  *actorSystem
	session *Session
}

var _ actor.Process = sessionProcess{}

// SendUserMessage queues an event, and activates the session's actor unless it is active. It never waits: an actor does not block. A
// request that opens a session does not run the actor, although it waits for it: the stack of its connection would take 16 kB instead
// of 8.
func (p sessionProcess) SendUserMessage(_ *actor.PID, message any) {
	if run := p.system.sendLast(p.session, message); run != nil {
		p.system.registry.life.workers.start(run)
	}
}

// queue queues an event, and returns the actor if it must be run.
func (p sessionProcess) queue(message any) (activated *sessionActor, isStopped bool) {
	m := &p.session.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.session.flags.has(flagStopped) {
		return nil, true
	}
	if m.active == nil {
		activated, _ = p.system.idle.Get().(*sessionActor)
		m.active = activated
	}
	m.active.queue = append(m.active.queue, message)
	return activated, false
}

// drop gives back what a message brings that no actor handles any more. A lease would keep the other nodes from a check of the session
// until it is over.
func (p sessionProcess) drop(message any) {
	r := p.system.registry
	if m, isLease := message.(*leaseAnswered); isLease && m.event.Revision != 0 {
		update := releaseOf(p.session.id, m.event.Revision)
		r.life.run(func() { _, _ = r.cluster.saveDecision(update) })
	}
}

// SendSystemMessage does nothing: a session watches no actor and is watched by none.
func (p sessionProcess) SendSystemMessage(*actor.PID, any) {}

// Stop drops what is queued, and lets no actor exist any more after the message that is handled.
func (p sessionProcess) Stop(*actor.PID) {
	m := &p.session.mail
	m.mu.Lock()
	isOver := p.session.flags.add(flagStopped) && m.active == nil
	m.mu.Unlock()
	if isOver {
		p.system.registry.life.actors.Done()
	}
}

// mailbox is what a session holds for its actor. While there is none it is two words and the actor's memory.
type mailbox struct {
	mu     sync.Mutex
	active *sessionActor // nil: no message waits or is handled; guarded by mu
	memory actorMemory   // used by the active actor alone; mu orders one after the other
}

// throughput is how many messages an actor handles before it yields to other goroutines.
const throughput = 300

// run handles messages until none is left, and returns the last task that they have started.
func (p sessionProcess) run(a *sessionActor) (started task) {
	a.wake(p.session)
	for handled := 1; ; handled++ {
		message, isLast := a.next()
		if isLast {
			break
		}
		a.handle(message)
		if handled%throughput == 0 {
			runtime.Gosched()
		}
	}
	started, a.started = a.started, nil
	p.system.idle.Put(a)
	return started
}

// start has a task run once the actor has handled its messages: the last one by the worker of the actor, the others each by one of
// their own, at once.
func (a *sessionActor) start(t task) {
	if a.started != nil {
		a.registry.life.workers.start(a.started)
	}
	a.started = t
}

// call has calls to the store made, which count as under way until they are answered: at once if none of them waits.
func (a *sessionActor) call(underWay *atomic.Int32, calls task) {
	underWay.Add(1)
	if a.registry.cluster.InMemory() {
		calls() // what they tell the actor waits in its queue, so that nothing is left to run
		underWay.Add(-1)
		return
	}
	a.start(a.registry.life.task(func() task {
		defer underWay.Add(-1)
		return calls()
	}))
}

// wake makes the actor that of a session.
func (a *sessionActor) wake(s *Session) {
	a.session, a.actorMemory = s, &s.mail.memory
	if a.rare != nil {
		a.rareMemory = *a.rare
	}
	d := a.unpublished
	if d == nil {
		d = s.decision.Load()
	}
	a.state = session.State{Flat: a.flat}
	if a.isOpen() {
		a.state.ID, a.state.Expires = s.id, time.Duration(s.expires.Load())
	}
	if d != nil {
		a.state.Decision = *d
	}
}

// next removes the first message from the queue. Without one, or when the session's actor has stopped, the session has no actor
// any more.
func (a *sessionActor) next() (message any, isLast bool) {
	m := &a.session.mail
	m.mu.Lock()
	isStopped := a.session.flags.has(flagStopped)
	if len(a.queue) > a.handled && !isStopped {
		defer m.mu.Unlock()
		return a.pop(), false
	}
	a.rest()
	m.active = nil
	m.mu.Unlock()
	if isStopped {
		for _, left := range a.queue[a.handled:] {
			sessionProcess{a.registry.actors, a.session}.drop(left)
		}
		a.registry.life.actors.Done()
	}
	a.forget()
	return nil, true
}

// pop removes the first message. The caller holds the mailbox's lock.
func (a *sessionActor) pop() any {
	first := a.queue[a.handled]
	a.queue[a.handled] = nil
	if a.handled++; a.handled == len(a.queue) {
		a.queue, a.handled = a.queue[:0], 0
	}
	return first
}

// maxIdleQueue is for how many messages an actor without a session keeps room.
const maxIdleQueue = 16

// forget makes the actor one of no session.
func (a *sessionActor) forget() {
	var queue []any
	if cap(a.queue) <= maxIdleQueue {
		clear(a.queue) // what a stopped session did not handle
		queue = a.queue[:0]
	}
	*a = sessionActor{registry: a.registry, queue: queue, started: a.started}
}

// rest keeps the state in the session's memory. Its decision is kept only where requests read another one.
func (a *sessionActor) rest() {
	d := a.state.Decision
	published := a.session.decision.Load()
	isPublished := published != nil && *published == d || published == nil && d == backends.Decision{}
	a.flat, a.unpublished = a.state.Flat, nil
	if !isPublished {
		a.unpublished = new(d) // a copy: &d would be allocated each time
	}
	switch {
	case a.rareMemory == rareMemory{}:
		a.rare = nil
	case a.rare == nil:
		a.rare = &rareMemory{}
		fallthrough
	default:
		*a.rare = a.rareMemory
	}
}

// handle handles one message. A panic costs that message: the state is rebuilt from what the session had published.
func (a *sessionActor) handle(message any) {
	if a.panics(func() { a.receive(message, time.Now()) }) {
		a.restart()
	}
}

// restart rebuilds the state. A session of which that panics too is dropped, so that its viewer can open it again, and so is one that is
// in the table no more: neither its timer nor the registry's end would reach it.
func (a *sessionActor) restart() {
	if a.registry.table.find(a.session.id) != a.session {
		a.giveUp()
		return
	}
	for range maxRestarts + 2 {
		if !a.panics(func() { a.restore(time.Now()) }) {
			return
		}
	}
	a.giveUp()
}

// giveUp drops the session. What a part of it that panics would give back stays counted.
func (a *sessionActor) giveUp() {
	s := a.session
	if a.panics(func() { a.close(session.NotClosing, time.Now()) }) {
		a.registry.timers.disarm(s)
		s.flags.set(flagClosed, true)
		a.registry.table.remove(s)
		a.registry.actors.stop(s)
	}
	s.release()
}

// panics reports whether f panicked.
func (a *sessionActor) panics(f func()) (hasPanicked bool) {
	defer func() {
		if reason := recover(); reason != nil {
			a.reportPanic(reason)
			hasPanicked = true
		}
	}()
	f()
	return false
}
