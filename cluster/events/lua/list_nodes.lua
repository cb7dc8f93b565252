-- Lists the nodes, and sends a request to those that are alive.
--
-- KEYS[1]  hash    nodes: node id -> what the node reports about itself, as JSON
-- KEYS[2]  zset    heartbeats: node id, scored by its last heartbeat, in ms of Redis' clock
-- ARGV[1]  the prefix of the nodes' channels: a node's id follows it
-- ARGV[2]  the request; empty: none
-- ARGV[3]  for how long a node is alive after a heartbeat, in ms
-- ARGV[4]  the id of the calling node, which gets no request
--
-- Result   for each node a list: its id, what it reports about itself, how long ago its last heartbeat was in ms
local nodes, heartbeats = KEYS[1], KEYS[2]
local channel, request, nodeTTL, caller = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local found = {}
local listed = redis.call('ZRANGE', heartbeats, 0, -1, 'WITHSCORES')
for i = 1, #listed, 2 do
  local id, age = listed[i], now - tonumber(listed[i + 1])
  local status = redis.call('HGET', nodes, id)
  if status then
    found[#found + 1] = {id, status, age}
    if request ~= '' and id ~= caller and age < nodeTTL then
      redis.call('PUBLISH', channel .. id, request)
    end
  end
end
return found
