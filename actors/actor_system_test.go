package actors

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/asynkron/protoactor-go/actor"

	"usher/actors/session"
	"usher/backends"
)

// kick is a revocation, each of which makes the session's check number one higher.
func kick(reason string) session.Revoked {
	return session.Revoked{Kind: session.RevokedKicked, Decision: session.Kicked(reason)}
}

// lastCheck returns the check number that the session's actor has left.
func (s *Session) lastCheck() int { return int(s.mail.memory.flat.CheckNumber) }

// TestActorSystem_Send_NoMessageLost sends while actors come and go, which they do with each message.
func TestActorSystem_Send_NoMessageLost(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const senders, each = 8, 500
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		synctest.Wait()
		before := s.lastCheck()
		var all sync.WaitGroup
		for range senders {
			all.Go(func() {
				for range each {
					n.send(s, kick("again"))
					runtime.Gosched()
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if got := s.lastCheck() - before; got != senders*each {
			t.Errorf("%d of %d messages were handled", got, senders*each)
		}
		if s.mail.active != nil {
			t.Error("there is an actor without a message")
		}
	})
}

func TestActorSystem_Send_InOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		for reason := range strings.FieldsSeq("a b c d e f g h i j k l m n o p q r s t") {
			n.send(s, kick(reason))
		}
		synctest.Wait()
		if d := s.Decision(); d.Reason != session.Kicked("t").Reason {
			t.Errorf("reason %q, want that of the last message", d.Reason)
		}
	})
}

func TestActorSystem_Stop_DropsMessages(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		synctest.Wait()
		before := s.lastCheck()
		for range 2 { // the second time it has stopped already
			n.actors.stop(s)
		}
		n.send(s, kick("too late"))
		synctest.Wait()
		if s.lastCheck() != before || s.mail.active != nil {
			t.Error("a stopped actor handled a message")
		}
	})
}

// TestActorSystem_Resolve finds a session by the name of its actor, and no other one of the same id.
func TestActorSystem_Resolve(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		older := &Session{id: s.id, sequence: s.sequence - 1}
		for name, test := range map[string]struct {
			address, id string
			want        bool
		}{
			"the session":             {sessionAddress, s.actorName(), true},
			"one of before, as named": {sessionAddress, older.actorName(), false},
			"an unknown session":      {sessionAddress, (&Session{id: idOf(2), sequence: s.sequence}).actorName(), false},
			"no sequence":             {sessionAddress, s.id.String(), false},
			"a sequence in no number": {sessionAddress, s.id.String() + ".-", false},
			"no id":                   {sessionAddress, ".1", false},
			"another address":         {"elsewhere", s.actorName(), false},
		} {
			if process, found := n.actors.resolve(actor.NewPID(test.address, test.id)); found != test.want || found && process.(sessionProcess).session != s {
				t.Errorf("%s: found %t, want %t", name, found, test.want)
			}
		}
		before := n.Find(idOf(1)).Decision()
		n.send(older, kick("of another session"))
		synctest.Wait()
		if n.Find(idOf(1)).Decision() != before {
			t.Error("a message to a session that has closed reached a new one")
		}
	})
}

// TestActorSystem_RestorePanics_SessionDropped drops a session that cannot be rebuilt. Its viewer opens it again.
func TestActorSystem_RestorePanics_SessionDropped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		synctest.Wait()
		s.decision.Store(nil)
		n.send(s, sessionCreated{}) // its session is missing, so handling it panics
		synctest.Wait()
		if n.Len() != 0 {
			t.Fatal("the session is still there")
		}
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("the viewer is %v", d.Verdict)
		}
	})
}

// TestSessionActor_Forget_BoundsIdleMemory keeps no large queue for the next session, and no message of the last one.
func TestSessionActor_Forget_BoundsIdleMemory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		messages int
		want     int
	}{
		"few":  {maxIdleQueue, maxIdleQueue},
		"many": {maxIdleQueue + 1, 0},
	} {
		a := &sessionActor{session: bareSession(idOf(1)), queue: make([]any, test.messages)}
		for i := range a.queue {
			a.queue[i] = viewerWaited{}
		}
		a.forget()
		if len(a.queue) != 0 || cap(a.queue) != test.want || a.session != nil {
			t.Errorf("%s: room for %d messages, want for %d", name, cap(a.queue), test.want)
		}
		for _, left := range a.queue[:cap(a.queue)] {
			if left != nil {
				t.Errorf("%s: a message is left", name)
			}
		}
	}
}

func TestMailbox_Size(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(mailbox{}) - unsafe.Sizeof(actorMemory{}); size > 16 {
		t.Errorf("an empty mailbox has %d bytes, want at most 16", size)
	}
	const sizeClass = 352 // of the runtime's allocator; the next one costs a million sessions 32 MB
	if size := unsafe.Sizeof(Session{}); size > sizeClass {
		t.Errorf("a session has %d bytes, want at most %d", size, sizeClass)
	}
}

// BenchmarkActorSystem_Send measures an event of a session that has no actor: it is activated, handles the event and rests.
func BenchmarkActorSystem_Send(b *testing.B) {
	n := newBenchNode()
	defer n.Close()
	if _, err := n.Open(b.Context(), openRequest(1)); err != nil {
		b.Fatal(err)
	}
	s := n.table.find(idOf(1))
	b.ReportAllocs()
	for b.Loop() {
		n.send(s, session.TimerFired{LastSeen: time.Now()})
		for isActive := true; isActive; {
			s.mail.mu.Lock()
			isActive = s.mail.active != nil
			s.mail.mu.Unlock()
			runtime.Gosched()
		}
	}
}
