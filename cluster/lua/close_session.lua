-- Ends the current period of a session, and returns once what was counted in it. The session stays known, and a new period
-- begins if its viewer comes back.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  the newest version of records that the caller knows
-- ARGV[3]  for how long it is remembered at least that the period ended, in ms
--
-- Result   a list: Redis' clock in ms; "expired", "before" (the session was closed before) or "closed". After the last one, of
--          the session: the record, for how long its decision still holds in ms, its revision, revoked-before in Unix seconds,
--          1 if it is evicted; how long ago the period began in ms (-1: unknown); requests, bytes, time without a backend's
--          answer in ms, the history of decisions
local session = KEYS[1]
local expiry, version, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'} -- the closing record would be lost
end

local f = redis.call('HMGET', session, 'v', 'r', 'e', 'f', 'b', 'x', 's', 'nr', 'nb', 'ns', 'nh', 'c')
if f[12] then
  return {now, 'before'}
end
local readable = f[2] and tonumber(f[1] or 0) <= version
redis.call('HDEL', session, 's', 'nr', 'nb', 'ns', 'nh')
redis.call('HSET', session, 'c', 1)
if redis.call('PTTL', session) < ttl then
  redis.call('PEXPIRE', session, ttl)
end
return {
  now, 'closed', readable and f[2] or '', tonumber(f[3] or 0) - now, readable and tonumber(f[4] or 0) or 0, tonumber(f[5] or 0),
  f[6] and 1 or 0, f[7] and now - tonumber(f[7]) or -1,
  tonumber(f[8] or 0), tonumber(f[9] or 0), tonumber(f[10] or 0), f[11] or '',
}
