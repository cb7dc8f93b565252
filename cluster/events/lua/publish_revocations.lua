-- Tells all nodes of revocations, and keeps them for those that do not hear now.
--
-- KEYS[1]  stream  revocations: p, the payload; q, the id of the one before it
-- KEYS[2]  hash    state: last, the id of the last revocation
-- ARGV[1]  the channel of revocations
-- ARGV[2]  how many revocations are kept, about
-- ARGV[3]  for how long they are kept, in ms
-- ARGV[4]… the payloads
--
-- Result   the id of the last one
--
-- The message is "previous-id id payload", so that a node sees at once if it missed one.
local stream, state = KEYS[1], KEYS[2]
local channel, most, keep = ARGV[1], ARGV[2], ARGV[3]

local last = redis.call('HGET', state, 'last') or '0-0'
for i = 4, #ARGV do
  local id = redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'p', ARGV[i], 'q', last)
  redis.call('PUBLISH', channel, last .. ' ' .. id .. ' ' .. ARGV[i])
  last = id
end
redis.call('HSET', state, 'last', last)
redis.call('PEXPIRE', stream, keep)
redis.call('PEXPIRE', state, keep)
return last
