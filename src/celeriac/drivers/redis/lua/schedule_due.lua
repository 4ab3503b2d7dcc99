-- ARGV: P, scope, now, limit, owner ('' claims nothing), lease in seconds.
-- Returns (name, its eight fields) each, by time.
local E, found = P .. 'e:' .. ARGV[2] .. ':', {}
local limit, owner, clock = tonumber(ARGV[4]), ARGV[5], tonumber(seconds())
local from, taken = 0, 0
while taken < limit do
  local names = redis.call('ZRANGEBYSCORE', P .. 'ed:' .. ARGV[2], '-inf', ARGV[3], 'LIMIT', from, limit)
  if #names == 0 then
    break
  end
  from = from + #names
  for _, name in ipairs(names) do
    local key = E .. name
    local free = taken < limit
    if free and owner ~= '' then
      local holder, ends = unpack(redis.call('HMGET', key, 'owner', 'until'))
      free = not holder or holder == owner or tonumber(ends) <= clock
      if free then
        redis.call('HSET', key, 'owner', owner, 'until', string.format('%.6f', clock + tonumber(ARGV[6])))
        if holder and holder ~= owner then
          redis.call('HINCRBY', key, 'claims', 1)
        end
      end
    end
    if free then
      taken = taken + 1
      local row = redis.call('HMGET', key, 'spec', 'at', 'code', 'paused', 'last', 'runs', 'v', 'claims')
      found[#found + 1] = name
      for n = 1, 8 do
        found[#found + 1] = row[n] or ''
      end
    end
  end
end
return found
