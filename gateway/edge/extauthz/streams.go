package extauthz

import (
	"container/list"
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"
)

// maxStreams is how many streams a connection may have. An Envoy with 100,000 viewers asks some 50,000 times a second. Over eight workers, of
// which each has a connection of its own, that is 30 checks in flight at 5 ms each. While the middleware hangs, new viewers wait for a second.
// Envoy opens another connection for more once it knows the bound. Before, it sends all that waited for the connection at once, and what is
// beyond the bound fails: so its settings say less (max_concurrent_streams).
const maxStreams = 1024

// maxAwaited is how many streams may wait for their message, on all connections: 11 kB each, and what has arrived of the message. Envoy sends
// a message with its header, so that hardly any wait.
const maxAwaited = 4096

// messageTimeout bounds how long a stream waits for its message. Envoy gives up on a check after 200 ms, unless it is told otherwise.
const messageTimeout = 5 * time.Second

// awaitedStreams are the streams whose message has not arrived. gRPC alone would wait for it as long as the peer answers pings.
type awaitedStreams struct {
	onOverload func()

	mu sync.Mutex
	// streams begins with the one that has waited for longest. One that its peer has reset stays until its time is over.
	streams list.List // of *awaitedStream
}

// awaitedStream is a stream that may wait for its message.
type awaitedStream struct {
	all     *awaitedStreams
	end     context.CancelFunc
	timeout *time.Timer
	element *list.Element // nil: it does not wait any more
}

// streamKey is the key of a context's *awaitedStream.
type streamKey struct{}

// begin has a stream wait for its message. Beyond the bound, the one that has waited for longest ends. The new one is not refused, because
// strangers would then decide whether Envoy gets one; nor does begin return an error, after which gRPC keeps the context.
func (a *awaitedStreams) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, end := context.WithCancel(ctx)
	s := &awaitedStream{all: a, end: end}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams.Len() >= maxAwaited {
		oldest := a.streams.Front().Value.(*awaitedStream) //nolint:forcetypeassert // it holds no others
		oldest.remove()
		oldest.end()
		a.onOverload()
	}
	s.element = a.streams.PushBack(s)
	s.timeout = time.AfterFunc(messageTimeout, func() {
		s.arrived()
		end()
	})
	return context.WithValue(ctx, streamKey{}, s), nil
}

// arrived has the stream wait no more.
func (s *awaitedStream) arrived() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.remove()
}

// remove is arrived for a caller that holds the lock.
func (s *awaitedStream) remove() {
	if s.element == nil {
		return
	}
	s.all.streams.Remove(s.element)
	s.element = nil
	s.timeout.Stop()
}

// messageArrived has the stream of a context wait no more.
func messageArrived(ctx context.Context) {
	if s, ok := ctx.Value(streamKey{}).(*awaitedStream); ok {
		s.arrived()
	}
}

// onUnaryMessage is called once the message of a unary call has arrived.
func onUnaryMessage(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	messageArrived(ctx)
	return handle(ctx, request)
}

// endStreamsWith ends streams when a context ends, and after idleTimeout. Only health watches are streams, and their clients never end them,
// so that the drain would wait for them, and their connections would never be idle.
func endStreamsWith(life context.Context) grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		ctx, end := context.WithTimeout(stream.Context(), idleTimeout)
		defer end()
		defer context.AfterFunc(life, end)()
		return handle(service, boundStream{stream, ctx})
	}
}

// boundStream is a stream with its own context.
type boundStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // that is how gRPC gives a stream its context
}

// Context ends with the stream, or before.
func (s boundStream) Context() context.Context { return s.ctx }

// RecvMsg waits for a message.
func (s boundStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	messageArrived(s.ctx)
	return err
}
