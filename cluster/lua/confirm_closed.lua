-- Forgets the counters of a period that close_session.lua has returned.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the period
--
-- Result   1 if it was forgotten now, else 0
local session, period = KEYS[1], tonumber(ARGV[1])

local packed = redis.call('HGET', session, 'p')
if packed and cmsgpack.unpack(packed)[13] == period then
  return redis.call('HDEL', session, 'p')
end
return 0
