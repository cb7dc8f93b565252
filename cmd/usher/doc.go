// Usher is an auth gateway for HLS. This command reads the settings, builds a node from all packages (node.go)
// and runs it (serve.go). The demo runs a node with an origin and a middleware in the same process.
//
// Exit codes: 0 done (check: allowed), 1 a negative answer (check: denied), 2 failed (invalid settings, no answer).
package main
