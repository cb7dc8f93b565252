-- Stores operators' orders on breakers, unless a newer one on the same backend is stored. A stored version that is more than a day
-- ahead is no time of an order, and holds nothing up.
--
-- KEYS[1]  hash    forced: backend -> version, until in ms of Redis' clock, the order, encrypted; with spaces between
-- ARGV[1]… for each order four arguments: its backend, its version, for how long it holds in ms, the order
--
-- Result   how many were stored
local forced = KEYS[1]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local stored = 0
for i = 1, #ARGV, 4 do
  local backend, version, holdsFor, order = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local known = tonumber(string.match(redis.call('HGET', forced, backend) or '', '^%d+') or 0)
  if holdsFor > 0 and (known < tonumber(version) or known > now + 86400000) then
    redis.call('HSET', forced, backend, version .. ' ' .. string.format('%.0f', now + holdsFor) .. ' ' .. order)
    stored = stored + 1
  end
end

local latest = 0
local all = redis.call('HGETALL', forced)
for i = 1, #all, 2 do
  local ends = tonumber(string.match(all[i + 1], '^%d+ (%d+)'))
  if ends <= now then
    redis.call('HDEL', forced, all[i])
  end
  latest = math.max(latest, ends)
end
if latest > 0 then
  redis.call('PEXPIREAT', forced, string.format('%.0f', latest))
end
return stored
