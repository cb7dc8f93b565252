package simulate

import (
	"flag"
	"testing"
	"testing/synctest"
)

// InFakeTime calls f in a bubble of testing/synctest, where time passes as soon as all of f's goroutines wait for it. A program
// calls it at most once; a test enters a bubble by itself. If f panics or never ends, the program ends.
func InFakeTime(f func()) {
	testing.Init()
	if err := flag.CommandLine.Parse(nil); err != nil { // the program's flags are not the tests'
		panic(err)
	}
	ended := make(chan struct{})
	go testing.Main(
		func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "simulate", F: func(t *testing.T) {
			synctest.Test(t, func(*testing.T) { f() })
			close(ended)
			select {} // or Main would end the program
		}}}, nil, nil)
	<-ended
}
