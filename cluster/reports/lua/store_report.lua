-- Stores a part of a report, and deletes those that are too old or too many; or only deletes and returns the others.
--
-- KEYS[1]  hash    parts of one subject: id -> the number of the version, a colon and the part, encrypted
-- KEYS[2]  zset    the same ids, scored by when they were stored, in ms of Redis' clock
-- ARGV[1]  the id; empty: nothing is stored, and all parts are returned
-- ARGV[2]  the number of the version, which only grows; an older one changes nothing
-- ARGV[3]  the part
-- ARGV[4]  how many parts are kept
-- ARGV[5]  for how long a part is kept, in ms
--
-- Result   a list: ids and parts in turn
local parts, times = KEYS[1], KEYS[2]
local id, version, part, limit, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

if id ~= '' then
  local stored = redis.call('HGET', parts, id)
  if stored and tonumber(string.match(stored, '^%d+')) >= version then
    return {}
  end
  redis.call('HSET', parts, id, string.format('%d', version) .. ':' .. part)
  redis.call('ZADD', times, now, id)
  redis.call('PEXPIRE', parts, ttl)
  redis.call('PEXPIRE', times, ttl)
end

local old = redis.call('ZRANGEBYSCORE', times, '-inf', now - ttl)
local excess = redis.call('ZCARD', times) - #old - limit
if limit > 0 and excess > 0 then
  for _, oldID in ipairs(redis.call('ZRANGE', times, #old, #old + excess - 1)) do
    old[#old + 1] = oldID
  end
end
for _, oldID in ipairs(old) do
  redis.call('HDEL', parts, oldID)
  redis.call('ZREM', times, oldID)
end

if id ~= '' then
  return {}
end
local all = redis.call('HGETALL', parts)
for i = 2, #all, 2 do
  all[i] = string.gsub(all[i], '^%d+:', '', 1)
end
return all
