-- Task states, kept as Celery keeps them: the encoded meta under celery-task-meta-<id>, published on
-- the channel of that name.  What it does not say itself (the fence of a state that is not final, or
-- the state of a body that is no JSON) is kept beside it, as "attempt handed_out expires +state".

local FINAL = {}
for state in string.gmatch('@FINAL@', '%S+') do
  FINAL[state] = true
end

local function beside(id)
  return P .. 'f:' .. id
end

-- Returns state, attempt and handed_out of what is stored.
local function known(id, value)
  local note = redis.call('GET', beside(id))
  if note then
    local attempt, handed, state = string.match(note, '^(%d+) (%d+) %S+ %S (.*)$')
    return state, tonumber(attempt), tonumber(handed)
  end
  return string.match(value, '^{"status": ?"([^"]+)"'), 0, 1
end

local function keep(key, value, expires)
  if expires == '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PXAT', expires)
  end
end

-- `at` is where in ARGV stand: key, id, state, attempt, handed_out, expires (ms), note, body.
-- An empty note: the body says it all.
local function record(at)
  local key, id, state = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local expires, note, body = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local fresh
  if expires == '' then
    fresh = redis.call('SET', key, body, 'NX')
  else
    fresh = redis.call('SET', key, body, 'NX', 'PXAT', expires)
  end
  if not fresh then
    local stored = redis.pcall('GET', key)
    if type(stored) == 'string' then
      local old, attempt, handed = known(id, stored)
      local own, own_handed = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
      if FINAL[old] or own < attempt or (own == attempt and own_handed < handed) then
        return
      end
    end
    -- Where something stands there that is no result: as Celery does, and no script ends half way.
    keep(key, body, expires)
    if note == '' then
      redis.call('DEL', beside(id))
    end
  end
  if note ~= '' then
    keep(beside(id), note, expires)
  end
  redis.call('PUBLISH', key, body)
end

-- Fill a slot once; `at` is where in ARGV stand: group, index, ok ('1' or '0'), packed record.
local function fill(at)
  local group = P .. 'g:' .. ARGV[at]
  if redis.call('EXISTS', group) == 0 then
    return
  end
  local slots = P .. 'p:' .. ARGV[at]
  if redis.call('HSETNX', slots, ARGV[at + 1], ARGV[at + 3]) == 1 then
    if ARGV[at + 2] == '0' then
      redis.call('HSET', group, 'failed', 1)
    end
    if redis.call('HLEN', slots) == 1 then
      local expires = redis.call('HGET', group, 'expires')
      if expires ~= '' then
        redis.call('PEXPIREAT', slots, expires)
      end
    end
  end
end

-- The follow-up of a complete group that is not marked sent, packed; nil otherwise.
local function ready(group)
  local key = P .. 'g:' .. group
  local size, sent, failed = unpack(redis.call('HMGET', key, 'size', 'sent', 'failed'))
  if size and not sent and redis.call('HLEN', P .. 'p:' .. group) >= tonumber(size) then
    return redis.call('HGET', key, failed and 'error' or 'body')
  end
end

-- Send the follow-ups of those of these groups that are complete.
local function send_ready(groups)
  for group in pairs(groups) do
    local packed = ready(group)
    if packed then
      local lane = lane_of(string.sub(packed, 3 + string.byte(packed, 1) * 256 + string.byte(packed, 2)))
      local size = string.byte(packed, 1) * 256 + string.byte(packed, 2)
      local due = struct.unpack('>d', string.sub(packed, size + 6, size + 13))
      redis.call('HSET', P .. 'g:' .. group, 'sent', 1)
      local first = #ARGV + 1
      ARGV[first] = string.sub(packed, 3, 2 + size)
      ARGV[first + 1] = lane
      ARGV[first + 2] = due > 0 and string.format('%.6f', due) or ''
      ARGV[first + 3] = string.sub(packed, size + 3)
      put(first, 1)
    end
  end
end
