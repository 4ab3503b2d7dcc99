-- ARGV: P, queues...  Returns (ready, delayed, oldest's `at` as 8 bytes or '') for each, and last a
-- flat list of (queue, held).
local counts = {}
for i = 2, #ARGV do
  local queue, ready, oldest = ARGV[i], 0, ''
  for priority = 0, 9 do
    local lane = priority .. ':' .. queue
    local size = redis.call('LLEN', P .. 'r:' .. lane)
    if size > 0 then
      ready = ready + size - tonumber(redis.call('HGET', P .. 'z', lane) or 0)
      for _, id in ipairs(redis.call('LRANGE', P .. 'r:' .. lane, 0, 9)) do
        local value = redis.call('HGET', M, id)
        if value and not is_tombstone(value) then
          local at = string.sub(value, 20, 27)
          if oldest == '' or at < oldest then
            oldest = at
          end
          break
        end
      end
    end
  end
  local suspects = redis.call('ZRANGE', P .. 's:' .. queue, 0, 0)
  if suspects[1] then
    ready = ready + redis.call('ZCARD', P .. 's:' .. queue)
    local value = redis.call('HGET', M, suspects[1])
    local at = value and string.sub(value, 20, 27)
    if at and (oldest == '' or at < oldest) then
      oldest = at
    end
  end
  counts[#counts + 1] = ready
  counts[#counts + 1] = redis.call('ZCARD', P .. 'd:' .. queue)
  counts[#counts + 1] = oldest
end
local held, flat = {}, {}
for _, holder in ipairs(redis.call('ZRANGE', P .. 'l', 0, -1)) do
  for _, mark in ipairs(redis.call('HVALS', P .. 'h:' .. holder)) do
    local queue = string.sub(mark, 17)
    held[queue] = (held[queue] or 0) + 1
  end
end
for queue, count in pairs(held) do
  flat[#flat + 1] = queue
  flat[#flat + 1] = count
end
counts[#counts + 1] = flat
return counts
