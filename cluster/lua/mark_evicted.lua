-- Marks a session as one that lost its place, or takes that back. One that is not remembered needs no mark.
--
-- KEYS[1]  hash of the session; doc.go has its fields
-- ARGV[1]  by when this is to run at the latest, in ms of this clock; 0: whenever
-- ARGV[2]  "1" marks it
--
-- Result   this clock in ms, then "late" or "ok"
local session = KEYS[1]
local latest, mark = tonumber(ARGV[1]), ARGV[2] == '1'

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if latest > 0 and now > latest then
  return {now, 'late'}
end
if not mark then
  redis.call('HDEL', session, 'x')
elseif redis.call('EXISTS', session) == 1 then
  redis.call('HSET', session, 'x', 1)
end
return {now, 'ok'}
