-- Stores a decision under the revision of its lease, and releases the lease.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  the expiry of this call, in ms of Redis' clock; 0: none
-- ARGV[2]  the version of the record
-- ARGV[3]  the revision of the lease; 0: none
-- ARGV[4]  "release": there is no decision, only the lease is released; "fallback": the decision is not a backend's;
--          "authoritative": it is
-- ARGV[5]  the record, encrypted; empty: the stored one stays, if it has that fingerprint
-- ARGV[6]  when the session was opened, in Unix seconds
-- ARGV[7]  for how long the decision holds, in ms
-- ARGV[8]  for how long the session is remembered after that, in ms
-- ARGV[9]  "1": revoke the tickets that were opened then or before
-- ARGV[10] for how long such tickets could be used, in ms
-- ARGV[11] the channel of decisions
-- ARGV[12] the message of this decision; " ticket" follows it if the session's ticket is another one now
-- ARGV[13] the id of the node, which holds the session from now on; empty: the decision does not allow the viewer
-- ARGV[14] the record's fingerprint
-- ARGV[15] the number of the newest check, which the fingerprint leaves out
-- ARGV[16] how long ago the decision was taken, in ms, if it waited for Redis to recover; 0: it did not
--
-- Result   a list: Redis' clock in ms; "expired", "stored", "kept" (a better decision holds; the ticket is revoked all the
--          same), "stale" (a newer lease was granted, or the session was opened and admitted later elsewhere; nothing was stored) or
--          "unknown" (the record is wanted; nothing has changed)
--
-- The fingerprint is stored with the revision of its record: a node of an earlier version leaves it there when it stores another
-- record. Records without a lease have none, since their revisions are all zero.
--
-- A decision that waited for Redis was taken without a lease. Its time orders it: revisions are times of this clock, unless it went
-- back. So a denial changes nothing if the viewer was allowed under a lease that was granted after it. A lease alone proves nothing:
-- its check may have failed.
--
-- If nodes could not see each other's openings of a session, the latest one is the session's: revoking its ticket revokes the
-- others too. One that was denied has no ticket, and keeps none out: its denial may say nothing of an older ticket.
local session = KEYS[1]
local expiry, version, revision, kind = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local record, opened, holdsFor, rememberFor = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local revokeTicket, reviveFor = ARGV[9] == '1', tonumber(ARGV[10])
local channel, message, node = ARGV[11], ARGV[12], ARGV[13]
local fingerprint, number, age = ARGV[14], ARGV[15], tonumber(ARGV[16])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if expiry > 0 and now > expiry then
  return {now, 'expired'}
end

local f = redis.call('HMGET', session, 'v', 'e', 'o', 'a', 'b', 'l', 'w', 'f', 'n', 'd', 's', 'c', 'y')
local expires, isAuthoritative = tonumber(f[2] or 0), f[4] == '1'
local revokedBefore, lastLease, storedOpened = tonumber(f[5] or 0), tonumber(f[6] or 0), tonumber(f[3] or 0)
local isNewerVersion = tonumber(f[1] or 0) > version
local isUnleased = tonumber(f[8] or 0) == 0
local hasTicket = expires > now and storedOpened > revokedBefore
local holds = isAuthoritative and hasTicket

-- The decision and the end of its lease are written together: a re-check does nothing else.
local fields = {}
local function set(...)
  for i = 1, select('#', ...) do
    fields[#fields + 1] = (select(i, ...))
  end
end

-- extendTTL makes the key live for at least that long, and never shorter than before.
local function extendTTL(ms)
  if ms > redis.call('PTTL', session) then
    redis.call('PEXPIRE', session, ms)
  end
end

if revision > 0 and revision < lastLease then
  return {now, 'stale'}
end
if age > 0 and isAuthoritative and f[13] == '1' and tonumber(f[8] or 0) > now - age then
  return {now, 'stale'}
end
if record == '' and kind ~= 'release' and f[10] ~= fingerprint .. ':' .. (f[8] or '') then
  return {now, 'unknown'}
end
local outcome, remember = 'stored', 0
if isNewerVersion then
  outcome = 'kept'
elseif kind ~= 'release' and opened < storedOpened and (hasTicket and f[13] == '1' or revokeTicket) then
  outcome = revokeTicket and 'kept' or 'stale'
elseif kind == 'fallback' and holds then
  outcome, remember = 'kept', holdsFor + rememberFor
elseif kind == 'authoritative' and revision == 0 and holds and not revokeTicket
    and not (isUnleased and opened ~= storedOpened) then
  outcome = opened == storedOpened and 'kept' or 'stale'
elseif kind ~= 'release' then
  if f[3] and storedOpened ~= opened then
    redis.call('HDEL', session, 'x') -- it was opened anew
    redis.call('PUBLISH', channel, message .. ' ticket')
  end
  set('v', version, 'o', opened, 'e', now + holdsFor, 'a', kind == 'authoritative' and 1 or 0,
    'f', revision, 'y', node ~= '' and 1 or 0, 'd', revision > 0 and fingerprint .. ':' .. ARGV[3] or '', 'k', number)
  if record ~= '' then
    set('r', record)
  end
  if not f[11] then
    set('s', now)
  end
  if f[12] then
    redis.call('HDEL', session, 'c')
  end
  remember = holdsFor + rememberFor
end
if node ~= '' and not string.find(f[9] or '', node, 1, true) then
  set('n', (f[9] or '') .. node .. ' ')
end
if revokeTicket then
  set('b', math.max(revokedBefore, opened))
  remember = math.max(remember, reviveFor)
end
if revision > 0 and (#fields > 0 or redis.call('EXISTS', session) == 1) then
  set('l', math.max(lastLease, revision), 'u', 0)
  remember = math.max(remember, rememberFor)
end
if #fields > 0 then
  redis.call('HSET', session, unpack(fields))
end
if remember > 0 then
  extendTTL(remember)
end
if f[7] and revision > 0 then
  redis.call('HDEL', session, 'w')
  redis.call('PUBLISH', channel, message)
end
return {now, outcome}
