// Usher is an auth gateway for HLS. This command is the only place where its parts meet: it reads the settings, wires a
// node (wire.go) and runs it (serve.go); demo runs one with everything that it needs in the same process.
//
// Exit codes: 0 done (check: allowed), 1 the answer is no (check: denied), 2 could not (bad settings, no answer).
package main
