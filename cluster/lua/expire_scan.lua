-- Picks sessions that nobody has seen for long. Whoever is given them is to close them, and then says so by forget.lua; if
-- it cannot, another node is given them a little later.
--
-- KEYS[1]  zset  live sessions of a bucket: session id, by when it was last seen, in ms of this clock
-- ARGV[1]  after how long nobody is there any more, in ms
-- ARGV[2]  how many to pick at most
-- ARGV[3]  for how long nobody else is given them, in ms
--
-- Result   for each: its id, how long ago it was seen in ms, its score from now on
local live = KEYS[1]
local idle, most, hold = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local picked = {}
local found = redis.call('ZRANGEBYSCORE', live, '-inf', now - idle, 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #found, 2 do
  local id, seen = found[i], tonumber(found[i + 1])
  local score = now - idle + hold
  redis.call('ZADD', live, score, id)
  picked[#picked + 1] = {id, now - seen, score}
end
return picked
