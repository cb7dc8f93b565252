-- Ends a stretch of a session: returns what was counted in it, once. The session stays remembered, and begins a new stretch
-- if it comes back.
--
-- KEYS[1]  hash of the session; doc.go has its fields
-- ARGV[1]  the version of records that the caller knows
-- ARGV[2]  for how long it is to be remembered at least that the stretch ended, in ms
--
-- Result   1 if it was closed before, and nothing else; else 0, then what is known of the session: record, validity left in
--          ms, number, buried, kick left in ms, evicted; then how long ago the stretch began in ms (-1: nobody knows),
--          requests, bytes, time without an answer in ms, what it stood on
local session = KEYS[1]
local version, keep = tonumber(ARGV[1]), tonumber(ARGV[2])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local f = redis.call('HMGET', session, 'v', 'r', 'e', 'f', 'b', 'k', 'x', 's', 'nr', 'nb', 'ns', 'nh', 'c')
if f[13] then
  return {1}
end
local readable = f[2] and tonumber(f[1] or 0) <= version
redis.call('HDEL', session, 's', 'nr', 'nb', 'ns', 'nh')
redis.call('HSET', session, 'c', 1)
if redis.call('PTTL', session) < keep then
  redis.call('PEXPIRE', session, keep)
end
return {
  0, readable and f[2] or '', tonumber(f[3] or 0) - now, readable and tonumber(f[4] or 0) or 0, tonumber(f[5] or 0),
  math.max(0, tonumber(f[6] or 0) - now), f[7] and 1 or 0, f[8] and now - tonumber(f[8]) or -1,
  tonumber(f[9] or 0), tonumber(f[10] or 0), tonumber(f[11] or 0), f[12] or '',
}
