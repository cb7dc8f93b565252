-- Keeps the ticket of a session under what its viewer's requests have in common, unless one is kept that was opened later.
--
-- KEYS[1]  hash  tickets: a field for each session, by its id: when its viewer last asked, in ms, when the ticket was opened, in s, and
--                the ticket, encrypted, with spaces between
-- ARGV[1]  the session's id, 16 bytes
-- ARGV[2]  the ticket, encrypted
-- ARGV[3]  when it was opened, in s
-- ARGV[4]  for how long it is kept, in ms
-- ARGV[5]  how many tickets are kept at most: the one that was used least recently makes room
--
-- Result   1 if it is kept, else 0
local key, opened, ttl, limit = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local kept = redis.call('HGET', key, ARGV[1])
local used, before = string.match(kept or '', '^(%d+) (%-?%d+) ')
if used and now - tonumber(used) <= ttl and tonumber(before) > opened then
  return 0
end
redis.call('HSET', key, ARGV[1], string.format('%.0f %.0f ', now, opened) .. ARGV[2])
redis.call('PEXPIRE', key, ttl)
if redis.call('HLEN', key) > limit then
  local fields, oldest, least = redis.call('HGETALL', key), nil, nil
  for i = 1, #fields, 2 do
    local at = tonumber(string.match(fields[i + 1], '^(%d+) ')) or 0
    if not least or at < least then
      oldest, least = fields[i], at
    end
  end
  redis.call('HDEL', key, oldest)
end
return 1
