// Package redistest starts real redis-servers for tests. [Start] starts one; [Log] and [Eventually] help to watch what
// runs beside the test.
package redistest
