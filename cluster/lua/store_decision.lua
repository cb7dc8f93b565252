-- Stores a decision under the number of its lease, and gives the lease back.
--
-- KEYS[1]  hash of the session; doc.go has its fields
-- ARGV[1]  by when this is to run at the latest, in ms of this clock; 0: whenever
-- ARGV[2]  the version of the record
-- ARGV[3]  the number of the lease; 0: none
-- ARGV[4]  "release": there is no decision; "stopgap": nobody who knows the viewer took it; "asked": somebody did
-- ARGV[5]  the record
-- ARGV[6]  when the session was opened, unix seconds
-- ARGV[7]  for how long the decision holds, in ms
-- ARGV[8]  for how long the session is remembered after that, in ms
-- ARGV[9]  "1" refuses the tickets that were opened then or before
-- ARGV[10] for how long such tickets could be used, in ms
-- ARGV[11] the channel that tells of answers, ARGV[12] what it tells of this one
--
-- Result   this clock in ms, then "late", "stored", "kept" or "stale"
local session = KEYS[1]
local latest, version, number, kind = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local record, opened, holds, keep = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local bury, revive = ARGV[9] == '1', tonumber(ARGV[10])
local channel, message = ARGV[11], ARGV[12]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if latest > 0 and now > latest then
  return {now, 'late'}
end

local f = redis.call('HMGET', session, 'v', 'e', 'o', 'a', 'b', 'l', 'w', 'f')
local expires, asked, buried, last = tonumber(f[2] or 0), f[4] == '1', tonumber(f[5] or 0), tonumber(f[6] or 0)
local foreign = tonumber(f[1] or 0) > version
local stands = asked and expires > now and tonumber(f[3] or 0) > buried

-- live keeps the key for at least so long, and never for less than before.
local function live(ms)
  if ms > redis.call('PTTL', session) then
    redis.call('PEXPIRE', session, ms)
  end
end

if number > 0 and number < last then
  return {now, 'stale'}
end
local outcome = 'stored'
if foreign then
  outcome = 'kept'
elseif kind == 'stopgap' and stands then
  outcome = 'kept'
  live(holds + keep)
elseif kind == 'asked' and number == 0 and stands and not bury then
  outcome = 'kept'
elseif kind ~= 'release' then
  if f[3] and tonumber(f[3]) ~= opened then
    redis.call('HDEL', session, 'x') -- it was opened anew
  end
  redis.call('HSET', session, 'v', version, 'r', record, 'o', opened, 'e', now + holds,
    'a', kind == 'asked' and 1 or 0, 'f', number)
  redis.call('HSETNX', session, 's', now)
  redis.call('HDEL', session, 'c')
  live(holds + keep)
end
if bury then
  redis.call('HSET', session, 'b', math.max(buried, opened))
  live(revive)
end
if number > 0 and redis.call('EXISTS', session) == 1 then
  redis.call('HSET', session, 'l', math.max(last, number), 'u', 0)
  live(keep)
end
if f[7] and number > 0 then
  redis.call('HDEL', session, 'w')
  redis.call('PUBLISH', channel, message)
end
return {now, outcome}
