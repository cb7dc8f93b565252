-- Stores bans that are not stored yet, and publishes them. A ban that was unbanned is not stored again.
--
-- KEYS[1]  hash    bans: ban id -> ban, encrypted
-- KEYS[2]  zset    ban expiries: ban id, scored by when the ban ends, in ms of Redis' clock
-- KEYS[3]  zset    unbanned: ban id, scored by until when it is remembered, in ms of Redis' clock
-- KEYS[4]  stream  revocations: p, the payload; q, the id of the entry before it
-- KEYS[5]  hash    state: last, the id of the last revocation
-- ARGV[1]  the channel of revocations
-- ARGV[2]  about how many revocations the stream keeps
-- ARGV[3]  the TTL of the stream and the state, in ms
-- ARGV[4]… for each ban six arguments: its id, the id of the ban that caused it (empty: none), for how long it holds in
--          ms, the ban, its revocation, and that as the stream keeps it (empty: the same)
--
-- Result   how many bans were stored
local bans, expiries, unbanned, stream, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local channel, maxLength, ttl = ARGV[1], ARGV[2], ARGV[3]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', now)) do
  redis.call('HDEL', bans, id)
  redis.call('ZREM', expiries, id)
end
redis.call('ZREMRANGEBYSCORE', unbanned, '-inf', now)

local last = redis.call('HGET', state, 'last') or '0-0'
local stored = 0
for i = 4, #ARGV, 6 do
  local id, cause, holdsFor, ban, payload = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  local kept = ARGV[i + 5] ~= '' and ARGV[i + 5] or payload
  local isUnbanned = redis.call('ZSCORE', unbanned, id) or (cause ~= '' and redis.call('ZSCORE', unbanned, cause))
  if holdsFor > 0 and not isUnbanned and redis.call('HSETNX', bans, id, ban) == 1 then
    redis.call('ZADD', expiries, now + holdsFor, id)
    local entry = redis.call('XADD', stream, 'MAXLEN', '~', maxLength, '*', 'p', kept, 'q', last)
    redis.call('PUBLISH', channel, last .. ' ' .. entry .. ' ' .. payload)
    last = entry
    stored = stored + 1
  end
end
if stored == 0 then
  return 0
end

redis.call('HSET', state, 'last', last)
redis.call('PEXPIRE', stream, ttl)
redis.call('PEXPIRE', state, ttl)
local latest = redis.call('ZRANGE', expiries, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', bans, latest[2])
redis.call('PEXPIREAT', expiries, latest[2])
return stored
