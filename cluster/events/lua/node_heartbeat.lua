-- A node's sign of life, twice a second.
--
-- KEYS[1]  hash    nodes: node id -> what the node says of itself
-- KEYS[2]  zset    beats: node id, by when it last beat, in ms of this clock
-- KEYS[3]  hash    state: epoch, last, bans
-- ARGV[1]  the node's id
-- ARGV[2]  what it says of itself, as JSON; empty: it leaves
-- ARGV[3]  for how long a node lives after a beat, in ms
-- ARGV[4]  after how long a silent node is forgotten, in ms
-- ARGV[5]  for how long all this is kept, in ms
-- ARGV[6]  the name of a new epoch, if there is none
-- ARGV[7]  the node's own channel
-- ARGV[8]  the number of the beat, said on that channel so that the node knows that it hears
--
-- Result   this clock in ms, nodes that live, the epoch, the id of the last revocation ("0-0": none), the version of the
--          bans ("0-0": none)
local nodes, beats, state = KEYS[1], KEYS[2], KEYS[3]
local id, info, alive, forget, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local epoch, channel, beat = ARGV[6], ARGV[7], ARGV[8]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

if info == '' then
  redis.call('HDEL', nodes, id)
  redis.call('ZREM', beats, id)
else
  redis.call('HSET', nodes, id, info)
  redis.call('ZADD', beats, now, id)
  redis.call('HSETNX', state, 'epoch', epoch)
  redis.call('PUBLISH', channel, 'b ' .. beat)
end

local silent = redis.call('ZRANGEBYSCORE', beats, '-inf', now - forget)
for _, dead in ipairs(silent) do
  redis.call('HDEL', nodes, dead)
  redis.call('ZREM', beats, dead)
end

redis.call('PEXPIRE', nodes, forget)
redis.call('PEXPIRE', beats, forget)
redis.call('PEXPIRE', state, keep)

local known = redis.call('HMGET', state, 'epoch', 'last', 'bans')
return {now, redis.call('ZCOUNT', beats, '(' .. (now - alive), '+inf'),
  known[1] or '', known[2] or '0-0', known[3] or '0-0'}
