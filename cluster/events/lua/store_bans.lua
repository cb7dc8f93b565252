-- Writes bans that are not there yet, and tells all nodes. One that was lifted is not written again.
--
-- KEYS[1]  hash    bans: ban id -> ban
-- KEYS[2]  zset    ban-ends: ban id, by when it ends, in ms of this clock
-- KEYS[3]  zset    lifted: the id of a ban that was lifted, by until when that is remembered, in ms of this clock
-- KEYS[4]  stream  revocations
-- KEYS[5]  hash    state: last, the id of the last revocation; bans, that of the last one that changed the bans
-- ARGV[1]  the channel of revocations
-- ARGV[2]  how many revocations are kept, about
-- ARGV[3]  for how long they are kept, in ms
-- ARGV[4]… for each ban: its id, the id of the one that it follows from (empty: none), for how long it holds in ms, the
--          ban, the revocation that tells of it
--
-- Result   how many were written
local bans, ends, lifted, stream, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local channel, most, keep = ARGV[1], ARGV[2], ARGV[3]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
  redis.call('HDEL', bans, id)
  redis.call('ZREM', ends, id)
end
redis.call('ZREMRANGEBYSCORE', lifted, '-inf', now)

local last = redis.call('HGET', state, 'last') or '0-0'
local written = 0
for i = 4, #ARGV, 5 do
  local id, cause, holds, ban, payload = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  local gone = redis.call('ZSCORE', lifted, id) or (cause ~= '' and redis.call('ZSCORE', lifted, cause))
  if holds > 0 and not gone and redis.call('HSETNX', bans, id, ban) == 1 then
    redis.call('ZADD', ends, now + holds, id)
    local entry = redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'p', payload, 'q', last)
    redis.call('PUBLISH', channel, last .. ' ' .. entry .. ' ' .. payload)
    last = entry
    written = written + 1
  end
end
if written == 0 then
  return 0
end

redis.call('HSET', state, 'last', last, 'bans', last)
redis.call('PEXPIRE', stream, keep)
redis.call('PEXPIRE', state, keep)
local latest = redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', bans, latest[2])
redis.call('PEXPIREAT', ends, latest[2])
return written
