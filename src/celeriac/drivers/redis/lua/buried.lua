-- ARGV: P, limit, id to go on behind ('' for none).  Returns (id, burial) each, the oldest first.
local from = 0
if ARGV[3] ~= '' then
  from = (redis.call('ZRANK', P .. 'x', ARGV[3]) or -1) + 1
end
local found = {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'x', from, from + tonumber(ARGV[2]) - 1)) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', P .. 'xm', id) or ''
end
return found
