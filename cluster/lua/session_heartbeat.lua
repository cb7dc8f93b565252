-- Records when sessions were last seen.
--
-- KEYS[1]  zset of a bucket: session id, scored by when the session was last seen, in ms of Redis' clock
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  the TTL of the bucket after its last heartbeat, in ms
-- ARGV[3]… for each session two arguments: its id; how long ago it was last seen in ms, which is negative if it counts as
--          seen for that long from now
--
-- Result   a list: Redis' clock in ms; "expired" or "ok"; then the ids of the sessions that were not in the bucket, or
--          were seen since expire_scan.lua returned them: their period has ended, and they must be stored again
local bucket = KEYS[1]
local expiry, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'}
end

local result = {now, 'ok'}
local ahead = 0
for i = 3, #ARGV, 2 do
  local id, age = ARGV[i], tonumber(ARGV[i + 1])
  local score = tonumber(redis.call('ZSCORE', bucket, id) or 0)
  local isClosing = score % 1 ~= 0
  if score == 0 or isClosing and now - age > score then
    result[#result + 1] = id
  end
  redis.call('ZADD', bucket, 'GT', now - age, id)
  ahead = math.max(ahead, -age)
end
if redis.call('PTTL', bucket) < ttl + ahead then
  redis.call('PEXPIRE', bucket, ttl + ahead)
end
return result
