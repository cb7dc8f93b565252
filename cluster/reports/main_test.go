package reports

import (
	"testing"

	"go.uber.org/goleak"

	"usher/cluster/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.IgnoreDials()) }
