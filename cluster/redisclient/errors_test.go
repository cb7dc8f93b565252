package redisclient

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/cluster/redistest"
)

func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	must(t, server.Client.Set(t.Context(), "text", "x", time.Minute).Err())
	if err := server.Client.HGet(t.Context(), "text", "x").Err(); isUnavailable(err) {
		t.Errorf("a wrong type is absence: %v", err)
	}
	must(t, server.Client.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	if err := server.Client.Set(t.Context(), "text", "x", 0).Err(); !isUnavailable(err) {
		t.Errorf("a replica is a master: %v", err)
	}
	nowhere := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket + "x", MaxRetries: -1})
	defer func() { _ = nowhere.Close() }()
	if err := nowhere.Ping(t.Context()).Err(); !isUnavailable(err) {
		t.Errorf("nobody is somebody: %v", err)
	}
}
