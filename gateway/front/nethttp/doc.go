// Package nethttp serves a gateway by net/http.
//
// Begin with [NewHandler].
//
// Decided: it serves what only net/http speaks here, which is TLS and HTTP/2.
package nethttp
