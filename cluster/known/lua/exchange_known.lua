-- Appends viewers who were allowed, and returns those that other nodes have appended.
--
-- KEYS[1]  stream  viewers who were allowed: k, keyed hashes of 8 bytes each
-- ARGV[1]  the first id to return
-- ARGV[2]  how many entries to return at most
-- ARGV[3]  about how many entries the stream keeps
-- ARGV[4]  the TTL of the stream, in ms
-- ARGV[5]… the hashes to append, an entry each
--
-- Result   a list: Redis' clock in ms, and a list of ids and hashes in turn
local stream = KEYS[1]
local from, limit, maxLength, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local t = redis.call('TIME')
for i = 5, #ARGV do
  redis.call('XADD', stream, 'MAXLEN', '~', maxLength, '*', 'k', ARGV[i])
end
if #ARGV >= 5 then
  redis.call('PEXPIRE', stream, ttl)
end

local found = {}
for _, entry in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', limit)) do
  found[#found + 1] = entry[1]
  found[#found + 1] = entry[2][2]
end
return {t[1] * 1000 + math.floor(t[2] / 1000), found}
