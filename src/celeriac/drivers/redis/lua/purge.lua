-- ARGV: P, queue, most.  Returns how many messages went; fewer than `most`: no more are there.
local queue, left = ARGV[2], tonumber(ARGV[3])
local gone, met = 0, 0

local function forget(ids)
  met = met + #ids
  for _, id in ipairs(ids) do
    local value = redis.call('HGET', M, id)
    if value and is_tombstone(value) then
      bury_tombstone(id, value)
    elseif value then
      redis.call('HDEL', M, id)
      redis.call('HDEL', P .. 'n', id)
      gone = gone + 1
    end
  end
end

for priority = 9, 0, -1 do
  if met < left then
    forget(redis.call('LPOP', P .. 'r:' .. priority .. ':' .. queue, left - met) or {})
  end
end
for _, kind in ipairs({ 's:', 'd:' }) do
  if met < left then
    local popped = redis.call('ZPOPMIN', P .. kind .. queue, left - met)
    local ids = {}
    for n = 1, #popped, 2 do
      ids[#ids + 1] = kind == 'd:' and string.sub(popped[n], 2) or popped[n]
    end
    forget(ids)
  end
end
redis.call('DEL', P .. 'w:' .. queue)
return { gone, met }
