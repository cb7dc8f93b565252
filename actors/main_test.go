package actors

import (
	"testing"

	"go.uber.org/goleak"

	"usher/backends/backendtest/testflags"
)

func TestMain(m *testing.M) {
	testflags.PinSeed()
	goleak.VerifyTestMain(m,
		// protoactor counts dead letters for a second after the first one. Its goroutine ends by itself.
		goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func3.1"),
		goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"),
	)
}
