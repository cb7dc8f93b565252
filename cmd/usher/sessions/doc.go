// Package sessions is the command "usher sessions": it lists, kicks and bans viewers on all nodes through the API of any node,
// and forces and probes backends.
package sessions

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrNegative means that a command succeeded with a negative answer, for example that no session has the id.
var ErrNegative = errors.New("no")

// Runtime is what every command gets.
type Runtime struct {
	//nolint:containedctx // kong passes values to Run, and this one lives as long as the command
	context.Context
	// Out gets what the command prints, and Err warnings.
	Out, Err io.Writer
	// Now is the clock that ages are computed from.
	Now func() time.Time
}
