-- Takes sessions that were closed off the list, unless they were seen since.
--
-- KEYS[1]  zset  live sessions of a bucket: session id, by when it was last seen
-- ARGV[1]… for each session: its id, its score as sweep.lua told it
--
-- Result   how many were taken off
local live = KEYS[1]

local gone = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', live, ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    gone = gone + redis.call('ZREM', live, ARGV[i])
  end
end
return gone
