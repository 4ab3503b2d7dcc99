-- ARGV: P, holder, unacked, index, token, '1' to return what this token took already, limit,
-- suspects, lease (ms), count of lists, then for each queue: name, tail, key of its binding, lists...
-- Returns the seconds until the next is due ('' where none), how many went into quarantine, a string of
-- '1' for each queue that Celery knows and '0' for the others, the server's time, then (tag, losses,
-- queue, message) each.
local token, limit, suspects = ARGV[5], tonumber(ARGV[7]), tonumber(ARGV[8])
local lists = tonumber(ARGV[10])
local now = seconds()
local until_ms = math.floor(tonumber(now) * 1000) + tonumber(ARGV[9])
local found, known, taken, broken = { '', 0, '', now }, {}, 0, 0

local function hand_out(tag, losses, queue, raw)
  found[#found + 1] = tag
  found[#found + 1] = losses
  found[#found + 1] = queue
  found[#found + 1] = raw
end

if ARGV[6] == '1' then
  local marks = redis.call('HGETALL', H)
  for n = 1, #marks, 2 do
    if string.sub(marks[n], 1, #token) == token then
      local _, stop, losses, size, name = string.find(marks[n + 1], '^(%d+) (%d+) (%d+) ')
      local entry = redis.call('HGET', UNACKED, marks[n])
      if entry then
        local queue = string.sub(marks[n + 1], stop + 1, stop + tonumber(name))
        hand_out(marks[n], losses, queue, string.sub(entry, 2, 1 + tonumber(size)))
      end
    end
  end
  return found
end

for _, key in ipairs({ UNACKED, INDEX }) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= (key == INDEX and 'zset' or 'hash') then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. kind .. ': Celery keeps other things there')
  end
end

local function take(raw, losses, queue, list, tail)
  taken = taken + 1
  local tag = token .. '-' .. taken
  hold(tag, raw, losses, queue, list, tail, until_ms)
  hand_out(tag, losses, queue, raw)
  limit = limit - 1
end

local step = 3 + lists
for i = 11, #ARGV, step do
  promote_celery(ARGV[i], now, 100)
end

for i = 11, #ARGV, step do
  local most = math.min(limit, suspects)
  if most > 0 then
    local popped = redis.call('ZPOPMIN', P .. 'cs:' .. ARGV[i], most)
    for n = 1, #popped, 2 do
      local value = redis.call('HGET', P .. 'cm', popped[n])
      redis.call('HDEL', P .. 'cm', popped[n])
      if value then
        local losses, list, raw = open_aside(value)
        suspects = suspects - 1
        take(raw, losses, ARGV[i], list, ARGV[i + 1])
      end
    end
    if #popped > 0 then
      -- The others that have lost a worker are for other workers.
      ring(ARGV[i], redis.call('ZCARD', P .. 'cs:' .. ARGV[i]))
    end
  end
end

for urgency = 0, lists - 1 do
  for i = 11, #ARGV, step do
    local list = ARGV[i + 3 + urgency]
    local some = limit > 0 and redis.pcall('RPOP', list, limit)
    if some and not some.err then
      known[i] = true
      for _, raw in ipairs(some) do
        if string.find(raw, '^%s*{') and string.find(raw, '}%s*$') then
          take(raw, 0, ARGV[i], list, ARGV[i + 1])
        else
          -- Celery could not put it back: it would stop at it.
          redis.call('LPUSH', P .. 'quarantine:' .. ARGV[i], raw)
          broken = broken + 1
        end
      end
    end
  end
end

if taken > 0 then
  redis.call('ZADD', P .. 'cl', until_ms, ARGV[2])
end
found[2] = broken
for i = 11, #ARGV, step do
  local head = redis.call('ZRANGE', P .. 'cd:' .. ARGV[i], 0, 0, 'WITHSCORES')
  if head[2] and (found[1] == '' or tonumber(head[2]) < tonumber(found[1])) then
    found[1] = head[2]
  end
  local is_known = known[i] or redis.call('EXISTS', ARGV[i + 2]) == 1
  found[3] = found[3] .. (is_known and '1' or '0')
end
if found[1] ~= '' then
  found[1] = string.format('%.6f', tonumber(found[1]) - tonumber(now))
end
return found
