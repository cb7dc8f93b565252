-- Marks a session as evicted by the stream limit, or removes the mark. An unknown session gets no mark.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  "1": mark it; "0": remove the mark
--
-- Result   a list: Redis' clock in ms; "expired" or "ok"
local session = KEYS[1]
local expiry, isEvicted = tonumber(ARGV[1]), ARGV[2] == '1'

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'}
end
if not isEvicted then
  redis.call('HDEL', session, 'x')
elseif redis.call('EXISTS', session) == 1 then
  redis.call('HSET', session, 'x', 1)
end
return {now, 'ok'}
