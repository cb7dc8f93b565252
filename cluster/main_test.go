package cluster

import (
	"testing"

	"go.uber.org/goleak"

	"usher/backends/backendtest/testflags"
	"usher/cluster/redistest"
)

func TestMain(m *testing.M) {
	testflags.PinSeed()
	testflags.SetParallel(6) // they mostly wait for Redis
	goleak.VerifyTestMain(m, redistest.IgnoreDials())
}
