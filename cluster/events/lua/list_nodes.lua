-- Lists the nodes, and asks those that live a question.
--
-- KEYS[1]  hash    nodes: node id -> what the node says of itself
-- KEYS[2]  zset    beats: node id, by when it last beat, in ms of this clock
-- ARGV[1]  what the channels of nodes are called, before a node's id
-- ARGV[2]  the question; empty: none
-- ARGV[3]  for how long a node lives after a beat, in ms: only those are asked
-- ARGV[4]  the id of the node that asks: it is not asked itself
--
-- Result   for each node: its id, what it says of itself, how long ago it beat in ms
local nodes, beats = KEYS[1], KEYS[2]
local channel, question, alive, asker = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local found = {}
local listed = redis.call('ZRANGE', beats, 0, -1, 'WITHSCORES')
for i = 1, #listed, 2 do
  local id, age = listed[i], now - tonumber(listed[i + 1])
  local info = redis.call('HGET', nodes, id)
  if info then
    found[#found + 1] = {id, info, age}
    if question ~= '' and id ~= asker and age < alive then
      redis.call('PUBLISH', channel .. id, question)
    end
  end
end
return found
