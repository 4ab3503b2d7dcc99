-- ARGV: P, ids...  Returns those that waited and do no longer, each with its value.
local found = {}
local holders = redis.call('ZRANGE', P .. 'l', 0, -1)

local function is_held(id)
  for _, holder in ipairs(holders) do
    if redis.call('HEXISTS', P .. 'h:' .. holder, id) == 1 then
      return true
    end
  end
end

for i = 2, #ARGV do
  local id = ARGV[i]
  local value = redis.call('HGET', M, id)
  if value and not is_tombstone(value) then
    local lane = lane_of(value)
    local queue = queue_of(lane)
    if
      redis.call('ZREM', P .. 'd:' .. queue, string.sub(lane, 1, 1) .. id) == 1
      or redis.call('ZREM', P .. 's:' .. queue, id) == 1
    then
      redis.call('HDEL', M, id)
      redis.call('HDEL', P .. 'n', id)
      found[#found + 1] = id
      found[#found + 1] = value
    elseif not is_held(id) then
      -- To look for it in the list would take as long as the list is.
      redis.call('HSET', M, id, 't' .. lane)
      redis.call('HINCRBY', P .. 'z', lane, 1)
      found[#found + 1] = id
      found[#found + 1] = value
    end
  end
end
return found
