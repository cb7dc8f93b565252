-- Returns the tickets of the sessions that match a viewer who shows nothing.
--
-- KEYS[1]  hash  tickets: as in store_match.lua
-- ARGV[1]  for how long a ticket is kept, in ms
--
-- Result   a list: when each was used, in ms, and the ticket, encrypted, in turn
local key, ttl = KEYS[1], tonumber(ARGV[1])

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {}
for _, value in ipairs(redis.call('HVALS', key)) do
  local at, ticket = string.match(value, '^(%d+) %-?%d+ (.*)$')
  if at and now - tonumber(at) <= ttl then
    found[#found + 1] = tonumber(at)
    found[#found + 1] = ticket
  end
end
return found
