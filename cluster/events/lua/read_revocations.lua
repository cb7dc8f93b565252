-- Returns revocations from an id on.
--
-- KEYS[1]  stream  revocations: p, the payload; q, the id of the entry before it
-- KEYS[2]  hash    state: epoch; last, the id of the last revocation
-- ARGV[1]  the first id to return
-- ARGV[2]  how many to return at most
--
-- Result   a list: Redis' clock in ms, the epoch, the id of the last revocation ("0-0": none), the id of the entry before
--          the oldest one in the stream (empty: the stream is empty), and for each revocation a list of its id and payload
local stream, state = KEYS[1], KEYS[2]
local from, limit = ARGV[1], ARGV[2]

-- field returns the value of a field in an entry of a stream.
local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then
      return entry[2][i + 1]
    end
  end
  return ''
end

local t = redis.call('TIME')
local known = redis.call('HMGET', state, 'epoch', 'last')
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]

local found = {}
for _, entry in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', limit)) do
  found[#found + 1] = {entry[1], field(entry, 'p')}
end
return {t[1] * 1000 + math.floor(t[2] / 1000), known[1] or '', known[2] or '0-0',
  oldest and field(oldest, 'q') or '', found}
