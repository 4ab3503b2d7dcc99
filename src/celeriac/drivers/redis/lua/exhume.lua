-- ARGV: P, '1' to put them back into their queues or '0' to drop them, ids...  Returns which.
local found = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local burial = redis.call('HGET', P .. 'xm', id)
  if burial then
    redis.call('HDEL', P .. 'xm', id)
    redis.call('ZREM', P .. 'x', id)
    found[#found + 1] = id
    if ARGV[2] == '1' then
      local size = string.byte(burial, 13) * 256 + string.byte(burial, 14)
      local value = string.sub(burial, 15 + size)
      local first = #ARGV + 1
      local due = struct.unpack('>d', string.sub(value, 4, 11))
      ARGV[first], ARGV[first + 1] = id, lane_of(value)
      ARGV[first + 2] = due > 0 and string.format('%.6f', due) or ''
      ARGV[first + 3] = value
      put(first, 1)
    end
  end
end
if redis.call('EXISTS', P .. 'x') == 0 then
  redis.call('DEL', P .. 'xs')
end
return found
