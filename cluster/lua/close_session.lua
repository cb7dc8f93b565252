-- Ends the current period of a session, and returns what was counted in it. Until confirm_closed.lua confirms the period, this
-- script returns it again. The session stays known, and a new period begins if its viewer comes back.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  the newest version of records that the caller knows
-- ARGV[3]  for how long it is remembered at least that the period ended, in ms
-- ARGV[4]  how long ago the session was last seen, in ms
--
-- Result   a list: Redis' clock in ms; "expired", "before" (the session was closed before, and that is confirmed), "closed" or
--          "again" (an earlier period is not confirmed, and the session has begun another one). After the last two, of the
--          session when the period ended: the record, for how long its decision still holds in ms, its revision,
--          revoked-before in Unix seconds, 1 if it is evicted; how long ago the period began in ms (-1: unknown); requests,
--          bytes, time without a backend's answer in ms, the history of decisions; how long ago it was last seen in ms; the
--          period, which is when it ended; 1 if a node still held the session
local session = KEYS[1]
local expiry, version, ttl, idleFor = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'}
end

-- reply makes the result of the period that is stored packed.
local function reply(outcome, packed)
  local p = cmsgpack.unpack(packed)
  local readable = p[2] ~= '' and p[1] <= version
  return {
    now, outcome, readable and p[2] or '', p[3] - now, readable and p[4] or 0, p[5], p[6], p[7] >= 0 and now - p[7] or -1,
    p[8], p[9], p[10], p[11], now - p[12], p[13], p[14],
  }
end

local f = redis.call('HMGET', session, 'v', 'r', 'e', 'f', 'b', 'x', 's', 'nr', 'nb', 'ns', 'nh', 'c', 'n', 'p')
if f[14] then
  return reply(f[12] and 'closed' or 'again', f[14])
end
if f[12] then
  return {now, 'before'}
end
local packed = cmsgpack.pack({
  tonumber(f[1] or 0), f[2] or '', tonumber(f[3] or 0), tonumber(f[4] or 0), tonumber(f[5] or 0), f[6] and 1 or 0,
  tonumber(f[7] or -1), tonumber(f[8] or 0), tonumber(f[9] or 0), tonumber(f[10] or 0), f[11] or '', now - idleFor, now,
  f[13] and 1 or 0,
})
redis.call('HDEL', session, 's', 'nr', 'nb', 'ns', 'nh', 'n')
redis.call('HSET', session, 'c', 1, 'p', packed)
if redis.call('PTTL', session) < ttl then
  redis.call('PEXPIRE', session, ttl)
end
return reply('closed', packed)
