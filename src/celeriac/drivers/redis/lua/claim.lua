-- ARGV: P, holder, token, limit, suspects, lease (ms), queues...
-- Returns the seconds until the next is due ('' where none: told by the server's clock, which may not
-- be the worker's), then (id, value, losses) each.
local holder, token = ARGV[2], ARGV[3]
local limit, suspects, lease = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = seconds()
local found, marks, alone = { '' }, {}, {}

local function take(id, value, losses, queue)
  found[#found + 1] = id
  found[#found + 1] = value
  found[#found + 1] = losses
  marks[#marks + 1] = id
  marks[#marks + 1] = token .. queue
  limit = limit - 1
end

for i = 7, #ARGV do
  promote(ARGV[i], now, 500)
end

-- First, or they would wait behind any backlog for ever.
for i = 7, #ARGV do
  local most = math.min(limit, suspects)
  if most > 0 then
    local popped = redis.call('ZPOPMIN', P .. 's:' .. ARGV[i], most)
    for n = 1, #popped, 2 do
      local value = redis.call('HGET', M, popped[n])
      if value and not is_tombstone(value) then
        suspects, alone[i] = suspects - 1, true
        take(popped[n], value, redis.call('HGET', P .. 'n', popped[n]) or '0', ARGV[i])
      end
    end
  end
end

for priority = 9, 0, -1 do
  for i = 7, #ARGV do
    local key = P .. 'r:' .. priority .. ':' .. ARGV[i]
    while limit > 0 do
      local asked = math.min(limit, 1000)
      local ids = redis.call('LPOP', key, asked)
      if not ids then
        break
      end
      local values = redis.call('HMGET', M, unpack(ids))
      for n, id in ipairs(ids) do
        local value = values[n]
        if value then
          if is_tombstone(value) then
            bury_tombstone(id, value)
          else
            take(id, value, '0', ARGV[i])
          end
        end
      end
      if #ids < asked then
        break
      end
    end
  end
  if limit == 0 then
    break
  end
end

for first = 1, #marks, 2000 do
  redis.call('HSET', P .. 'h:' .. holder, unpack(marks, first, math.min(first + 1999, #marks)))
end
if #marks > 0 then
  redis.call('ZADD', P .. 'l', 'GT', math.floor(tonumber(now) * 1000) + lease, holder)
end

if limit == 0 then
  -- There may be more than this worker took: others may help.
  for i = 7, #ARGV do
    ring(ARGV[i], 1)
  end
else
  for i = 7, #ARGV do
    redis.call('DEL', P .. 'w:' .. ARGV[i])
    if alone[i] then
      -- The others that have lost a worker are for other workers.
      ring(ARGV[i], redis.call('ZCARD', P .. 's:' .. ARGV[i]))
    end
    local head = redis.call('ZRANGE', P .. 'd:' .. ARGV[i], 0, 0, 'WITHSCORES')
    if head[2] and (found[1] == '' or tonumber(head[2]) < tonumber(found[1])) then
      found[1] = head[2]
    end
  end
end
if found[1] ~= '' then
  found[1] = string.format('%.6f', tonumber(found[1]) - tonumber(now))
end
return found
