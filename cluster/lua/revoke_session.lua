-- Revokes a session's tickets for as long as they could be used.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  the tickets that were opened then or before are revoked, in Unix seconds; 0: all that exist
-- ARGV[3]  for how long such tickets could be used, in ms
--
-- Result   a list: Redis' clock in ms; "expired" or "ok"
local session = KEYS[1]
local expiry, opened, reviveFor = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'}
end

local f = redis.call('HMGET', session, 'b', 'o')
if opened == 0 then
  opened = math.max(tonumber(f[2] or 0), tonumber(t[1]))
end
redis.call('HSET', session, 'b', math.max(tonumber(f[1] or 0), opened))
if redis.call('PTTL', session) < reviveFor then
  redis.call('PEXPIRE', session, reviveFor)
end
return {now, 'ok'}
