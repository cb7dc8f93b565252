-- Reads a session and, if no decision on it is an answer, lets the caller ask.
--
-- KEYS[1]  hash of the session; doc.go has its fields
-- ARGV[1]  by when this is to run at the latest, in ms of this clock; 0: whenever
-- ARGV[2]  the version of records that the caller knows
-- ARGV[3]  the number of the decision that the caller stands on; 0: none
-- ARGV[4]  for how long nobody else shall ask, in ms; 0 only looks
-- ARGV[5]  "1" takes the lease from whoever has it
-- ARGV[6]  "1": the caller will wait for whoever asks
--
-- Result   this clock in ms, "late" or "ok", then what is known of the session: record, validity left in ms, number, buried,
--          kick left in ms, evicted; then the number of the lease that was granted (0: none), and 1 if somebody else asks
--
-- A decision is an answer if it holds, was not buried, and is newer than what the caller stands on.
local session = KEYS[1]
local latest, version, known = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lease, insist, waits = tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6] == '1'

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if latest > 0 and now > latest then
  return {now, 'late'}
end

local f = redis.call('HMGET', session, 'v', 'r', 'e', 'f', 'b', 'k', 'x', 'o', 'a', 'l', 'u', 's')
local record, expires, number, buried, kicked, evicted = f[2], f[3], f[4], f[5], f[6], f[7]
local opened, asked, last, busy, since = f[8], f[9], tonumber(f[10] or 0), tonumber(f[11] or 0), f[12]
local readable = record and tonumber(f[1] or 0) <= version
local left = tonumber(expires or 0) - now

local said = {
  now, 'ok', readable and record or '', left, readable and tonumber(number or 0) or 0, tonumber(buried or 0),
  math.max(0, tonumber(kicked or 0) - now), evicted and 1 or 0, 0, 0,
}

local answers = readable and left > 0 and tonumber(opened or 0) > tonumber(buried or 0)
  and (known == 0 or (asked == '1' and tonumber(number or 0) > known))
if answers then
  if known == 0 and not since then
    redis.call('HSET', session, 's', now)
    redis.call('HDEL', session, 'c')
  end
  return said
end
if tonumber(kicked or 0) > now then
  return said
end
if busy > now and not insist then
  said[10] = 1
  if waits then
    redis.call('HSET', session, 'w', 1)
  end
  return said
end
if lease > 0 then
  last = math.max(last + 1, now)
  redis.call('HSET', session, 'l', last, 'u', now + lease)
  local rest = redis.call('PTTL', session)
  if rest < 2 * lease then
    redis.call('PEXPIRE', session, 2 * lease)
  end
  said[9] = last
end
return said
