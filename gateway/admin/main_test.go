package admin

import (
	"testing"

	"go.uber.org/goleak"

	"usher/backends/backendtest/testseed"
)

func TestMain(m *testing.M) {
	testseed.Pin()
	goleak.VerifyTestMain(m)
}
