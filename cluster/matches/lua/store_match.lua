-- Keeps the ticket of a session under what its viewer's requests have in common.
--
-- KEYS[1]  hash  tickets: a field for each session, by its id: when its viewer last asked, in ms, a space, and the ticket, encrypted
-- ARGV[1]  the session's id, 16 bytes
-- ARGV[2]  the ticket, encrypted
-- ARGV[3]  for how long it is kept, in ms
-- ARGV[4]  how many tickets are kept at most: the one that was used least recently makes room
--
-- Result   1
local key, ttl, limit = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', key, ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', key, ttl)
if redis.call('HLEN', key) > limit then
  local fields, oldest, used = redis.call('HGETALL', key), nil, nil
  for i = 1, #fields, 2 do
    local at = tonumber(string.match(fields[i + 1], '^(%d+) ')) or 0
    if not used or at < used then
      oldest, used = fields[i], at
    end
  end
  redis.call('HDEL', key, oldest)
end
return 1
