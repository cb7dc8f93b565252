-- Adds, renews or removes streams of one user, and evicts those that exceed the user's limit. The rules, and the reasons
-- for them, are in limits.go and eviction.go; functions have the same names there.
--
-- KEYS[1]   hash, the user's streams: "exceededSince" is when the limit was first exceeded, in ms; every other field is a
--           session id in hex, its value a packed list that begins with the version of its layout
-- ARGV[1]   the time in ms, for tests; empty: Redis' clock
-- ARGV[2]   "join", "renew" or "leave"
-- ARGV[3]   the policy: 0 evict-oldest, 1 reject-new
-- ARGV[4]   the grace period, in ms
-- ARGV[5]   the zap timeout, in ms
-- ARGV[6]   the TTL of an evicted stream, in ms
-- ARGV[7]   the idle timeout, in ms
-- ARGV[8]   the channel for a message when the limit begins to be exceeded
-- ARGV[9]   that message: the user's hash
-- ARGV[10]… for each stream its session id in hex and, except for leave, which takes one stream: when it was opened, in Unix
--           seconds; how long ago it was last used, in ms; "1" if it plays; the most streams; the device; the address
--
-- Result    leave: nothing. Otherwise a list: in how many ms to report again (0: with the next heartbeat), the state of each
--           stream, then for each stream that this call evicted or superseded: its session id in hex, when it was opened,
--           its state. States: 0 active, 1 evicted, 2 superseded
local key, channel, user = KEYS[1], ARGV[8], ARGV[9]
local op = ARGV[2]
local evictOldest = ARGV[3] == '0'
local gracePeriod, zapTimeout = tonumber(ARGV[4]), tonumber(ARGV[5])
local evictionTTL, idleTimeout = tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST, FIELDS = 10, 7
local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local VERSION = 1
local ACTIVE, EVICTED, SUPERSEDED = 0, 1, 2
local MAX_TRACKED, REPORT_WINDOW, REPORT_INTERVAL, JITTER = 512, 1000, 1000, 1000
local ROUNDS_TO_EVICT, MAX_ZAPPING = 4, 600000
local userTTL = 2 * math.max(idleTimeout, evictionTTL)
local all = redis.call('HGETALL', key)

-- Most users watch one stream, and most calls renew it: such a call evicts no stream. This shortcut has the same result as
-- the code below, at half its cost.
if op == 'renew' and #all == 2 and #ARGV == FIRST + FIELDS - 1 and all[1] == ARGV[FIRST] then
  local p = cmsgpack.unpack(all[2])
  local before = p[1] == VERSION and p[6] == ACTIVE and math.min(p[3], now)
  if before and now - before < idleTimeout then
    local opened, lastSeen = tonumber(ARGV[FIRST + 1]), now - tonumber(ARGV[FIRST + 2])
    local playingSince = math.min(p[5], now)
    if playingSince == 0 and ARGV[FIRST + 3] == '1' then
      playingSince = now
    end
    local reportedAt, maxStreams, device, address = math.min(p[4], now), p[10], p[11], p[12]
    if lastSeen + JITTER >= before then
      reportedAt, maxStreams, device, address = now, tonumber(ARGV[FIRST + 4]), ARGV[FIRST + 5], ARGV[FIRST + 6]
    end
    redis.call('HSET', key, all[1], cmsgpack.pack({
      VERSION, math.max(p[2], opened), math.max(before, lastSeen), reportedAt, playingSince, ACTIVE, 0, 0, 0, maxStreams,
      device, address,
    }))
    redis.call('PEXPIRE', key, userTTL)
    return {0, ACTIVE}
  end
end

local streams, size, exceededSince, evicted = {}, 0, 0, {}
local storedExceededSince = 0
local removed = {}
local foreign = {}

local function set(s, field, value)
  if s[field] ~= value then
    s[field], s.dirty = value, true
  end
end

local function remove(s)
  streams[s.id], size = nil, size - 1
  removed[#removed + 1] = s.id
end

-- read skips entries with an unknown version of the layout.
local function read()
  for i = 1, #all, 2 do
    local field = all[i]
    if field == 'exceededSince' then
      exceededSince = tonumber(all[i + 1])
    else
      local p = cmsgpack.unpack(all[i + 1])
      if p[1] == VERSION then
        streams[field] = {
          id = field, opened = p[2], lastSeen = p[3], reportedAt = p[4], playingSince = p[5], state = p[6],
          excessSince = p[7], roundStart = p[8], rounds = p[9], maxStreams = p[10], device = p[11], address = p[12],
        }
        size = size + 1
      else
        foreign[field] = true
      end
    end
  end
  storedExceededSince = exceededSince
end

local function write()
  if #removed > 0 then
    redis.call('HDEL', key, unpack(removed))
  end
  local changed = {}
  for field, s in pairs(streams) do
    if s.dirty then
      changed[#changed + 1] = field
      changed[#changed + 1] = cmsgpack.pack({
        VERSION, s.opened, s.lastSeen, s.reportedAt, s.playingSince, s.state, s.excessSince, s.roundStart, s.rounds,
        s.maxStreams, s.device, s.address,
      })
    end
  end
  if exceededSince ~= storedExceededSince and exceededSince > 0 then
    changed[#changed + 1] = 'exceededSince'
    changed[#changed + 1] = string.format('%.0f', exceededSince)
  end
  if #changed > 0 then
    redis.call('HSET', key, unpack(changed))
  end
  if exceededSince == 0 and storedExceededSince > 0 then
    redis.call('HDEL', key, 'exceededSince')
  end
  redis.call('PEXPIRE', key, userTTL)
end

local function isCounted(s)
  return s.state == ACTIVE and s.playingSince > 0
end

local function isSilent(s)
  return s.reportedAt - s.lastSeen > zapTimeout
end

local function mayShareViewer(s, o)
  if s.device ~= '' and o.device ~= '' then
    return s.device == o.device
  end
  return s.address ~= '' and s.address == o.address
end

local function usedBefore(s, o)
  if s.lastSeen ~= o.lastSeen then
    return s.lastSeen < o.lastSeen
  end
  return s.id < o.id
end

local function outranks(s, o)
  if s.opened == o.opened then
    return s.id < o.id
  end
  if evictOldest then
    return s.opened > o.opened
  end
  return s.opened < o.opened
end

local function clearExcess(s)
  set(s, 'excessSince', 0)
  set(s, 'roundStart', 0)
  set(s, 'rounds', 0)
end

local function deactivate(s, state)
  set(s, 'state', state)
  clearExcess(s)
  evicted[#evicted + 1] = s
end

local function counted()
  local all, limit = {}, 0
  for _, s in pairs(streams) do
    if s.state == ACTIVE then
      if limit == 0 or s.maxStreams < limit then
        limit = s.maxStreams
      end
      if s.playingSince > 0 then
        all[#all + 1] = s
      end
    end
  end
  if #all > limit then
    table.sort(all, outranks)
  end
  return all, limit
end

local function markExcess()
  local all, limit = counted()
  if #all <= limit then
    exceededSince = 0
    for _, s in ipairs(all) do
      clearExcess(s)
    end
    return
  end
  if exceededSince == 0 then
    exceededSince = now
  end
  for i, s in ipairs(all) do
    if i <= limit then
      clearExcess(s)
    elseif s.excessSince == 0 then
      set(s, 'excessSince', now)
      set(s, 'roundStart', now)
      set(s, 'rounds', 0)
    end
  end
end

local function expire()
  exceededSince = math.min(exceededSince, now)
  local gone = {}
  for _, s in pairs(streams) do
    for _, field in ipairs({'lastSeen', 'reportedAt', 'playingSince', 'excessSince', 'roundStart'}) do
      if s[field] > now then
        set(s, field, now)
      end
    end
    local ttl = idleTimeout
    if s.state == EVICTED then
      ttl = evictionTTL
    end
    if now - s.lastSeen >= ttl then
      gone[#gone + 1] = s
    end
  end
  for _, s in ipairs(gone) do
    remove(s)
  end
  markExcess()
end

local function rank(s)
  if s.state == SUPERSEDED then
    return 0
  elseif s.state == EVICTED then
    return 1
  elseif s.playingSince == 0 then
    return 2
  elseif s.excessSince > 0 then
    return 3
  end
  return 4
end

local function makeRoom()
  if size < MAX_TRACKED then
    return
  end
  local least
  for _, s in pairs(streams) do
    if not least or rank(s) < rank(least) or rank(s) == rank(least) and usedBefore(s, least) then
      least = s
    end
  end
  remove(least)
end

local function isNewerThan(s, o)
  return s.opened > o.opened or s.opened == o.opened and op == 'join'
end

local function reset(r)
  local s = {
    id = r.id, opened = r.opened, lastSeen = now - r.age, reportedAt = now, playingSince = 0, state = ACTIVE,
    excessSince = 0, roundStart = 0, rounds = 0, maxStreams = r.maxStreams, device = r.device, address = r.address,
    dirty = true,
  }
  if r.isPlaying then
    s.playingSince = now
  end
  streams[r.id] = s
  return s
end

local function update(s, r)
  local lastSeen = now - r.age
  if lastSeen + JITTER >= s.lastSeen then
    set(s, 'reportedAt', now)
    set(s, 'maxStreams', r.maxStreams)
    set(s, 'device', r.device)
    set(s, 'address', r.address)
  end
  set(s, 'lastSeen', math.max(s.lastSeen, lastSeen))
  set(s, 'opened', math.max(s.opened, r.opened))
  if r.isPlaying and s.playingSince == 0 then
    set(s, 'playingSince', now)
  end
end

local function supersedeSameDevice(s)
  for _, o in pairs(streams) do
    if o ~= s and o.state == ACTIVE and o.device == s.device then
      if not isNewerThan(s, o) then
        deactivate(s, SUPERSEDED)
        return
      end
      deactivate(o, SUPERSEDED)
    end
  end
end

local function isSameDevice(s, o)
  return s.device ~= '' and o.device == s.device
end

local function canReplace(s, o)
  if mayShareViewer(s, o) and usedBefore(o, s) and isSilent(o) then
    return true
  end
  return isSameDevice(s, o) and isNewerThan(s, o)
end

local function readmit(s)
  local counted, limit, replaced = 0, s.maxStreams, nil
  for _, o in pairs(streams) do
    if o.state == ACTIVE then
      limit = math.min(limit, o.maxStreams)
      local replaceable = canReplace(s, o)
      if isSameDevice(s, o) and not replaceable then
        return
      end
      if isCounted(o) then
        counted = counted + 1
        if replaceable and (not replaced or usedBefore(o, replaced)) then
          replaced = o
        end
      end
    end
  end
  if counted == limit and replaced then
    deactivate(replaced, SUPERSEDED)
    counted = counted - 1
  end
  if counted >= limit then
    return
  end
  set(s, 'state', ACTIVE)
  set(s, 'playingSince', now)
  clearExcess(s)
end

-- report reads the report whose first argument has that index.
local function report(i)
  return {
    id = ARGV[i], opened = tonumber(ARGV[i + 1]), age = tonumber(ARGV[i + 2]), isPlaying = ARGV[i + 3] == '1',
    maxStreams = tonumber(ARGV[i + 4]), device = ARGV[i + 5], address = ARGV[i + 6],
  }
end

local function findOrCreate(r)
  if foreign[r.id] then
    return nil
  end
  local s = streams[r.id]
  if not s then
    if r.age >= idleTimeout then
      return nil
    end
    makeRoom()
    size = size + 1
    s = reset(r)
  elseif s.state == SUPERSEDED and r.opened > s.opened then
    s = reset(r)
  else
    update(s, r)
  end
  if s.state == EVICTED then
    readmit(s)
  end
  if s.state == ACTIVE and s.device ~= '' then
    supersedeSameDevice(s)
  end
  return s
end

local function addToGroup(groups, name, s)
  local g = groups[name]
  if not g then
    g = {lastUsed = s, size = 0}
    groups[name] = g
  end
  g.size = g.size + 1
  if usedBefore(g.lastUsed, s) then
    g.lastUsed = s
  end
end

local function indexByViewer(all)
  local x = {byDevice = {}, byAddress = {}, withoutDevice = {}}
  for _, s in ipairs(all) do
    if s.device ~= '' then
      addToGroup(x.byDevice, s.device, s)
    end
    if s.address ~= '' then
      addToGroup(x.byAddress, s.address, s)
      if s.device == '' then
        addToGroup(x.withoutDevice, s.address, s)
      end
    end
  end
  return x
end

local function groupsOf(x, s)
  if s.device == '' then
    return x.byAddress[s.address], nil
  end
  return x.byDevice[s.device], x.withoutDevice[s.address]
end

local function hasLater(x, s)
  local g, h = groupsOf(x, s)
  return g and usedBefore(s, g.lastUsed) or h and usedBefore(s, h.lastUsed)
end

local function hasOther(x, s)
  local g, h = groupsOf(x, s)
  return (g and g.size or 0) + (h and h.size or 0) > 1
end

local function supersedeSilent()
  local all, limit = counted()
  local x = indexByViewer(all)
  table.sort(all, usedBefore)
  local exceeding = #all - limit
  for _, s in ipairs(all) do
    if exceeding > 0 and isSilent(s) and hasLater(x, s) then
      deactivate(s, SUPERSEDED)
      exceeding = exceeding - 1
    end
  end
end

local function mustEvict(s, ambiguous)
  local graceEnd = s.excessSince + gracePeriod
  local isUsedAfterGrace = now >= graceEnd and s.lastSeen >= graceEnd
  if #ambiguous == 0 then
    return isUsedAfterGrace
  end
  local first, last = s.lastSeen, s.lastSeen
  for _, d in ipairs(ambiguous) do
    if d.playingSince >= s.roundStart then
      set(s, 'roundStart', now)
      set(s, 'rounds', 0)
    end
    first, last = math.min(first, d.lastSeen), math.max(last, d.lastSeen)
  end
  local isLastRound = s.rounds >= ROUNDS_TO_EVICT - 1 and first > math.max(s.roundStart, graceEnd)
  if isUsedAfterGrace and (now - s.excessSince >= MAX_ZAPPING or isLastRound) then
    return true
  end
  if first > s.roundStart then
    set(s, 'roundStart', last)
    set(s, 'rounds', s.rounds + 1)
  end
  return false
end

local function evictExcess()
  local ambiguous = {}
  if exceededSince == 0 then
    return ambiguous
  end
  if now - exceededSince >= REPORT_WINDOW then
    supersedeSilent()
    markExcess()
    if exceededSince == 0 then
      return ambiguous
    end
  end
  local all, limit = counted()
  local x = indexByViewer(all)
  for i = 1, limit do
    if hasOther(x, all[i]) then
      ambiguous[#ambiguous + 1] = all[i]
    end
  end
  for i = limit + 1, #all do
    if mustEvict(all[i], ambiguous) then
      deactivate(all[i], EVICTED)
    end
  end
  markExcess()
  return ambiguous
end

local function recheckDelay(s, ambiguous)
  if exceededSince == 0 or not isCounted(s) then
    return 0
  end
  if #ambiguous > 0 then
    return REPORT_INTERVAL
  elseif s.excessSince == 0 then
    return 0
  end
  local wait = s.excessSince + gracePeriod - now
  if wait > 0 then
    return wait
  end
  return REPORT_INTERVAL
end

read()
expire()
if op == 'leave' then
  local s = streams[ARGV[FIRST]]
  if s and s.state == ACTIVE then
    remove(s)
    markExcess()
  end
  write()
  return
end

local before = exceededSince
local reported, count = {}, 0
for i = FIRST, #ARGV, FIELDS do
  count = count + 1
  reported[count] = findOrCreate(report(i)) or false
end
markExcess()
local ambiguous = evictExcess()
write()
if before == 0 and exceededSince > 0 then
  redis.call('PUBLISH', channel, user)
end
local result = {0}
for i = 1, count do
  local s = reported[i]
  result[i + 1] = s and s.state or ACTIVE
  local soon = s and recheckDelay(s, ambiguous) or 0
  if soon > 0 and (result[1] == 0 or soon < result[1]) then
    result[1] = soon
  end
end
for _, o in ipairs(evicted) do
  result[#result + 1] = o.id
  result[#result + 1] = o.opened
  result[#result + 1] = o.state
end
return result
