package reports

import (
	"testing"

	"go.uber.org/goleak"

	"usher/backends/backendtest/testflags"
	"usher/cluster/redistest"
)

func TestMain(m *testing.M) {
	testflags.PinSeed()
	goleak.VerifyTestMain(m, redistest.IgnoreDials())
}
