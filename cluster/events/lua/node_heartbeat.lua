-- Records a node's heartbeat, or removes the node.
--
-- KEYS[1]  hash    nodes: node id -> what the node reports about itself, as JSON
-- KEYS[2]  zset    heartbeats: node id, scored by its last heartbeat, in ms of Redis' clock
-- KEYS[3]  hash    state: epoch; began, when the epoch began, in ms of Redis' clock; last, the id of the last revocation
-- KEYS[4]  hash    forced: backend -> an operator's order on its breaker, as store_forced.lua writes it
-- ARGV[1]  the node's id
-- ARGV[2]  what the node reports about itself, as JSON; empty: it leaves
-- ARGV[3]  for how long a node is alive after a heartbeat, in ms
-- ARGV[4]  after how long without a heartbeat a node is removed, in ms
-- ARGV[5]  the TTL of the state, in ms
-- ARGV[6]  the name of a new epoch, if there is none
-- ARGV[7]  the node's channel
-- ARGV[8]  the number of the heartbeat, which is published on that channel: the node then knows that it receives messages
--
-- Result   a list: Redis' clock in ms, the ids of the nodes that are alive, the epoch, the id of the last revocation ("0-0": none),
--          how long ago the epoch began in ms, the orders: each backend and what is stored of it
local nodes, heartbeats, state, forced = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, status, nodeTTL, forgetAfter, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local epoch, channel, number = ARGV[6], ARGV[7], ARGV[8]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

if status == '' then
  redis.call('HDEL', nodes, id)
  redis.call('ZREM', heartbeats, id)
else
  redis.call('HSET', nodes, id, status)
  redis.call('ZADD', heartbeats, now, id)
  if redis.call('HSETNX', state, 'epoch', epoch) == 1 then
    redis.call('HSET', state, 'began', now)
  end
  redis.call('PUBLISH', channel, 'heartbeat ' .. number)
end

local silent = redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now - forgetAfter)
for _, silentID in ipairs(silent) do
  redis.call('HDEL', nodes, silentID)
  redis.call('ZREM', heartbeats, silentID)
end

redis.call('PEXPIRE', nodes, forgetAfter)
redis.call('PEXPIRE', heartbeats, forgetAfter)
redis.call('PEXPIRE', state, ttl)

local known = redis.call('HMGET', state, 'epoch', 'last', 'began')
return {now, redis.call('ZRANGEBYSCORE', heartbeats, '(' .. (now - nodeTTL), '+inf'),
  known[1] or '', known[2] or '0-0', now - tonumber(known[3] or 0), redis.call('HGETALL', forced)}
