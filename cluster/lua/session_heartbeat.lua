-- Says when sessions were seen.
--
-- KEYS[1]  zset  live sessions of a bucket: session id, by when it was last seen, in ms of this clock
-- ARGV[1]  by when this is to run at the latest, in ms of this clock; 0: whenever
-- ARGV[2]  for how long the bucket is kept after a session of it was seen, in ms
-- ARGV[3]… for each session: its id, how long ago it was seen in ms; less than 0: it counts as seen for so long yet
--
-- Result   this clock in ms, "late" or "ok", then the ids of those that were not there
local live = KEYS[1]
local latest, keep = tonumber(ARGV[1]), tonumber(ARGV[2])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if latest > 0 and now > latest then
  return {now, 'late'}
end

local said = {now, 'ok'}
local ahead = 0
for i = 3, #ARGV, 2 do
  local id, age = ARGV[i], tonumber(ARGV[i + 1])
  if not redis.call('ZSCORE', live, id) then
    said[#said + 1] = id
  end
  redis.call('ZADD', live, 'GT', now - age, id)
  ahead = math.max(ahead, -age)
end
if redis.call('PTTL', live) < keep + ahead then
  redis.call('PEXPIRE', live, keep + ahead)
end
return said
