-- A session takes, keeps or gives back a place among those of its user. The rules, and why, are in limits.go and
-- limits_settle.go; functions have the same names here.
--
-- KEYS[1]  hash of the user's sessions: "over" is since when the limit is exceeded, any other field a session id in hex,
--          its value a packed list that opens with the version of its layout
-- ARGV     1 now in ms, for tests; empty: Redis' clock   2 "join", "hold" or "leave"
--          3 policy: 0 evict-oldest, 1 reject-new   4 soft window   5 silence   6 evicted_for   7 idle, all in ms
--          8 channel that is told when the limit begins to be exceeded   9 what it is told
--          10… for each session: its id in hex and, but for leave, which takes one session: opened, unix seconds; age of
--          last-seen, ms; "1": it plays; most sessions; device; address
-- Result   leave: nothing; else {again in ms, the standing of each session, then for each session cut: id in hex, opened,
--          standing}; standing: 0 held, 1 evicted, 2 superseded
local key, channel, user = KEYS[1], ARGV[8], ARGV[9]
local op = ARGV[2]
local evictOldest = ARGV[3] == '0'
local soft, silence, evictedFor, idle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST, FIELDS = 10, 7
local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local VERSION = 1
local HELD, EVICTED, SUPERSEDED = 0, 1, 2
local MOST_MEMBERS, GRACE, TICK, JITTER = 512, 1000, 1000, 1000
local PLAYING_ROUNDS, ZAPPING = 4, 600000
local expiry = 2 * math.max(idle, evictedFor)
local all = redis.call('HGETALL', key)

-- Most users watch one stream, and most calls hold it: nobody loses or gets anything by them. It is what the rest comes to
-- for them, at half its cost.
if op == 'hold' and #all == 2 and #ARGV == FIRST + FIELDS - 1 and all[1] == ARGV[FIRST] then
  local p = cmsgpack.unpack(all[2])
  local before = p[1] == VERSION and p[6] == HELD and math.min(p[3], now)
  if before and now - before < idle then
    local opened, seen = tonumber(ARGV[FIRST + 1]), now - tonumber(ARGV[FIRST + 2])
    local counted = math.min(p[5], now)
    if counted == 0 and ARGV[FIRST + 3] == '1' then
      counted = now
    end
    local beat, max, device, address = math.min(p[4], now), p[10], p[11], p[12]
    if seen + JITTER >= before then
      beat, max, device, address = now, tonumber(ARGV[FIRST + 4]), ARGV[FIRST + 5], ARGV[FIRST + 6]
    end
    redis.call('HSET', key, all[1], cmsgpack.pack({
      VERSION, math.max(p[2], opened), math.max(before, seen), beat, counted, HELD, 0, 0, 0, max, device, address,
    }))
    redis.call('PEXPIRE', key, expiry)
    return {0, HELD}
  end
end

local members, size, over, cut = {}, 0, 0, {}
local overBefore = 0
local dropped = {}
local foreign = {}

local function set(m, field, value)
  if m[field] ~= value then
    m[field], m.dirty = value, true
  end
end

local function drop(m)
  members[m.id], size = nil, size - 1
  dropped[#dropped + 1] = m.id
end

-- read passes over entries of a version that is unknown here.
local function read()
  for i = 1, #all, 2 do
    local field = all[i]
    if field == 'over' then
      over = tonumber(all[i + 1])
    else
      local p = cmsgpack.unpack(all[i + 1])
      if p[1] == VERSION then
        members[field] = {
          id = field, opened = p[2], seen = p[3], beat = p[4], counted = p[5], standing = p[6], excess = p[7],
          mark = p[8], rounds = p[9], max = p[10], device = p[11], address = p[12],
        }
        size = size + 1
      else
        foreign[field] = true
      end
    end
  end
  overBefore = over
end

local function write()
  if #dropped > 0 then
    redis.call('HDEL', key, unpack(dropped))
  end
  local changed = {}
  for field, m in pairs(members) do
    if m.dirty then
      changed[#changed + 1] = field
      changed[#changed + 1] = cmsgpack.pack({
        VERSION, m.opened, m.seen, m.beat, m.counted, m.standing, m.excess, m.mark, m.rounds, m.max, m.device, m.address,
      })
    end
  end
  if over ~= overBefore and over > 0 then
    changed[#changed + 1] = 'over'
    changed[#changed + 1] = string.format('%.0f', over)
  end
  if #changed > 0 then
    redis.call('HSET', key, unpack(changed))
  end
  if over == 0 and overBefore > 0 then
    redis.call('HDEL', key, 'over')
  end
  redis.call('PEXPIRE', key, expiry)
end

local function playing(m)
  return m.standing == HELD and m.counted > 0
end

local function silent(m)
  return m.beat - m.seen > silence
end

local function companion(m, o)
  if m.device ~= '' and o.device ~= '' then
    return m.device == o.device
  end
  return m.address ~= '' and m.address == o.address
end

local function usedBefore(m, o)
  if m.seen ~= o.seen then
    return m.seen < o.seen
  end
  return m.id < o.id
end

local function outranks(m, o)
  if m.opened == o.opened then
    return m.id < o.id
  end
  if evictOldest then
    return m.opened > o.opened
  end
  return m.opened < o.opened
end

local function within(m)
  set(m, 'excess', 0)
  set(m, 'mark', 0)
  set(m, 'rounds', 0)
end

local function lose(m, standing)
  set(m, 'standing', standing)
  within(m)
  cut[#cut + 1] = m
end

local function ranked()
  local all, most = {}, 0
  for _, m in pairs(members) do
    if m.standing == HELD then
      if most == 0 or m.max < most then
        most = m.max
      end
      if m.counted > 0 then
        all[#all + 1] = m
      end
    end
  end
  if #all > most then
    table.sort(all, outranks)
  end
  return all, most
end

local function rank()
  local all, most = ranked()
  if #all <= most then
    over = 0
    for _, m in ipairs(all) do
      within(m)
    end
    return
  end
  if over == 0 then
    over = now
  end
  for i, m in ipairs(all) do
    if i <= most then
      within(m)
    elseif m.excess == 0 then
      set(m, 'excess', now)
      set(m, 'mark', now)
      set(m, 'rounds', 0)
    end
  end
end

local function refresh()
  over = math.min(over, now)
  local gone = {}
  for _, m in pairs(members) do
    for _, field in ipairs({'seen', 'beat', 'counted', 'excess', 'mark'}) do
      if m[field] > now then
        set(m, field, now)
      end
    end
    local patience = idle
    if m.standing == EVICTED then
      patience = evictedFor
    end
    if now - m.seen >= patience then
      gone[#gone + 1] = m
    end
  end
  for _, m in ipairs(gone) do
    drop(m)
  end
  rank()
end

local function worth(m)
  if m.standing == SUPERSEDED then
    return 0
  elseif m.standing == EVICTED then
    return 1
  elseif m.counted == 0 then
    return 2
  elseif m.excess > 0 then
    return 3
  end
  return 4
end

local function makeRoom()
  if size < MOST_MEMBERS then
    return
  end
  local least
  for _, m in pairs(members) do
    if not least or worth(m) < worth(least) or worth(m) == worth(least) and usedBefore(m, least) then
      least = m
    end
  end
  drop(least)
end

local function opensAfter(m, o)
  return m.opened > o.opened or m.opened == o.opened and op == 'join'
end

local function begin(c)
  local m = {
    id = c.id, opened = c.opened, seen = now - c.age, beat = now, counted = 0, standing = HELD, excess = 0, mark = 0,
    rounds = 0, max = c.max, device = c.device, address = c.address, dirty = true,
  }
  if c.counted then
    m.counted = now
  end
  members[c.id] = m
  return m
end

local function touch(m, c)
  local seen = now - c.age
  if seen + JITTER >= m.seen then
    set(m, 'beat', now)
    set(m, 'max', c.max)
    set(m, 'device', c.device)
    set(m, 'address', c.address)
  end
  set(m, 'seen', math.max(m.seen, seen))
  set(m, 'opened', math.max(m.opened, c.opened))
  if c.counted and m.counted == 0 then
    set(m, 'counted', now)
  end
end

local function supersedeDevice(m)
  for _, o in pairs(members) do
    if o ~= m and o.standing == HELD and o.device == m.device then
      if not opensAfter(m, o) then
        lose(m, SUPERSEDED)
        return
      end
      lose(o, SUPERSEDED)
    end
  end
end

local function readmit(m)
  local count, most, left = 0, m.max, nil
  for _, o in pairs(members) do
    if o.standing == HELD then
      most = math.min(most, o.max)
      local sameDevice = m.device ~= '' and o.device == m.device
      local away = companion(m, o) and usedBefore(o, m) and silent(o)
      if sameDevice and not away and not opensAfter(m, o) then
        return
      end
      if playing(o) then
        count = count + 1
        if (away or sameDevice) and (not left or usedBefore(o, left)) then
          left = o
        end
      end
    end
  end
  if count > most or count == most and not left then
    return
  end
  if count == most then
    lose(left, SUPERSEDED)
  end
  set(m, 'standing', HELD)
  set(m, 'counted', now)
  within(m)
end

-- session is what is said of one, from its first argument on.
local function session(i)
  return {
    id = ARGV[i], opened = tonumber(ARGV[i + 1]), age = tonumber(ARGV[i + 2]), counted = ARGV[i + 3] == '1',
    max = tonumber(ARGV[i + 4]), device = ARGV[i + 5], address = ARGV[i + 6],
  }
end

local function admit(c)
  if foreign[c.id] then
    return nil
  end
  local m = members[c.id]
  if not m then
    if c.age >= idle then
      return nil
    end
    makeRoom()
    size = size + 1
    m = begin(c)
  elseif m.standing == SUPERSEDED and c.opened > m.opened then
    m = begin(c)
  else
    touch(m, c)
  end
  if m.standing == EVICTED then
    readmit(m)
  end
  if m.standing == HELD and m.device ~= '' then
    supersedeDevice(m)
  end
  return m
end

local function add(groups, name, m)
  local g = groups[name]
  if not g then
    g = {latest = m, size = 0}
    groups[name] = g
  end
  g.size = g.size + 1
  if usedBefore(g.latest, m) then
    g.latest = m
  end
end

local function crowdOf(all)
  local c = {device = {}, address = {}, bare = {}}
  for _, m in ipairs(all) do
    if m.device ~= '' then
      add(c.device, m.device, m)
    end
    if m.address ~= '' then
      add(c.address, m.address, m)
      if m.device == '' then
        add(c.bare, m.address, m)
      end
    end
  end
  return c
end

local function around(c, m)
  if m.device == '' then
    return c.address[m.address], nil
  end
  return c.device[m.device], c.bare[m.address]
end

local function followed(c, m)
  local g, h = around(c, m)
  return g and usedBefore(m, g.latest) or h and usedBefore(m, h.latest)
end

local function accompanied(c, m)
  local g, h = around(c, m)
  return (g and g.size or 0) + (h and h.size or 0) > 1
end

local function supersedeSilent()
  local all, most = ranked()
  local c = crowdOf(all)
  table.sort(all, usedBefore)
  local exceeding = #all - most
  for _, m in ipairs(all) do
    if exceeding > 0 and silent(m) and followed(c, m) then
      lose(m, SUPERSEDED)
      exceeding = exceeding - 1
    end
  end
end

local function due(m, doubtful)
  local finish = m.excess + soft
  local asks = now >= finish and m.seen >= finish
  if #doubtful == 0 then
    return asks
  end
  local first, last = m.seen, m.seen
  for _, d in ipairs(doubtful) do
    if d.counted >= m.mark then
      set(m, 'mark', now)
      set(m, 'rounds', 0)
    end
    first, last = math.min(first, d.seen), math.max(last, d.seen)
  end
  local watched = m.rounds >= PLAYING_ROUNDS - 1 and first > math.max(m.mark, finish)
  if asks and (now - m.excess >= ZAPPING or watched) then
    return true
  end
  if first > m.mark then
    set(m, 'mark', last)
    set(m, 'rounds', m.rounds + 1)
  end
  return false
end

local function settle()
  local doubtful = {}
  if over == 0 then
    return doubtful
  end
  if now - over >= GRACE then
    supersedeSilent()
    rank()
    if over == 0 then
      return doubtful
    end
  end
  local all, most = ranked()
  local c = crowdOf(all)
  for i = 1, most do
    if accompanied(c, all[i]) then
      doubtful[#doubtful + 1] = all[i]
    end
  end
  for i = most + 1, #all do
    if due(all[i], doubtful) then
      lose(all[i], EVICTED)
    end
  end
  rank()
  return doubtful
end

local function again(m, doubtful)
  if over == 0 or not playing(m) then
    return 0
  end
  if #doubtful > 0 then
    return TICK
  elseif m.excess == 0 then
    return 0
  end
  local wait = m.excess + soft - now
  if wait > 0 then
    return wait
  end
  return TICK
end

read()
refresh()
if op == 'leave' then
  local m = members[ARGV[FIRST]]
  if m and m.standing == HELD then
    drop(m)
    rank()
  end
  write()
  return
end

local was = over
local asked, count = {}, 0
for i = FIRST, #ARGV, FIELDS do
  count = count + 1
  asked[count] = admit(session(i)) or false
end
rank()
local doubtful = settle()
write()
if was == 0 and over > 0 then
  redis.call('PUBLISH', channel, user)
end
local said = {0}
for i = 1, count do
  local m = asked[i]
  said[i + 1] = m and m.standing or HELD
  local soon = m and again(m, doubtful) or 0
  if soon > 0 and (said[1] == 0 or soon < said[1]) then
    said[1] = soon
  end
end
for _, o in ipairs(cut) do
  said[#said + 1] = o.id
  said[#said + 1] = o.opened
  said[#said + 1] = o.standing
end
return said
