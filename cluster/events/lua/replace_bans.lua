-- Replaces bans that are stored by the same bans, encrypted with another key. They are not published.
--
-- KEYS[1]  hash    bans: ban id -> ban, encrypted
-- ARGV[1]… for each ban two arguments: its id and the ban
--
-- Result   how many were replaced
local bans = KEYS[1]

local replaced = 0
for i = 1, #ARGV, 2 do
  local id, ban = ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', bans, id) == 1 then
    redis.call('HSET', bans, id, ban)
    replaced = replaced + 1
  end
end
return replaced
