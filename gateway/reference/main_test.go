package reference

import (
	"testing"

	"go.uber.org/goleak"

	"usher/backends/backendtest/testflags"
)

func TestMain(m *testing.M) {
	testflags.PinSeed()
	goleak.VerifyTestMain(m)
}
