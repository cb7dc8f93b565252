-- Lifts bans, remembers that they were lifted so that no node brings them back, and tells all nodes.
--
-- KEYS[1]  hash    bans: ban id -> ban
-- KEYS[2]  zset    ban-ends: ban id, by when it ends, in ms of this clock
-- KEYS[3]  zset    lifted: the id of a ban that was lifted, by until when that is remembered, in ms of this clock
-- KEYS[4]  stream  revocations
-- KEYS[5]  hash    state: last, the id of the last revocation; bans, that of the last one that changed the bans
-- ARGV[1]  the channel of revocations
-- ARGV[2]  how many revocations are kept, about
-- ARGV[3]  for how long they are kept, in ms
-- ARGV[4]… for each ban: its id, for how long to remember it in ms, the revocation that tells of it
--
-- Result   how many were not lifted before
local bans, ends, lifted, stream, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local channel, most, keep = ARGV[1], ARGV[2], ARGV[3]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local last = redis.call('HGET', state, 'last') or '0-0'
local changed = 0
for i = 4, #ARGV, 3 do
  local id, remember, payload = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  redis.call('HDEL', bans, id)
  redis.call('ZREM', ends, id)
  if remember > 0 and redis.call('ZADD', lifted, 'NX', now + remember, id) == 1 then
    local entry = redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'p', payload, 'q', last)
    redis.call('PUBLISH', channel, last .. ' ' .. entry .. ' ' .. payload)
    last = entry
    changed = changed + 1
  end
end
if changed == 0 then
  return 0
end

redis.call('HSET', state, 'last', last, 'bans', last)
redis.call('PEXPIRE', stream, keep)
redis.call('PEXPIRE', state, keep)
local latest = redis.call('ZRANGE', lifted, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', lifted, latest[2])
return changed
