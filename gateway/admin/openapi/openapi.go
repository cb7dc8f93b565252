// Package openapi is the description of the operator's API that the API serves, for clients and their generators.
//
// Invariants:
//   - openapi.json has every operation of the listener and no other.
//   - Every response that a test of package admin gets is one that openapi.json describes, without a field more.
//
// A new operation is added there: its path, its parameters, its body, and each status that it responds with.
//
// Refused: a document generated from the Go types. They do not say which statuses an operation has, and a change of them would
// change what clients were promised without a failing test.
package openapi

import _ "embed" // for openapi.json

//go:embed openapi.json
var document []byte

// Document returns the document. It must not be changed.
func Document() []byte { return document }
