package calibrate

// methods returns how each cost is measured, by its name.
func methods() map[string]string {
	return map[string]string{
		"playlist_us":                "node's CPU: cached playlists of known viewers, 64 connections",
		"segment_us":                 "node's CPU: cached segments of 20 kB and 1 MB, 16 connections, what does not grow with the size",
		"segment_megabyte_us":        "node's CPU: cached segments of 20 kB and 1 MB, 16 connections, what grows with the size",
		"auth_question_us":           "node's CPU: nginx asks about known viewers, 64 connections",
		"opening_us":                 "node's CPU: new viewers, each with a call of the middleware, with Redis",
		"recheck_us":                 "node's CPU: sessions re-checked each second without requests, with Redis",
		"heartbeat_us":               "node's CPU: an interval after each viewer requested once, less an idle one, by ZADD",
		"limited_heartbeat_us":       "node's CPU: streams of users with a limit renewed, less an idle interval, by HSET",
		"opening_alone_us":           "node's CPU: new viewers, each with a call of the middleware, without Redis",
		"recheck_alone_us":           "node's CPU: sessions re-checked each second without requests, without Redis",
		"redis_opening_us":           "CPU of redis-server by INFO, as opening_us",
		"redis_recheck_us":           "CPU of redis-server by INFO, as recheck_us",
		"redis_heartbeat_us":         "CPU of redis-server by INFO, as heartbeat_us",
		"redis_limited_heartbeat_us": "CPU of redis-server by INFO, as limited_heartbeat_us",
		"node_bytes":                 "resident with 1,024 sessions, before the load",
		"session_bytes":              "resident after the openings without Redis, less node_bytes",
		"connection_bytes":           "resident with 2,000 idle keep-alive connections, less that before",
		"redis_session_bytes":        "used_memory of redis-server after the openings, less that before",
	}
}
