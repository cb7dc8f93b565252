-- Refuses a session for a while, and its tickets for as long as they could be used.
--
-- KEYS[1]  hash of the session; doc.go has its fields
-- ARGV[1]  by when this is to run at the latest, in ms of this clock; 0: whenever
-- ARGV[2]  the tickets that were opened then or before are refused, unix seconds; 0: all there are
-- ARGV[3]  for how long whoever comes is refused, in ms; 0: only the tickets are
-- ARGV[4]  for how long such tickets could be used, in ms
--
-- Result   this clock in ms, then "late" or "ok"
local session = KEYS[1]
local latest, opened, holds, revive = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if latest > 0 and now > latest then
  return {now, 'late'}
end

local f = redis.call('HMGET', session, 'b', 'k', 'o')
if opened == 0 then
  opened = math.max(tonumber(f[3] or 0), tonumber(t[1]))
end
redis.call('HSET', session, 'b', math.max(tonumber(f[1] or 0), opened))
if holds > 0 then
  redis.call('HSET', session, 'k', math.max(tonumber(f[2] or 0), now + holds))
end
local least = math.max(revive, holds)
if redis.call('PTTL', session) < least then
  redis.call('PEXPIRE', session, least)
end
return {now, 'ok'}
