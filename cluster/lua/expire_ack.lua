-- Removes sessions that were closed from their bucket, unless they were seen since the scan.
--
-- KEYS[1]  zset of a bucket: session id, scored by when the session was last seen, in ms of Redis' clock
-- ARGV[1]… for each session two arguments: its id, its score as expire_scan.lua returned it
--
-- Result   how many were removed
local bucket = KEYS[1]

local removed = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', bucket, ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) + 0.5 then
    removed = removed + redis.call('ZREM', bucket, ARGV[i])
  end
end
return removed
