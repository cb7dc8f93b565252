// Package redistest starts real redis-servers for tests. [Start] starts one, [StartCluster] a Redis Cluster; [Log] and
// [Eventually] help to watch what runs beside the test.
package redistest
