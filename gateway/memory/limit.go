package memory

import (
	"fmt"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// SetLimit sets GOMEMLIMIT to 90 % of what the container or the machine has, unless the environment says what it is. It returns
// the limit that holds; 0: there is none. After an error the limit is as before.
func SetLimit() (limit int64, err error) {
	limit, err = memlimit.Set(memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	if err != nil {
		return Limit(), fmt.Errorf("find how much memory there is: %w", err)
	}
	return orNone(limit), nil
}

// Limit returns GOMEMLIMIT; 0: there is none.
func Limit() int64 { return orNone(debug.SetMemoryLimit(-1)) }

func orNone(limit int64) int64 {
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}
