-- Returns a page of the active bans, and with the first page the ids that were unbanned.
--
-- KEYS[1]  hash    bans: ban id -> ban, encrypted
-- KEYS[2]  zset    ban expiries: ban id, scored by when the ban ends, in ms of Redis' clock
-- KEYS[3]  zset    unbanned: ban id, scored by until when it is remembered, in ms of Redis' clock
-- ARGV[1]  the cursor of the page, as HSCAN has it; "0": the first one
-- ARGV[2]  about how many bans to return
--
-- Result   a list of three: the cursor of the next page ("0": there is none); for each ban a list of its id, for how long it
--          still holds in ms, and the ban; for each unbanned id a list of the id and for how long it is still remembered in ms
local bans, expiries, unbanned = KEYS[1], KEYS[2], KEYS[3]
local cursor, count = ARGV[1], ARGV[2]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local active = {}
local page = redis.call('HSCAN', bans, cursor, 'COUNT', count)
for i = 1, #page[2], 2 do
  local id = page[2][i]
  local ends = tonumber(redis.call('ZSCORE', expiries, id) or 0)
  if ends > now then
    active[#active + 1] = {id, ends - now, page[2][i + 1]}
  end
end

local remembered = {}
if cursor == '0' then
  local found = redis.call('ZRANGEBYSCORE', unbanned, '(' .. now, '+inf', 'WITHSCORES')
  for i = 1, #found, 2 do
    remembered[#remembered + 1] = {found[i], tonumber(found[i + 1]) - now}
  end
end
return {page[1], active, remembered}
