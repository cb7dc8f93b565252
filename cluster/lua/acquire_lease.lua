-- Reads a session and, if no decision on it holds, grants the caller a lease.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  the newest version of records that the caller knows
-- ARGV[3]  the revision of the decision that the caller has; 0: none
-- ARGV[4]  the duration of the lease, in ms; 0: only read
-- ARGV[5]  "1": take the lease over from another holder
-- ARGV[6]  "1": the caller will wait for another holder's decision
-- ARGV[7]  the node's id
-- ARGV[8]  the fingerprint of the record that the caller has; empty: none
--
-- Result   a list: Redis' clock in ms; "expired" (and nothing else) or "ok"; of the session: the record, empty if it is the
--          caller's, for how long its decision still holds in ms, its revision, revoked-before in Unix seconds, 1 if it is
--          evicted; the revision of the granted lease (0: none); 1 if another caller holds a lease; 1 if the session was closed;
--          1 if the record is the caller's; the number of the newest check
--
-- A decision answers the caller if it has not expired, its ticket was not revoked, and it is newer than the caller's.
local session = KEYS[1]
local expiry, version, known = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lease, takeOver, waits = tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6] == '1'
local node, fingerprint = ARGV[7], ARGV[8]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'}
end

local f = redis.call('HMGET', session, 'v', 'r', 'e', 'f', 'b', 'x', 'o', 'a', 'l', 'u', 's', 'c', 'y', 'n', 'd', 'k')
local record, expires, revision, revokedBefore, evicted = f[2], f[3], f[4], f[5], f[6]
local opened, authoritative, lastLease, leasedUntil, since = f[7], f[8], tonumber(f[9] or 0), tonumber(f[10] or 0), f[11]
local readable = record and tonumber(f[1] or 0) <= version
local left = tonumber(expires or 0) - now
-- A session whose ticket was revoked, or that was evicted, is told whole.
local same = readable and fingerprint ~= '' and f[15] == fingerprint .. ':' .. (revision or '') and not revokedBefore and not evicted

local result = {
  now, 'ok', readable and not same and record or '', left, readable and tonumber(revision or 0) or 0, tonumber(revokedBefore or 0),
  evicted and 1 or 0, 0, 0, f[12] and 1 or 0, same and 1 or 0, tonumber(f[16] or 0),
}

local answers = readable and left > 0 and tonumber(opened or 0) > tonumber(revokedBefore or 0)
  and (known == 0 or (authoritative == '1' and tonumber(revision or 0) > known))
if answers then
  if known == 0 and not since then
    redis.call('HSET', session, 's', now)
    redis.call('HDEL', session, 'c')
  end
  if known == 0 and f[13] == '1' and not string.find(f[14] or '', node, 1, true) then
    redis.pcall('HSET', session, 'n', (f[14] or '') .. node .. ' ') -- a redis that is full still answers
  end
  return result
end
if leasedUntil > now and not takeOver then
  result[9] = 1
  if waits then
    redis.call('HSET', session, 'w', 1)
  end
  return result
end
if lease > 0 then
  lastLease = math.max(lastLease + 1, now)
  redis.call('HSET', session, 'l', lastLease, 'u', now + lease)
  if redis.call('PTTL', session) < 2 * lease then
    redis.call('PEXPIRE', session, 2 * lease)
  end
  result[8] = lastLease
end
return result
