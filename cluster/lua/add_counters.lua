-- Adds up what a node counted of a session.
--
-- KEYS[1]  hash of the session; doc.go has its fields
-- ARGV[1]  requests   ARGV[2] bytes   ARGV[3] time without an answer, in ms   ARGV[4] what it stood on, separated by commas
-- ARGV[5]  for how long it is remembered at least, in ms
-- ARGV[6]  how long the list of what it stood on gets at most, in bytes
--
-- Result   nothing
local session = KEYS[1]
local requests, bytes, without, stood = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local keep, most = tonumber(ARGV[5]), tonumber(ARGV[6])

redis.call('HINCRBY', session, 'nr', requests)
redis.call('HINCRBY', session, 'nb', bytes)
redis.call('HINCRBY', session, 'ns', without)

local before = redis.call('HGET', session, 'nh') or ''
if before ~= '' and stood ~= '' then
  -- What it went on standing on is said once.
  local last, first = string.match(before, '[^,]+$'), string.match(stood, '^[^,]+')
  if last == first then
    stood = string.sub(stood, #first + 2)
  end
end
if stood ~= '' and before ~= '' then
  stood = before .. ',' .. stood
elseif stood == '' then
  stood = before
end
if stood ~= before and #stood <= most then
  redis.call('HSET', session, 'nh', stood)
end
if redis.call('PTTL', session) < keep then
  redis.call('PEXPIRE', session, keep)
end
