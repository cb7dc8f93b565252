package memory

import (
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const childVariable = "USHER_TEST_SET_LIMIT"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" { // a process of its own, because the limit is the process's
		limit, err := SetLimit()
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString(strconv.FormatInt(limit, 10) + " " + strconv.FormatInt(debug.SetMemoryLimit(-1), 10) + "\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSetLimit runs in processes of their own, with what an operator may set.
func TestSetLimit(t *testing.T) {
	t.Parallel()
	available, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		t.Fatal(err)
	}
	ninety := strconv.FormatInt(int64(float64(available)*0.9), 10)
	none := "0 " + strconv.FormatInt(math.MaxInt64, 10)
	for name, tt := range map[string]struct{ variable, want string }{
		"nothing":            {"X=", ninety + " " + ninety},
		"a limit of theirs":  {"GOMEMLIMIT=123MiB", "128974848 128974848"},
		"no limit":           {"GOMEMLIMIT=off", none},
		"no look at machine": {"AUTOMEMLIMIT=off", none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), program)
			command.Env = append(os.Environ(), childVariable+"=1", tt.variable)
			out, err := command.Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != tt.want {
				t.Errorf("the limit is %q, error %v; want %q", got, err, tt.want)
			}
		})
	}
}
