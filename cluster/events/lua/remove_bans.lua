-- Removes bans, remembers that they were removed so that no node stores them again, and publishes that.
--
-- KEYS[1]  hash    bans: ban id -> ban, encrypted
-- KEYS[2]  zset    ban expiries: ban id, scored by when the ban ends, in ms of Redis' clock
-- KEYS[3]  zset    unbanned: ban id, scored by until when it is remembered, in ms of Redis' clock
-- KEYS[4]  stream  revocations: p, the payload; q, the id of the entry before it
-- KEYS[5]  hash    state: last, the id of the last revocation
-- ARGV[1]  the channel of revocations
-- ARGV[2]  about how many revocations the stream keeps
-- ARGV[3]  the TTL of the stream and the state, in ms
-- ARGV[4]… for each ban three arguments: its id, for how long to remember it in ms, its revocation
--
-- Result   how many were not removed before
local bans, expiries, unbanned, stream, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local channel, maxLength, ttl = ARGV[1], ARGV[2], ARGV[3]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local last = redis.call('HGET', state, 'last') or '0-0'
local removed = 0
for i = 4, #ARGV, 3 do
  local id, rememberFor, payload = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  redis.call('HDEL', bans, id)
  redis.call('ZREM', expiries, id)
  if rememberFor > 0 and redis.call('ZADD', unbanned, 'NX', now + rememberFor, id) == 1 then
    local entry = redis.call('XADD', stream, 'MAXLEN', '~', maxLength, '*', 'p', payload, 'q', last)
    redis.call('PUBLISH', channel, last .. ' ' .. entry .. ' ' .. payload)
    last = entry
    removed = removed + 1
  end
end
if removed == 0 then
  return 0
end

redis.call('HSET', state, 'last', last)
redis.call('PEXPIRE', stream, ttl)
redis.call('PEXPIRE', state, ttl)
local latest = redis.call('ZRANGE', unbanned, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', unbanned, latest[2])
return removed
