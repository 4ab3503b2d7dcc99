-- ARGV: P, queue, limit, id to go on behind ('' for none).  Returns values with their ids.
local queue, limit, after = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local found = {}
local skipping = after ~= ''

local function look(id)
  if skipping then
    skipping = id ~= after
  elseif #found < 2 * limit then
    local value = redis.call('HGET', M, id)
    if value and not is_tombstone(value) then
      found[#found + 1] = id
      found[#found + 1] = value
    end
  end
end

local function walk(command, key, first_character)
  local from = 0
  if skipping and command == 'LRANGE' then
    local at = redis.call('LPOS', key, after)
    if not at then
      return
    end
    from = at
  end
  while #found < 2 * limit do
    local ids = redis.call(command, key, from, from + 499)
    for _, id in ipairs(ids) do
      look(string.sub(id, first_character))
    end
    from = from + 500
    if #ids < 500 then
      return
    end
  end
end

walk('ZRANGE', P .. 's:' .. queue, 1)
for priority = 9, 0, -1 do
  walk('LRANGE', P .. 'r:' .. priority .. ':' .. queue, 1)
end
walk('ZRANGE', P .. 'd:' .. queue, 2)
return found
