-- Adds to the counters of a session what a node has counted that does not hold the session any more.
--
-- KEYS[1]  hash of the session; its fields are in doc.go
-- ARGV[1]  requests
-- ARGV[2]  bytes
-- ARGV[3]  time without a backend's answer, in ms
-- ARGV[4]  the history of decisions, separated by commas
-- ARGV[5]  for how long the session is remembered at least, in ms
-- ARGV[6]  the greatest size of the history, in bytes; beyond it the oldest decisions are dropped
-- ARGV[7]  the node's id
--
-- Result   nothing
local session = KEYS[1]
local requests, bytes, unverified, history = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ttl, maxSize, node = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]

redis.call('HINCRBY', session, 'nr', requests)
redis.call('HINCRBY', session, 'nb', bytes)
redis.call('HINCRBY', session, 'ns', unverified)
local holders = redis.call('HGET', session, 'n')
if holders then
  local left = string.gsub(holders, node .. ' ', '')
  if left == '' then
    redis.call('HDEL', session, 'n')
  elseif left ~= holders then
    redis.call('HSET', session, 'n', left)
  end
end

-- Whether one history has all entries of another one, in their order.
local function isWithin(part, whole)
  local list, at = ',' .. whole .. ',', 1
  for entry in string.gmatch(part, '[^,]+') do
    local _, last = string.find(list, ',' .. entry .. ',', at, true)
    if not last then
      return false
    end
    at = last
  end
  return true
end

local before = redis.call('HGET', session, 'nh') or ''
if before ~= '' and history ~= '' then
  local last, first = string.match(before, '[^,]+$'), string.match(history, '^[^,]+')
  if last == string.match(history, '[^,]+$') and isWithin(history, before) then
    history = ''
  elseif last == string.match(history, '[^,]+$') and isWithin(before, history) then
    before = '' -- nodes that knew the session at once saw the same decisions
  elseif last == first then
    -- An entry that ends the stored history and begins the new one appears once.
    history = string.sub(history, #first + 2)
  end
end
if history ~= '' and before ~= '' then
  history = before .. ',' .. history
elseif history == '' then
  history = before
end
if #history > maxSize then
  history = string.match(string.sub(history, -maxSize - 1), ',(.*)') or '' -- the newest entries
end
if history ~= before then
  redis.call('HSET', session, 'nh', history)
end
if redis.call('PTTL', session) < ttl then
  redis.call('PEXPIRE', session, ttl)
end
