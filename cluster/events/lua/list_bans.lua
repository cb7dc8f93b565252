-- Reads all bans that hold, and those that were lifted.
--
-- KEYS[1]  hash    bans: ban id -> ban
-- KEYS[2]  zset    ban-ends: ban id, by when it ends, in ms of this clock
-- KEYS[3]  zset    lifted: the id of a ban that was lifted, by until when that is remembered, in ms of this clock
-- KEYS[4]  hash    state: bans, the version of the bans
--
-- Result   the version ("0-0": none), for each ban: its id, for how long it holds in ms, the ban; for each that was lifted:
--          its id, for how long that is remembered in ms
local bans, ends, lifted, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

-- rest is what is left of the times that have not come yet.
local function rest(key)
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'WITHSCORES')
  local listed = {}
  for i = 1, #found, 2 do
    listed[#listed + 1] = {found[i], tonumber(found[i + 1]) - now}
  end
  return listed
end

local held = {}
for _, ban in ipairs(rest(ends)) do
  local value = redis.call('HGET', bans, ban[1])
  if value then
    held[#held + 1] = {ban[1], ban[2], value}
  end
end
return {redis.call('HGET', state, 'bans') or '0-0', held, rest(lifted)}
