-- Returns all active bans, and the ids that were unbanned.
--
-- KEYS[1]  hash    bans: ban id -> ban, encrypted
-- KEYS[2]  zset    ban expiries: ban id, scored by when the ban ends, in ms of Redis' clock
-- KEYS[3]  zset    unbanned: ban id, scored by until when it is remembered, in ms of Redis' clock
-- KEYS[4]  hash    state: bans, the id of the last revocation that changed the bans
--
-- Result   a list of three: the version of the bans ("0-0": none); for each ban a list of its id, for how long it still
--          holds in ms, and the ban; for each unbanned id a list of the id and for how long it is still remembered in ms
local bans, expiries, unbanned, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

-- timeLeft returns the members of a sorted set whose score lies ahead, each with the time until then.
local function timeLeft(key)
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'WITHSCORES')
  local listed = {}
  for i = 1, #found, 2 do
    listed[#listed + 1] = {found[i], tonumber(found[i + 1]) - now}
  end
  return listed
end

local active = {}
for _, ban in ipairs(timeLeft(expiries)) do
  local value = redis.call('HGET', bans, ban[1])
  if value then
    active[#active + 1] = {ban[1], ban[2], value}
  end
end
return {redis.call('HGET', state, 'bans') or '0-0', active, timeLeft(unbanned)}
