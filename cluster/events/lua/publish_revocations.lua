-- Publishes revocations, and appends them to the stream for nodes that do not receive them.
--
-- KEYS[1]  stream  revocations: p, the payload; q, the id of the entry before it
-- KEYS[2]  hash    state: last, the id of the last revocation
-- ARGV[1]  the channel of revocations
-- ARGV[2]  about how many revocations the stream keeps
-- ARGV[3]  the TTL of the stream and the state, in ms
-- ARGV[4]… the payloads
--
-- Result   the id of the last revocation
--
-- A message is "previous-id id payload", so that a node sees at once whether it missed one.
local stream, state = KEYS[1], KEYS[2]
local channel, maxLength, ttl = ARGV[1], ARGV[2], ARGV[3]

local last = redis.call('HGET', state, 'last') or '0-0'
for i = 4, #ARGV do
  local id = redis.call('XADD', stream, 'MAXLEN', '~', maxLength, '*', 'p', ARGV[i], 'q', last)
  redis.call('PUBLISH', channel, last .. ' ' .. id .. ' ' .. ARGV[i])
  last = id
end
redis.call('HSET', state, 'last', last)
redis.call('PEXPIRE', stream, ttl)
redis.call('PEXPIRE', state, ttl)
return last
