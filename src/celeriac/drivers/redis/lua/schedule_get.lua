-- ARGV: P, scope, then names; all where there are none.  Returns (name, its nine fields) each.
local found = {}
local names = { unpack(ARGV, 4) }
if ARGV[3] == 'all' then
  names = redis.call('SMEMBERS', P .. 'en:' .. ARGV[2])
end
for _, name in ipairs(names) do
  local row = redis.call('HMGET', P .. 'e:' .. ARGV[2] .. ':' .. name,
    'spec', 'at', 'code', 'paused', 'last', 'runs', 'v', 'claims')
  if row[1] then
    found[#found + 1] = name
    for n = 1, 8 do
      found[#found + 1] = row[n] or ''
    end
  end
end
return found
