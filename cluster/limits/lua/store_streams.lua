-- Stores the streams of a user, unless they have changed since they were read. Then it returns them instead.
--
-- KEYS[1]  hash: v is the version, s the streams as stored_set.go writes them
-- ARGV[1]  the time in ms by which it must run; 0: at any time
-- ARGV[2]  the version that was read; empty: there were no streams. A set that is missing has no version, so that it differs
--          from every version that was read
-- ARGV[3]  the new version
-- ARGV[4]  the new streams; a set without streams is remembered too, so that no node takes it for a loss
-- ARGV[5]  their TTL in ms
-- ARGV[6]  the channel for a message that the limit begins to be exceeded
-- ARGV[7]  that message; empty: none
--
-- Result   the time in ms, and "stored", "expired", or "changed" with the version and the streams, both empty if there are none
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expires = tonumber(ARGV[1])
if expires > 0 and now > expires then
  return {now, 'expired'}
end
local current = redis.call('HMGET', KEYS[1], 'v', 's')
local version = current[1] or ''
if version ~= ARGV[2] then
  return {now, 'changed', version, current[2] or ''}
end
redis.call('HSET', KEYS[1], 'v', ARGV[3], 's', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if ARGV[7] ~= '' then
  redis.call('PUBLISH', ARGV[6], ARGV[7])
end
return {now, 'stored'}
