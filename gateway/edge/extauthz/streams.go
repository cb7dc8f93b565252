package extauthz

import (
	"container/list"
	"context"
	"slices"
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

// maxAwaited is how many streams may wait for their message, on all connections: 11 kB each, 230 kB with the header that costs most, and
// what has arrived of the message. Envoy sends a message with its header, so that a burst of 8,192 checks has some ten wait.
const maxAwaited = 2048

// connWindow is how many bytes of messages a connection may have on their way. Envoy sends the headers of all checks that it has, and their
// messages as far as the window goes: with HTTP/2's 64 kB a hundred messages, so that a burst of checks waited by the thousand. gRPC's window
// that grows by itself grows too late for that.
const connWindow = 512 << 10

// messageTimeout bounds how long a stream waits for its message. Envoy gives up on a check after 200 ms, unless it is told otherwise.
const messageTimeout = 5 * time.Second

// awaitedStreams are the streams whose message has not arrived. gRPC alone would wait for it as long as the peer answers pings.
type awaitedStreams struct {
	onOverload func()

	mu sync.Mutex
	// streams begins with the one that has waited for longest.
	streams list.List // of *awaitedStream
}

// awaitedStream is a stream that may wait for its message.
type awaitedStream struct {
	all     *awaitedStreams
	end     context.CancelFunc
	timeout *time.Timer
	element *list.Element // nil: it does not wait
}

// streamKey is the key of a context's *awaitedStream.
type streamKey struct{}

// begin makes it possible to end a stream. It returns no error, after which gRPC keeps the context.
func (a *awaitedStreams) begin(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, end := context.WithCancel(ctx)
	return context.WithValue(ctx, streamKey{}, &awaitedStream{all: a, end: end}), nil
}

// receive waits for a stream's message. It counts from here and not from the header: a busy node has thousands of streams whose message is
// there, and which have not read it yet.
func receive(stream grpc.ServerStream, message any) error {
	if s, ok := stream.Context().Value(streamKey{}).(*awaitedStream); ok {
		s.wait()
		defer s.arrived()
	}
	return stream.RecvMsg(message)
}

// wait has the stream wait. Beyond the bound, the one that has waited for longest ends. The new one is not refused, because strangers would
// then decide whether Envoy gets one.
func (s *awaitedStream) wait() {
	a := s.all
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams.Len() >= maxAwaited {
		oldest := a.streams.Front().Value.(*awaitedStream) //nolint:forcetypeassert // it holds no others
		oldest.remove()
		oldest.end()
		a.onOverload()
	}
	s.element = a.streams.PushBack(s)
	s.timeout = time.AfterFunc(messageTimeout, s.end)
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

// awaited returns a service whose unary methods wait for their message as streams do. gRPC lets no interceptor of a unary method run before.
// Nor does it call the interceptor of streams for one that streams neither way, which is why it waits once.
func awaited(service grpc.ServiceDesc) *grpc.ServiceDesc {
	service.Streams = slices.Clone(service.Streams)
	for _, method := range service.Methods {
		service.Streams = append(service.Streams, grpc.StreamDesc{
			StreamName: method.MethodName, Handler: func(service any, stream grpc.ServerStream) error {
				answer, err := method.Handler(service, stream.Context(), func(m any) error { return receive(stream, m) }, nil)
				if err != nil {
					return err
				}
				return stream.SendMsg(answer)
			},
		})
	}
	service.Methods = nil
	return &service
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
	return receive(s.ServerStream, message)
}
