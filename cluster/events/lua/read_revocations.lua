-- Reads revocations that were issued from an id on.
--
-- KEYS[1]  stream  revocations: p, the payload; q, the id of the one before it
-- KEYS[2]  hash    state: epoch, and last, the id of the last revocation
-- ARGV[1]  the id to read from, itself included
-- ARGV[2]  how many to read at most
--
-- Result   this clock in ms, the epoch, the id of the last one ("0-0": none), the id of the one before the oldest that is
--          kept (empty: none is kept), and for each: its id and its payload
local stream, state = KEYS[1], KEYS[2]
local from, most = ARGV[1], ARGV[2]

-- field is a field's value in an entry of a stream.
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
for _, entry in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', most)) do
  found[#found + 1] = {entry[1], field(entry, 'p')}
end
return {t[1] * 1000 + math.floor(t[2] / 1000), known[1] or '', known[2] or '0-0',
  oldest and field(oldest, 'q') or '', found}
