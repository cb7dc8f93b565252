// Package clock builds a node whose clock can be set, as an operator or NTP sets a machine's: the wall clock jumps, and the
// monotonic clock, by which timers run, goes on.
//
// Begin with [Build] and [Open].
//
// Decided: the one function of Go's library that reads the clock is replaced in the build, by go build -overlay, and nothing in
// Usher's own code. So the whole program sees the step, its libraries too, and no program that an operator runs has the
// replacement in it.
//
// Refused: a clock that the packages of Usher are given (libraries would keep the machine's), LD_PRELOAD (a Go program asks the
// kernel itself), a time namespace (it has no wall clock), and setting the machine's clock.
package clock
