-- Returns idle sessions. The caller must close them and then confirm that by expire_ack.lua; if it does not, the next scan
-- after a while returns them to another node.
--
-- The new score has half a millisecond, which no other has: session_heartbeat.lua sees by it that the session is being closed.
--
-- KEYS[1]  zset of a bucket: session id, scored by when the session was last seen, in ms of Redis' clock
-- ARGV[1]  after how long a session is idle, in ms
-- ARGV[2]  how many to return at most
-- ARGV[3]  for how long no other scan returns them, in ms
--
-- Result   for each session a list: its id, how long ago it was last seen in ms, its new score,
--          without the half
local bucket = KEYS[1]
local idleAfter, limit, window = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local result = {}
local found = redis.call('ZRANGEBYSCORE', bucket, '-inf', now - idleAfter, 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #found, 2 do
  local id, lastSeen = found[i], tonumber(found[i + 1])
  local score = now - idleAfter + window
  redis.call('ZADD', bucket, score + 0.5, id)
  result[#result + 1] = {id, now - lastSeen, score}
end
return result
